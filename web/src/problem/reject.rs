//! Words for what the cluster refused. Apply knows ids; people get names.

use super::{Names, short, vms};
use crate::suggest;
use waifud_api::problem::{Problem, ProblemCode};
use waifud_model::{
    name::BridgeName,
    reject::{Reject, Resource},
    size::ByteSize,
};

/// Words for a reject.
pub(super) fn words(reject: &Reject, names: &Names) -> Problem {
    match reject {
        Reject::AlreadyInitialised => Problem::new(ProblemCode::InUse, "the cluster is already initialised"),
        Reject::NotInitialised => Problem::new(ProblemCode::NotInitialised, "the cluster is not initialised")
            .with_remedy("waifud init, or waifud join TOKEN"),
        Reject::UnknownActor => Problem::new(ProblemCode::Unauthenticated, "the token is unknown, expired or revoked")
            .with_remedy("waifuctl token create makes a new one"),
        Reject::NotAllowed { needed } => Problem::new(ProblemCode::NotAllowed, format!("this needs the role {needed}"))
            .with_remedy(format!("use a token of role {needed}: waifuctl token create --role {needed}")),
        Reject::VmsOnly => {
            let detail = "the token is for some VMs only, and this is about more than those";
            Problem::new(ProblemCode::NotAllowed, detail).with_remedy("use a token without a scope")
        }
        Reject::OutsideScope { scope } => {
            let why = format!("the token is for VMs with {scope} only");
            Problem::new(ProblemCode::NotAllowed, format!("labels: {why}"))
                .with_field("labels", why)
                .with_remedy(format!("give the VM what is missing of {scope}, or use a token without a scope"))
        }
        Reject::NotYours(node) => Problem::new(
            ProblemCode::NotAllowed,
            format!("node {} may speak for itself and its own VMs only", names.node(*node)),
        ),
        Reject::NodesOnly => Problem::new(ProblemCode::NotAllowed, "only a node does this, on its own account"),
        Reject::KeyReused => Problem::new(
            ProblemCode::KeyReused,
            "the Idempotency-Key was used for another request within the last 24 hours",
        )
        .with_remedy("send a fresh key with each new request"),
        Reject::NoSuchNode(id) => {
            Problem::new(ProblemCode::NoSuchNode, format!("node {} is no longer in the cluster", names.node(*id)))
                .with_remedy("waifuctl node list")
        }
        Reject::NodeNameTaken { name, .. } => {
            Problem::new(ProblemCode::NameTaken, format!("there is a node \"{name}\" already"))
                .with_remedy("choose another name")
        }
        Reject::NodeTaken { what, holder } => Problem::new(
            ProblemCode::NameTaken,
            format!("the new node's {what} belongs to node {}", names.node(*holder)),
        ),
        Reject::NodeHasVms { node, count } => {
            let node = names.node(*node);
            Problem::new(ProblemCode::InUse, format!("node {node} has {}, which would be lost with it", vms(*count)))
                .with_remedy(format!(
                    "delete them (waifuctl list --node {node}), or waifuctl node remove {node} --force"
                ))
        }
        Reject::LastNode => Problem::new(ProblemCode::LastNode, "this is the last node, and it holds the whole state")
            .with_remedy("to give up the cluster, stop waifud and remove its data directory"),
        Reject::Cordoned(node) => {
            let node = names.node(*node);
            Problem::new(ProblemCode::NoNodeFits, format!("node {node} is cordoned: it takes no new VMs"))
                .with_remedy(format!("waifuctl node uncordon {node}, or choose another node"))
        }
        Reject::BadJoinToken { id, why } => Problem::new(ProblemCode::NotAllowed, format!("join token {id} is {why}"))
            .with_remedy("waifuctl cluster token create makes a new one"),
        Reject::NoSuchToken(id) => Problem::new(ProblemCode::NoSuchToken, format!("no token {id}"))
            .with_remedy("waifuctl token list, or waifuctl cluster token list"),
        Reject::IdTaken(id) => {
            Problem::new(ProblemCode::NameTaken, format!("the id {id} is taken")).with_remedy("send the request again")
        }
        Reject::Constraint(_) => {
            Problem::new(ProblemCode::Internal, "the cluster's database refused the change, and nothing was changed")
        }
        Reject::BadFeatureLevel { wanted, current } => {
            Problem::new(ProblemCode::Invalid, format!("the feature level is {current}, and {wanted} cannot follow it"))
        }
        other => objects(other, names),
    }
}

/// Words for rejects about VMs and templates.
fn objects(reject: &Reject, names: &Names) -> Problem {
    match reject {
        Reject::NoSuchVm(id) => {
            Problem::new(ProblemCode::NoSuchVm, format!("VM {} is gone", names.vm(*id))).with_remedy("waifuctl list")
        }
        // Names are unique in the whole cluster, so that one is taken cannot be hidden from whoever may not know of its holder;
        // where that is, and that it could be deleted, is nothing to them.
        Reject::VmNameTaken { name, holder, .. } if !names.vms.contains_key(holder) => {
            Problem::new(ProblemCode::NameTaken, format!("there is a VM \"{name}\" already"))
                .with_remedy("choose another name")
        }
        Reject::VmNameTaken { name, node, .. } => {
            let node = names.node(*node);
            Problem::new(ProblemCode::NameTaken, format!("there is a VM \"{name}\" already, on {node}"))
                .with_remedy(format!("choose another name, or delete it first: waifuctl delete {name}"))
        }
        Reject::VmDeleting(id) => {
            let vm = names.vm(*id);
            Problem::new(ProblemCode::BeingDeleted, format!("VM {vm} is being deleted"))
                .with_remedy(format!("waifuctl show {vm} tells how far it is"))
        }
        Reject::Protected(id) => {
            let vm = names.vm(*id);
            Problem::new(ProblemCode::Protected, format!("VM {vm} is protected: neither it nor a disk of it goes away"))
                .with_remedy(format!("waifuctl unprotect {vm}, if it is to go"))
        }
        Reject::NotRunning(id) => {
            let vm = names.vm(*id);
            Problem::new(
                ProblemCode::NotRunning,
                format!("VM {vm} is not to run, so there is nothing to pause or reboot"),
            )
            .with_remedy(format!("waifuctl start {vm}"))
        }
        Reject::NoSuchBridge { node, bridge } => {
            let node = names.node(*node);
            let there: Vec<_> = names.bridges.iter().map(BridgeName::as_str).collect();
            let there = match (suggest::nearest(bridge.as_str(), &there), there.as_slice()) {
                (Some(near), _) => format!("did you mean {near}?"),
                (None, []) => "it lets them on none".to_owned(),
                (None, some) => format!("there are {}", some.join(", ")),
            };
            let why = format!("node {node} lets VMs on no bridge of the name {bridge}; {there}");
            Problem::new(ProblemCode::Invalid, format!("bridges: {why}")).with_field("bridges", why).with_remedy(
                format!(
                    "waifuctl node show {node} tells which there are; [network] bridges in its waifud.toml allows more"
                ),
            )
        }
        Reject::WrongFormat { template, wanted } => {
            let why = format!("template {template} is not {wanted}");
            Problem::new(ProblemCode::Invalid, format!("cd: {why}"))
                .with_field("cd", why)
                .with_remedy("waifuctl template list -o wide shows the format of each")
        }
        Reject::NotDeleting(id) => {
            Problem::new(ProblemCode::Invalid, format!("VM {} is not being deleted", names.vm(*id)))
        }
        Reject::Stale { vm, expected, actual } => {
            let vm = names.vm(*vm);
            Problem::new(
                ProblemCode::Stale,
                format!("VM {vm} was changed in between: it is at generation {actual}, and the request was made for {expected}"),
            )
            .with_remedy(format!("look at it again (waifuctl show {vm}), then send the change with its new ETag"))
        }
        Reject::StaleDefaults { expected, actual } => Problem::new(
            ProblemCode::Stale,
            format!(
                "the cluster's cloud-init defaults were changed in between: they are at generation {actual}, and the \
                 request was made for {expected}"
            ),
        )
        .with_remedy("look at them again, then send the change with their new ETag"),
        Reject::BadSpec { field, why } => {
            Problem::new(ProblemCode::Invalid, format!("{field}: {why}")).with_field(field.as_str(), why.as_str())
        }
        Reject::DoesNotFit { node, resource, wanted, free } => {
            let node_name = names.node(*node);
            let reason = format!(
                "{} of {resource} left to promise, {} wanted",
                amount(*resource, *free),
                amount(*resource, *wanted)
            );
            let problem = Problem::new(ProblemCode::NoNodeFits, format!("node {node_name} has {reason}"))
                .with_remedy("choose a smaller VM or another node; waifuctl node list shows what is promised");
            match names.nodes.get(node) {
                Some(name) => problem.with_node(name.clone(), reason),
                None => problem,
            }
        }
        Reject::NoAddress(node) => Problem::new(
            ProblemCode::Exhausted,
            format!("no address is left in the subnet of node {}", names.node(*node)),
        )
        .with_remedy("delete a VM there, or choose another node"),
        Reject::NoSubnet => {
            Problem::new(ProblemCode::Exhausted, "no subnet is left for another node in the cluster's CIDR")
        }
        Reject::NoSuchTemplate(name) => Problem::new(ProblemCode::NoSuchTemplate, format!("template {name} is gone"))
            .with_remedy("waifuctl template list"),
        Reject::NoSuchVersion { template, version } => Problem::new(
            ProblemCode::NoSuchVersion,
            format!("version {} of template {template} is gone", short(version)),
        )
        .with_remedy(format!("waifuctl template show {template}")),
        Reject::DiskTooSmall { wanted, least } => {
            let why = format!("the template's disk has {least}, and {wanted} is less");
            Problem::new(ProblemCode::Invalid, format!("disk: {why}"))
                .with_field("disk", why)
                .with_remedy(format!("give at least {least}, or leave it out"))
        }
        Reject::VersionExists { template, version } => Problem::new(
            ProblemCode::VersionExists,
            format!("template {template} has these bytes already, as version {}", short(version)),
        )
        .with_remedy(format!("nothing is to be done; waifuctl create -t {template}")),
        Reject::TemplateInUse { template, count } => {
            Problem::new(ProblemCode::InUse, format!("template {template} is in use by {}", vms(*count)))
                .with_remedy(format!("delete them first: waifuctl list template={template}"))
        }
        Reject::NoSuchPeer(_) | Reject::PeerTaken { .. } | Reject::NoPeerAddress => peers(reject),
        // The first table has the others; a reject that is in neither is told in apply's own words.
        other => Problem::new(ProblemCode::Invalid, other.to_string()),
    }
}

/// Words for rejects about machines that are no nodes.
fn peers(reject: &Reject) -> Problem {
    match reject {
        Reject::NoSuchPeer(name) => {
            Problem::new(ProblemCode::NoSuchPeer, format!("peer {name} is gone")).with_remedy("waifuctl net peer list")
        }
        Reject::PeerTaken { what, holder } => {
            let remedy = match what.as_str() {
                "name" => "choose another name; waifuctl net peer list shows those that are taken",
                _ => "make a key for this machine alone: wg genkey",
            };
            Problem::new(ProblemCode::NameTaken, format!("the {what} of the new peer belongs to {holder}"))
                .with_remedy(remedy)
        }
        _ => Problem::new(ProblemCode::Exhausted, "no address is left for another peer")
            .with_remedy("delete one that is not used any more: waifuctl net peer list"),
    }
}

fn amount(resource: Resource, n: u64) -> String {
    match resource {
        Resource::Cpus => n.to_string(),
        Resource::Memory | Resource::Disk => ByteSize::bytes(n).to_string(),
    }
}

//! Members: coming, changing, leaving.

use super::{
    super::{events::Changes, read::ReadError, rows, stop::Stop, view::View},
    Work, limits, net_peers,
};
use ipnet::Ipv4Net;
use std::{collections::BTreeSet, net::SocketAddr};
use waifud_model::{
    command::{AddNode, NewNode, Reply},
    digest::Fingerprint,
    event::{EventKind, Subject},
    ids::{NodeId, TokenId},
    labels::{LabelPatch, Labels},
    mesh::MeshEnd,
    name::BridgeName,
    network,
    node::{Capacity, Node},
    reject::Reject,
    token::Role,
    vm::Vm,
};

fn subject(node: &Node) -> Subject {
    Subject::Node(node.id, node.name.clone())
}

fn find(view: View<'_>, id: NodeId) -> Result<Node, Stop> {
    view.node(id)?.ok_or_else(|| Reject::NoSuchNode(id).into())
}

/// A machine that asks again is a member already: a retry through another node, after an answer that was lost, finds
/// itself let in and takes nothing more off the token.
pub(super) fn add(work: &mut Work<'_>, add: &AddNode) -> Result<Reply, Stop> {
    work.standing.admin_or_node()?;
    let new = &add.node;
    limits::node(new)?;
    if let Some(known) = work.view.node(new.id)?
        && known.fingerprint == new.fingerprint
        && known.name == new.name
    {
        work.trail.add(subject(&known), EventKind::Changed, Changes::none())?;
        return Ok(Reply::Node(Box::new(known)));
    }
    use_token(work, add.token)?;
    free_of_others(work.view, new)?;
    let cluster = work.view.cluster()?.ok_or(Reject::NotInitialised)?;
    let last = work.view.one("SELECT last_subnet FROM cluster", [], rows::cluster::last_subnet)?;
    let mut taken: BTreeSet<Ipv4Net> = work.view.nodes()?.into_iter().map(|node| node.subnet).collect();
    taken.extend(network::peer_subnet(cluster.cidr, cluster.subnet_prefix));
    let subnet = network::next_subnet(cluster.cidr, cluster.subnet_prefix, last, |subnet| taken.contains(&subnet))
        .ok_or(Reject::NoSubnet)?;
    rows::cluster::set_last_subnet(work.db, subnet)?;
    admit(work, new, subnet)
}

fn use_token(work: &Work<'_>, id: TokenId) -> Result<(), Stop> {
    let why = match work.view.join_token(id)? {
        None => "unknown",
        Some(token) if work.now >= token.expires_at => "expired",
        Some(token) if token.uses_left == 0 => "used up",
        Some(_) => return rows::token::use_join(work.db, id),
    };
    Err(Reject::BadJoinToken { id, why: why.to_owned() }.into())
}

fn free_of_others(view: View<'_>, new: &NewNode) -> Result<(), Stop> {
    let nodes = view.nodes()?;
    let taken = |what: &str, holder: &Node| Reject::NodeTaken { what: what.to_owned(), holder: holder.id };
    if let Some(holder) = nodes.iter().find(|node| node.id == new.id) {
        return Err(taken("id", holder).into());
    }
    if let Some(holder) = nodes.iter().find(|node| node.name == new.name) {
        return Err(Reject::NodeNameTaken { name: new.name.clone(), holder: holder.id }.into());
    }
    if let Some(holder) = nodes.iter().find(|node| node.fingerprint == new.fingerprint) {
        return Err(taken("key", holder).into());
    }
    if let Some(holder) = nodes.iter().find(|node| node.advertise == new.advertise) {
        return Err(taken("address", holder).into());
    }
    Ok(())
}

/// Writes a node whose every field was checked.
pub(super) fn admit(work: &mut Work<'_>, new: &NewNode, subnet: Ipv4Net) -> Result<Reply, Stop> {
    let node = Node {
        id: new.id,
        name: new.name.clone(),
        advertise: new.advertise,
        fingerprint: new.fingerprint,
        labels: Labels::default(),
        cordoned: false,
        capacity: new.capacity.clone(),
        subnet,
        mesh: None,
        joined_at: work.now,
    };
    rows::node::insert(work.db, &node)?;
    let capacity = &node.capacity;
    let changes = Changes::none()
        .set("advertise", node.advertise)
        .set("fingerprint", node.fingerprint)
        .set("subnet", node.subnet)
        .set("cpus", capacity.cpus)
        .set("threads", capacity.threads)
        .set("memory", capacity.memory)
        .set("disk", capacity.disk)
        .set("arch", capacity.arch)
        .set("kvm", capacity.kvm)
        .set("bridges", list(&capacity.bridges));
    work.trail.add(subject(&node), EventKind::Created, changes)?;
    Ok(Reply::Node(Box::new(node)))
}

pub(super) fn update(
    work: &mut Work<'_>,
    id: NodeId,
    advertise: SocketAddr,
    capacity: &Capacity,
) -> Result<Reply, Stop> {
    work.standing.owner(id)?;
    limits::capacity(capacity)?;
    let old = find(work.view, id)?;
    if let Some(holder) = other_with(work.view, id, |node| node.advertise == advertise)? {
        return Err(Reject::NodeTaken { what: "address".to_owned(), holder }.into());
    }
    let new = Node { advertise, capacity: capacity.clone(), ..old.clone() };
    let (was, is) = (&old.capacity, &new.capacity);
    let changes = Changes::none()
        .diff("advertise", &old.advertise, &new.advertise)
        .diff("cpus", &was.cpus, &is.cpus)
        .diff("threads", &was.threads, &is.threads)
        .diff("memory", &was.memory, &is.memory)
        .diff("disk", &was.disk, &is.disk)
        .diff("arch", &was.arch, &is.arch)
        .diff("kvm", &was.kvm, &is.kvm)
        .diff("bridges", &list(&was.bridges), &list(&is.bridges));
    change(work, new, changes)
}

pub(super) fn rotate_key(work: &mut Work<'_>, id: NodeId, fingerprint: Fingerprint) -> Result<Reply, Stop> {
    work.standing.owner(id)?;
    let old = find(work.view, id)?;
    if let Some(holder) = other_with(work.view, id, |node| node.fingerprint == fingerprint)? {
        return Err(Reject::NodeTaken { what: "key".to_owned(), holder }.into());
    }
    let changes = Changes::none().diff("fingerprint", &old.fingerprint, &fingerprint);
    change(work, Node { fingerprint, ..old }, changes)
}

pub(super) fn set_mesh_end(work: &mut Work<'_>, id: NodeId, end: MeshEnd) -> Result<Reply, Stop> {
    work.standing.owner(id)?;
    let old = find(work.view, id)?;
    if old.mesh.is_none_or(|own| own.key != end.key)
        && let Some(holder) = net_peers::holder(work.view, end.key)?
    {
        return Err(Reject::PeerTaken { what: "key".to_owned(), holder }.into());
    }
    let shown = |end: Option<MeshEnd>| end.map_or_else(|| "none".to_owned(), |e| format!("{} port {}", e.key, e.port));
    let changes = Changes::none().diff("mesh", &shown(old.mesh), &shown(Some(end)));
    change(work, Node { mesh: Some(end), ..old }, changes)
}

pub(super) fn set_cordon(work: &mut Work<'_>, id: NodeId, cordoned: bool) -> Result<Reply, Stop> {
    work.standing.at_least_or_owner(Role::Admin, id)?;
    let old = find(work.view, id)?;
    let changes = Changes::none().diff("cordoned", &old.cordoned, &cordoned);
    change(work, Node { cordoned, ..old }, changes)
}

pub(super) fn set_labels(work: &mut Work<'_>, id: NodeId, patch: &LabelPatch) -> Result<Reply, Stop> {
    work.standing.at_least_or_owner(Role::Admin, id)?;
    let old = find(work.view, id)?;
    let labels = patch.applied(&old.labels).map_err(Reject::from)?;
    let changes = Changes::none().labels(&old.labels, &labels);
    change(work, Node { labels, ..old }, changes)
}

fn list(bridges: &[BridgeName]) -> String {
    bridges.iter().map(BridgeName::as_str).collect::<Vec<_>>().join(" ")
}

fn other_with(view: View<'_>, id: NodeId, has: impl Fn(&Node) -> bool) -> Result<Option<NodeId>, ReadError> {
    Ok(view.nodes()?.into_iter().find(|node| node.id != id && has(node)).map(|node| node.id))
}

fn change(work: &mut Work<'_>, node: Node, changes: Changes) -> Result<Reply, Stop> {
    rows::node::update(work.db, &node)?;
    work.trail.add(subject(&node), EventKind::Changed, changes)?;
    Ok(Reply::Node(Box::new(node)))
}

/// The VMs that would go with the member, if it may go.
pub(in super::super) fn removable(
    view: View<'_>,
    id: NodeId,
    force: bool,
) -> Result<Result<Vec<Vm>, Reject>, ReadError> {
    if view.nodes()?.len() == 1 {
        return Ok(Err(Reject::LastNode));
    }
    let vms = view.vms_on(id)?;
    if !vms.is_empty() && !force {
        let count = u32::try_from(vms.len()).unwrap_or(u32::MAX);
        return Ok(Err(Reject::NodeHasVms { node: id, count }));
    }
    Ok(Ok(vms))
}

/// With force its VMs go with it: they ran on its disks. Their names and addresses are free at once.
pub(super) fn remove(work: &mut Work<'_>, id: NodeId, force: bool) -> Result<Reply, Stop> {
    work.standing.at_least_or_owner(Role::Admin, id)?;
    let node = find(work.view, id)?;
    for vm in &removable(work.view, id, force)?? {
        super::vms::drop_row(work, vm)?;
    }
    rows::node::delete(work.db, id)?;
    let changes = Changes::none().unset("advertise", node.advertise).unset("subnet", node.subnet);
    work.trail.add(subject(&node), EventKind::Deleted, changes)?;
    Ok(Reply::Done)
}

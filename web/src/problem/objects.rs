//! Words for objects that do not exist, with the nearest one that does.

use waifud_api::{
    problem::{Problem, ProblemCode},
    select::ObjectName,
};
use waifud_model::{
    event::SubjectKind,
    name::{NodeName, PeerName, TemplateName, VmName},
};

/// What was not found, and what may have been meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Missing {
    /// No VM of this name; perhaps that one, on that node.
    Vm { name: VmName, similar: Option<(VmName, NodeName)> },
    /// No node of this name.
    Node { name: NodeName, similar: Option<NodeName> },
    /// No template of this name.
    Template { name: TemplateName, similar: Option<TemplateName> },
    /// No peer of this name.
    Peer { name: PeerName, similar: Option<PeerName> },
    /// The template has no such version.
    Version { template: TemplateName, prefix: String },
    /// No object has or had this name, as far as is remembered.
    Past { object: ObjectName },
}

/// Words for a missing object.
pub(super) fn missing(missing: &Missing) -> Problem {
    match missing {
        Missing::Vm { name, similar } => {
            let guess = similar.as_ref().map(|(vm, node)| format!("; did you mean \"{vm}\" on {node}?"));
            Problem::new(ProblemCode::NoSuchVm, format!("no VM \"{name}\"{}", guess.unwrap_or_default()))
                .with_remedy("waifuctl list")
        }
        Missing::Node { name, similar } => {
            Problem::new(ProblemCode::NoSuchNode, format!("no node \"{name}\"{}", meant(similar.as_ref())))
                .with_remedy("waifuctl node list")
        }
        Missing::Template { name, similar } => {
            Problem::new(ProblemCode::NoSuchTemplate, format!("no template \"{name}\"{}", meant(similar.as_ref())))
                .with_remedy(format!("waifuctl template list, or add it: waifuctl template add {name} --file IMAGE"))
        }
        Missing::Peer { name, similar } => {
            Problem::new(ProblemCode::NoSuchPeer, format!("no peer \"{name}\"{}", meant(similar.as_ref())))
                .with_remedy("waifuctl net peer list")
        }
        Missing::Version { template, prefix } => {
            Problem::new(ProblemCode::NoSuchVersion, format!("template {template} has no version {prefix}"))
                .with_remedy(format!("waifuctl template show {template}"))
        }
        Missing::Past { object } => {
            let code = match object.kind() {
                SubjectKind::Vm => ProblemCode::NoSuchVm,
                SubjectKind::Node => ProblemCode::NoSuchNode,
                SubjectKind::Template => ProblemCode::NoSuchTemplate,
                SubjectKind::Token => ProblemCode::NoSuchToken,
                SubjectKind::Peer => ProblemCode::NoSuchPeer,
                SubjectKind::Cluster => ProblemCode::NotInitialised,
            };
            Problem::new(code, format!("there is no {object}, and none is remembered"))
                .with_remedy(format!("waifuctl events --about {} shows what happened lately", object.kind()))
        }
    }
}

/// Words for a version that is not told well enough.
pub(super) fn ambiguous(template: &TemplateName, prefix: &str, count: usize) -> Problem {
    Problem::new(ProblemCode::Invalid, format!("{count} versions of template {template} begin with {prefix}"))
        .with_remedy(format!("write more of its digits; waifuctl template show {template}"))
}

fn meant(similar: Option<&impl std::fmt::Display>) -> String {
    similar.map_or_else(String::new, |name| format!("; did you mean \"{name}\"?"))
}

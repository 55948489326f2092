//! The paths of the interface: as templates for the router, and filled in for clients.
//!
//! All names and ids that can stand in a path are made of letters, digits, `-` and `.`, so nothing needs escaping.

use crate::select::ObjectName;
use std::fmt::Display;
use waifud_model::{
    ids::TokenId,
    name::{NodeName, PeerName, TemplateName, VmName},
};

/// Is the process up? Public.
pub const HEALTHZ: &str = "/healthz";
/// Can the node take writes? Public. 503 with a problem if not; its `errors` name each check that failed.
pub const READYZ: &str = "/readyz";
/// `GET` gives OpenMetrics text (query [`MetricsQuery`](crate::metrics::MetricsQuery)).
pub const METRICS: &str = "/metrics";
/// The OpenAPI document.
pub const OPENAPI: &str = "/api/v1/openapi.json";
/// The JSON Schema of the files that `waifuctl apply` takes.
pub const SCHEMA_APPLY: &str = "/api/v1/schema/apply.json";

/// `GET` lists ([`Vec`] of [`Vm`](crate::vm::Vm), query [`VmListQuery`](crate::vm::VmListQuery)); `POST` takes
/// [`VmCreate`](crate::vm::VmCreate) and gives [`VmCreated`](crate::vm::VmCreated), or with `?dry_run=true`
/// [`PlacementPreview`](crate::vm::PlacementPreview).
pub const VMS: &str = "/api/v1/vms";
/// `GET` gives a [`Vm`](crate::vm::Vm); `PATCH` takes a [`VmUpdate`](crate::vm_change::VmUpdate) and gives the VM, or with
/// `?dry_run=true` a [`VmUpdatePreview`](crate::vm_change::VmUpdatePreview); `DELETE` gives it too (202), in phase *deleting*.
pub const VM: &str = "/api/v1/vms/{name}";
/// `POST` gives a [`Vm`](crate::vm::Vm).
pub const VM_START: &str = "/api/v1/vms/{name}/start";
/// `POST` gives a [`Vm`](crate::vm::Vm).
pub const VM_STOP: &str = "/api/v1/vms/{name}/stop";
/// `POST` (query [`GraceQuery`](crate::vm_change::GraceQuery)) gives a [`Vm`](crate::vm::Vm).
pub const VM_REBOOT: &str = "/api/v1/vms/{name}/reboot";
/// `POST` gives a [`Vm`](crate::vm::Vm).
pub const VM_PAUSE: &str = "/api/v1/vms/{name}/pause";
/// `POST` gives a [`Vm`](crate::vm::Vm).
pub const VM_RESUME: &str = "/api/v1/vms/{name}/resume";
/// `POST` (query [`ReinitQuery`](crate::vm_change::ReinitQuery)) gives a [`Vm`](crate::vm::Vm).
pub const VM_REINIT: &str = "/api/v1/vms/{name}/reinit";
/// `POST` takes a [`VmRename`](crate::vm_change::VmRename) and gives a [`Vm`](crate::vm::Vm).
pub const VM_RENAME: &str = "/api/v1/vms/{name}/rename";
/// `GET` gives a [`CloudInit`](crate::cloud_init::CloudInit), to operators; `PUT` replaces it (query
/// [`CloudInitQuery`](crate::cloud_init::CloudInitQuery)) and gives a [`CloudInitSaved`](crate::cloud_init::CloudInitSaved).
pub const VM_CLOUD_INIT: &str = "/api/v1/vms/{name}/cloud-init";
/// `GET` becomes a WebSocket (query [`ConsoleQuery`](crate::console::ConsoleQuery)), for operators.
pub const VM_CONSOLE: &str = "/api/v1/vms/{name}/console";
/// `GET` becomes a WebSocket of RFB, for operators.
pub const VM_VNC: &str = "/api/v1/vms/{name}/vnc";
/// `GET` gives text (query [`LogsQuery`](crate::console::LogsQuery)), to operators.
pub const VM_LOGS: &str = "/api/v1/vms/{name}/logs";
/// `GET` lists [`Template`](crate::template::Template)s.
pub const TEMPLATES: &str = "/api/v1/templates";
/// `GET` gives a [`Template`](crate::template::Template); `DELETE` (204) takes
/// [`TemplateQuery`](crate::template::TemplateQuery).
pub const TEMPLATE: &str = "/api/v1/templates/{name}";
/// `POST` takes bytes (`application/octet-stream`, query [`UploadQuery`](crate::template::UploadQuery)) or a
/// [`TemplateAdd`](crate::template::TemplateAdd), and gives a [`TemplateVersion`](crate::template::TemplateVersion).
pub const TEMPLATE_VERSIONS: &str = "/api/v1/templates/{name}/versions";
/// `GET` lists [`Node`](crate::node::Node)s.
pub const NODES: &str = "/api/v1/nodes";
/// `GET` gives a [`Node`](crate::node::Node); `PATCH` takes a [`NodeUpdate`](crate::node::NodeUpdate) and gives it too; `DELETE` (204) takes [`NodeRemoveQuery`](crate::node::NodeRemoveQuery).
pub const NODE: &str = "/api/v1/nodes/{name}";
/// `GET` gives a [`NodeReport`](crate::doctor::NodeReport), by that node itself.
pub const NODE_DOCTOR: &str = "/api/v1/nodes/{name}/doctor";
/// `POST` gives a [`Node`](crate::node::Node).
pub const NODE_CORDON: &str = "/api/v1/nodes/{name}/cordon";
/// `POST` gives a [`Node`](crate::node::Node).
pub const NODE_UNCORDON: &str = "/api/v1/nodes/{name}/uncordon";
/// `GET` gives a [`ClusterStatus`](crate::cluster::ClusterStatus).
pub const CLUSTER: &str = "/api/v1/cluster";
/// `GET` gives [`CloudDefaults`](crate::cloud_init::CloudDefaults), to operators; `PUT` replaces them and gives a
/// [`CloudInitSaved`](crate::cloud_init::CloudInitSaved). The `ETag` is the defaults' generation.
pub const CLUSTER_CLOUD_INIT: &str = "/api/v1/cluster/cloud-init";
/// `GET` gives a [`Net`](crate::net::Net).
pub const NET: &str = "/api/v1/net";
/// `GET` lists [`NetPeer`](crate::net::NetPeer)s; `POST` takes [`NetPeerCreate`](crate::net::NetPeerCreate) and gives the peer.
pub const NET_PEERS: &str = "/api/v1/net/peers";
/// `GET` gives a [`NetPeer`](crate::net::NetPeer); `DELETE` (204).
pub const NET_PEER: &str = "/api/v1/net/peers/{name}";
/// `GET` lists [`JoinToken`](crate::token::JoinToken)s; `POST` takes [`JoinTokenCreate`](crate::token::JoinTokenCreate) and
/// gives [`JoinTokenCreated`](crate::token::JoinTokenCreated).
pub const JOIN_TOKENS: &str = "/api/v1/cluster/join-tokens";
/// `DELETE` (204).
pub const JOIN_TOKEN: &str = "/api/v1/cluster/join-tokens/{id}";
/// `GET` lists [`ApiToken`](crate::token::ApiToken)s; `POST` takes [`ApiTokenCreate`](crate::token::ApiTokenCreate) and gives
/// [`ApiTokenCreated`](crate::token::ApiTokenCreated).
pub const TOKENS: &str = "/api/v1/tokens";
/// `DELETE` (204).
pub const TOKEN: &str = "/api/v1/tokens/{id}";
/// `GET` lists [`Event`](crate::event::Event)s (query [`EventsQuery`](crate::event::EventsQuery)), or streams
/// [`StreamItem`](crate::event::StreamItem)s where `Accept` is `text/event-stream`.
pub const EVENTS: &str = "/api/v1/events";

/// `GET` gives the [`History`](crate::history::History) of a name (query [`HistoryQuery`](crate::history::HistoryQuery)).
pub const HISTORY: &str = "/api/v1/history/{kind}/{name}";
/// `GET` lists [`AuditEntry`](crate::history::AuditEntry)s (query [`AuditQuery`](crate::history::AuditQuery)), to admins.
pub const AUDIT: &str = "/api/v1/audit";

/// The path of what became of a name.
#[must_use]
pub fn history(object: &ObjectName) -> String {
    filled(&filled(HISTORY, object.kind()), object.name())
}

fn filled(template: &str, value: impl Display) -> String {
    let (before, rest) = template.split_once('{').unwrap_or((template, "}"));
    let after = rest.split_once('}').map_or("", |(_, after)| after);
    format!("{before}{value}{after}")
}

/// The path of one VM, or of something done to it: `template` is one of [`VM`], [`VM_START`], [`VM_STOP`],
/// [`VM_CLOUD_INIT`].
#[must_use]
pub fn vm(template: &'static str, name: &VmName) -> String {
    filled(template, name)
}

/// The path of one template or its versions: `template` is [`TEMPLATE`] or [`TEMPLATE_VERSIONS`].
#[must_use]
pub fn template(template: &'static str, name: &TemplateName) -> String {
    filled(template, name)
}

/// The path of one node, or of something done to it: `template` is one of [`NODE`], [`NODE_DOCTOR`],
/// [`NODE_CORDON`], [`NODE_UNCORDON`].
#[must_use]
pub fn node(template: &'static str, name: &NodeName) -> String {
    filled(template, name)
}

/// The path of one machine that is no node: `template` is [`NET_PEER`].
#[must_use]
pub fn net_peer(template: &'static str, name: &PeerName) -> String {
    filled(template, name)
}

/// The path of one token: `template` is [`TOKEN`] or [`JOIN_TOKEN`].
#[must_use]
pub fn token(template: &'static str, id: TokenId) -> String {
    filled(template, id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_filled_in() {
        let name = VmName::new("web-1").unwrap();
        assert_eq!(vm(VM, &name), "/api/v1/vms/web-1");
        assert_eq!(vm(VM_START, &name), "/api/v1/vms/web-1/start");
        assert_eq!(history(&"vm/web-1".parse().unwrap()), "/api/v1/history/vm/web-1");
        assert_eq!(token(JOIN_TOKEN, TokenId::from_random(1)), "/api/v1/cluster/join-tokens/0000000000000001");
    }
}

//! What the API shows: the desired state of the local replica and the observed state of gossip, merged.
//!
//! In: one read transaction of the replica and one picture of the observer for each answer, never a query a VM. Out: wire
//! types with names instead of ids and absolute times only, so that all nodes answer alike. A silent owner is a normal state:
//! its VMs are shown with what was last heard, and as not heard now. Nothing here changes anything.

mod cloud_init;
mod cluster;
mod event;
mod gauges;
mod history;
mod list;
mod net;
mod node;
mod template;
mod token;
mod vm;

pub(crate) use cloud_init::{defaults as cloud_defaults, told as cloud_init};
pub(crate) use cluster::status as cluster_status;
pub(crate) use event::{Names as EventNames, query as event_query, wire as event};
pub(crate) use gauges::gauges;
pub(crate) use history::{audit, history};
pub(crate) use list::VmList;
pub(crate) use net::{net, peer as net_peer, peers as net_peers, revision as net_peer_revision};
pub(crate) use node::{find as find_node, list as nodes, one as node, revision as node_revision};
pub(crate) use template::{
    list as templates, one as template, resolve as resolve_template, revision as template_revision,
    version as template_version,
};
pub(crate) use token::{api_token, api_tokens, join_token, join_tokens};
pub(crate) use vm::{find as find_vm, merge as vm, status as vm_status};

//! Events: what happened, in the order of the Raft log; the audit trail and the live stream are the same list.

use crate::{
    command::Actor,
    ids::{NodeId, TokenId, VmId},
    name::{NodeName, PeerName, TemplateName, VmName},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

/// One thing that happened to one object.
///
/// Every accepted command makes at least one. Two events of one command share `index` and differ in `seq`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The Raft index of the command that made it.
    pub index: u64,
    /// Its place among the events of that command, from zero.
    pub seq: u32,
    /// When, in log time.
    pub at: Timestamp,
    /// Who.
    pub actor: Actor,
    /// To what.
    pub subject: Subject,
    /// What.
    pub kind: EventKind,
    /// Which fields changed, and how; secrets appear as digest and size.
    pub changes: Vec<Change>,
}

/// The object an event is about, with the name it had at the time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// The cluster as a whole.
    Cluster,
    /// A node.
    Node(NodeId, NodeName),
    /// A VM.
    Vm(VmId, VmName),
    /// A template.
    Template(TemplateName),
    /// A join or API token.
    Token(TokenId),
    /// A machine that is no node and may reach the guests.
    Peer(PeerName),
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// It came to be.
    Created,
    /// Something about it changed.
    Changed,
    /// Its deletion was asked for; the owner is at work.
    Deleting,
    /// It is gone.
    Deleted,
    /// Observed by the owner: the guest started.
    Started,
    /// Observed by the owner: the guest was shut down.
    Stopped,
    /// Observed by the owner: the guest died by itself.
    Crashed,
    /// Observed by the owner: the desired state could not be reached; `changes` holds the error.
    Failed,
}

/// One field, before and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The field's name in the API.
    pub field: String,
    /// Its value before, if it had one.
    pub old: Option<String>,
    /// Its value after, if it has one.
    pub new: Option<String>,
}

//! Events: what happened, in the order of the Raft log; the audit trail and the live stream are the same list.

use crate::{
    command::Actor,
    ids::{NodeId, TokenId, VmId},
    name::{NodeName, PeerName, TemplateName, VmName},
    time::Timestamp,
    token::Role,
};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

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
    /// As what, where it was a person or their program; none for a node on its own account.
    pub authority: Option<Authority>,
    /// By which command: [`Command::verb`](crate::command::Command::verb).
    pub command: String,
    /// To what.
    pub subject: Subject,
    /// What.
    pub kind: EventKind,
    /// Which fields changed, and how; secrets appear as digest and size.
    pub changes: Vec<Change>,
}

impl Event {
    /// Its place in the order of all events.
    #[must_use]
    pub const fn place(&self) -> Place {
        Place { index: self.index, seq: self.seq }
    }
}

/// A place in the order of all events, which is the same on all nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The Raft index of a command.
    pub index: u64,
    /// A place among the events of that command.
    pub seq: u32,
}

impl Place {
    /// After all events of an index.
    #[must_use]
    pub const fn after_index(index: u64) -> Self {
        Self { index, seq: u32::MAX }
    }
}

/// As what somebody acted, as it was at that moment: the token may be gone since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authority {
    /// Their role.
    pub role: Role,
    /// What their token is for, in its maker's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
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

impl Subject {
    /// Which kind of object.
    #[must_use]
    pub const fn kind(&self) -> SubjectKind {
        match self {
            Self::Cluster => SubjectKind::Cluster,
            Self::Node(..) => SubjectKind::Node,
            Self::Vm(..) => SubjectKind::Vm,
            Self::Template(_) => SubjectKind::Template,
            Self::Token(_) => SubjectKind::Token,
            Self::Peer(_) => SubjectKind::Peer,
        }
    }

    /// What it was called; a token is called by its id, the cluster by its kind.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Cluster => SubjectKind::Cluster.to_string(),
            Self::Node(_, name) => name.to_string(),
            Self::Vm(_, name) => name.to_string(),
            Self::Template(name) => name.to_string(),
            Self::Token(id) => id.to_string(),
            Self::Peer(name) => name.to_string(),
        }
    }
}

/// The kinds of objects that events are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SubjectKind {
    /// The cluster as a whole.
    Cluster,
    /// Nodes.
    Node,
    /// VMs.
    Vm,
    /// Templates.
    Template,
    /// Join and API tokens.
    Token,
    /// Machines that are no nodes and may reach the guests.
    Peer,
}

impl SubjectKind {
    /// All there are.
    pub const ALL: [Self; 6] = [Self::Cluster, Self::Node, Self::Vm, Self::Template, Self::Token, Self::Peer];

    /// How it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Node => "node",
            Self::Vm => "vm",
            Self::Template => "template",
            Self::Token => "token",
            Self::Peer => "peer",
        }
    }
}

impl fmt::Display for SubjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text that is no kind of object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it must be cluster, node, vm, template, token or peer")]
pub struct SubjectKindError;

impl FromStr for SubjectKind {
    type Err = SubjectKindError;

    fn from_str(text: &str) -> Result<Self, SubjectKindError> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(SubjectKindError)
    }
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
    /// Somebody opened a console of it; `changes` tells which.
    Opened,
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

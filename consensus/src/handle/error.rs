//! Why consensus did not do what it was asked.

use crate::{
    database::{DatabaseError, LockError},
    state,
};
use std::io;
use waifud_model::{ids::NodeId, reject::Reject};

/// Why a node's consensus did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The directory cannot be made or used.
    #[error("the directory cannot be used")]
    Dir(#[source] io::Error),
    /// Another process has the directory.
    #[error("the directory is locked")]
    Locked(#[source] LockError),
    /// A database is damaged, of another build, or cannot be read.
    #[error("the databases cannot be opened")]
    Storage(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The log begins after the end of the state, and no snapshot fills the hole: files were removed or restored by hand.
    #[error("the state ends at index {applied} and the log begins after {purged}: nothing holds what is between")]
    Hole {
        /// The end of the state.
        applied: u64,
        /// What was purged from the log.
        purged: u64,
    },
    /// The timing contradicts itself.
    #[error("the configuration is refused: {0}")]
    Config(String),
    /// Raft refused what it found on disk.
    #[error("Raft did not start: {0}")]
    Raft(String),
}

impl From<DatabaseError> for StartError {
    fn from(error: DatabaseError) -> Self {
        Self::Storage(error.into())
    }
}

/// Why a cluster of one was not begun.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BootstrapError {
    /// This node has a log or a vote already.
    #[error("this node is or was a member of a cluster already")]
    NotPristine,
    /// Raft has stopped.
    #[error("consensus has stopped: {0}")]
    Halted(String),
}

/// Why a proposal was not carried out, as far as that is known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Apply refused it. It is in the log, and every node refuses it alike.
    #[error("refused")]
    Rejected {
        /// Where in the log.
        index: u64,
        /// Why.
        #[source]
        reject: Reject,
    },
    /// No leader could be found in time; nothing was written. Trying again soon helps.
    #[error("there is no leader yet")]
    NoLeaderYet,
    /// Fewer than a majority of the voters are alive; nothing was written. Trying again helps only when they are back.
    #[error("{alive} of {voters} voters are alive: no majority")]
    NoQuorum {
        /// Voters that are alive.
        alive: u32,
        /// Voters in all.
        voters: u32,
    },
    /// It may have happened or may yet happen. Trying again with the same key is safe.
    #[error("it is not known whether it happened")]
    Unknown,
    /// The leader's clock is more than five minutes off; nothing was written.
    #[error("the leader's clock is {offset_ms} ms off the cluster's")]
    ClockSkew {
        /// How far.
        offset_ms: i64,
    },
    /// Consensus has stopped on this node; nothing was written.
    #[error("consensus has stopped on this node: {0}")]
    Halted(String),
}

/// Why a linearizable read cannot be promised.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinearizeError {
    /// No leader could be found in time.
    #[error("there is no leader yet")]
    NoLeaderYet,
    /// Fewer than a majority of the voters are alive.
    #[error("{alive} of {voters} voters are alive: no majority")]
    NoQuorum {
        /// Voters that are alive.
        alive: u32,
        /// Voters in all.
        voters: u32,
    },
    /// The local replica did not get that far in time.
    #[error("the local replica is at index {applied}, not yet at {index}")]
    Behind {
        /// How far it must be.
        index: u64,
        /// How far it is.
        applied: u64,
    },
    /// Consensus has stopped on this node.
    #[error("consensus has stopped on this node: {0}")]
    Halted(String),
}

/// Why the local replica could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// What is there does not read.
    #[error("the local state does not read")]
    State(#[from] state::ReadError),
    /// It cannot be got at.
    #[error("the local state cannot be opened")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<DatabaseError> for ReadError {
    fn from(error: DatabaseError) -> Self {
        Self::Unavailable(error.into())
    }
}

/// Why another node's request was not answered.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The request does not read, or its answer cannot be written.
    #[error("the message cannot be handled")]
    Message(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The peer speaks in the name of another node.
    #[error("node {from} spoke for node {claimed}")]
    Impostor {
        /// Who it is.
        from: NodeId,
        /// Who it said it is.
        claimed: NodeId,
    },
}

/// Why no snapshot was built, or the state has no digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("consensus has stopped: {0}")]
pub struct Stopped(pub(crate) String);

//! What nodes say to each other: the encoding of requests and answers.
//!
//! Raft's own messages are postcard; commands inside them stay the bytes they are in the log. Forwarded proposals are
//! MessagePack with field names: they carry commands, and nodes of two versions must understand each other's.

use crate::raft::types::{LogId, Outcome, Types};
use bytes::Bytes;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use waifud_model::{
    command::{Actor, Command, Reply, RequestKey},
    ids::NodeId,
    reject::Reject,
};

/// Bytes of the wire that do not read, or a value that cannot be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    /// One of Raft's messages.
    #[error("a message of Raft does not read")]
    Raft(#[from] postcard::Error),
    /// A proposal or its answer cannot be written.
    #[error("a proposal cannot be encoded")]
    Encode(#[from] rmp_serde::encode::Error),
    /// A proposal or its answer.
    #[error("a proposal does not read")]
    Decode(#[from] rmp_serde::decode::Error),
}

/// A request of Raft's and what answers it.
pub(crate) trait Message: Serialize + DeserializeOwned {
    /// The answer.
    type Answer: Serialize + DeserializeOwned;
}

impl Message for AppendEntriesRequest<Types> {
    type Answer = AppendEntriesResponse<Types>;
}

impl Message for VoteRequest<Types> {
    type Answer = VoteResponse<Types>;
}

impl Message for TransferLeaderRequest<Types> {
    type Answer = TransferLeaderResponse<Types>;
}

/// An answer of Raft's, or why the other node's Raft has none: it halted.
pub(crate) type Answered<T> = Result<T, String>;

/// The answer to a snapshot.
pub(crate) type SnapshotAnswer = Answered<SnapshotResponse<Types>>;

/// Writes one of Raft's messages.
pub(crate) fn pack<T: Serialize>(message: &T) -> Result<Bytes, WireError> {
    Ok(postcard::to_stdvec(message)?.into())
}

/// Reads one of Raft's messages.
pub(crate) fn unpack<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, WireError> {
    Ok(postcard::from_bytes(bytes)?)
}

/// Writes what may be read by another version.
pub(crate) fn pack_named<T: Serialize>(message: &T) -> Result<Bytes, WireError> {
    Ok(rmp_serde::to_vec_named(message)?.into())
}

/// Reads what may be of another version.
pub(crate) fn unpack_named<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, WireError> {
    Ok(rmp_serde::from_slice(bytes)?)
}

/// What somebody wants to happen: an envelope without the time, which the leader stamps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// Makes a repetition harmless. It must be the same for every try of the same request.
    pub request: RequestKey,
    /// Who asks.
    pub actor: Actor,
    /// What is asked.
    pub command: Command,
    /// The id under which the client's request stands in the logs of the nodes it comes by. It ends at the leader: the log of
    /// the cluster does not have it. Nodes that do not know of it yet leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// What a node that was taken for the leader says to a proposal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ProposalAnswer {
    /// It is committed and applied there.
    Accepted {
        /// Where in the log.
        index: u64,
        /// What it gave.
        reply: Reply,
        /// True: it was accepted before.
        replayed: bool,
    },
    /// It is committed, and apply refused it.
    Rejected {
        /// Where in the log.
        index: u64,
        /// Why.
        reject: Reject,
    },
    /// That node does not lead, or may not take writes now. Nothing was written.
    NotLeader {
        /// Who leads, as far as that node knows.
        leader: Option<NodeId>,
    },
    /// It may come to pass or not: leadership was lost while it was on its way.
    Unknown,
    /// The leader's clock is too far off to stamp anything. Nothing was written.
    ClockSkew {
        /// How far, in milliseconds.
        offset_ms: i64,
    },
    /// That node's Raft has stopped.
    Halted {
        /// Why.
        why: String,
    },
}

impl ProposalAnswer {
    /// Where in the log it is, if it got there.
    pub(crate) fn index(&self) -> Option<u64> {
        match self {
            Self::Accepted { index, .. } | Self::Rejected { index, .. } => Some(*index),
            Self::NotLeader { .. } | Self::Unknown | Self::ClockSkew { .. } | Self::Halted { .. } => None,
        }
    }

    /// What applying the entry gave.
    pub(crate) fn of(id: &LogId, outcome: Outcome) -> Self {
        let index = id.index();
        match outcome {
            Outcome::Accepted { reply, replayed } => Self::Accepted { index, reply, replayed },
            Outcome::Rejected(reject) => Self::Rejected { index, reject },
            Outcome::Nothing => Self::Accepted { index, reply: Reply::Done, replayed: false },
        }
    }
}

/// What a node that was taken for the leader says to a reader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ReadIndexAnswer {
    /// A read that has seen this entry has seen everything that was committed when it was asked.
    Upto {
        /// Its index.
        index: u64,
    },
    /// That node does not lead, or a majority does not confirm that it does.
    NotLeader {
        /// Who leads, as far as that node knows.
        leader: Option<NodeId>,
    },
    /// That node's Raft has stopped.
    Halted {
        /// Why.
        why: String,
    },
}

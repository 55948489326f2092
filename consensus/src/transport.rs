//! How bytes reach another node: a request and its answer, or a snapshot file and its answer.
//!
//! In: encoded requests. Out: encoded answers, or that the peer could not be reached. An implementation authenticates the
//! peer and nothing else; it does not look into the bytes, retry or queue.

use async_trait::async_trait;
use bytes::Bytes;
use std::{fmt::Debug, path::PathBuf, time::Duration};
use waifud_model::ids::NodeId;

/// The edge to the other nodes.
///
/// On the receiving side a call is answered by [`Handle::serve_call`](crate::Handle::serve_call) and a snapshot by
/// [`Handle::serve_snapshot`](crate::Handle::serve_snapshot).
#[async_trait]
pub trait Transport: Send + Sync + Debug + 'static {
    /// Sends a request and waits at most `timeout` for the answer, dialling included.
    ///
    /// # Errors
    /// The peer is unknown, cannot be reached, did not answer in time, or refused.
    async fn call(&self, to: NodeId, kind: RpcKind, body: Bytes, timeout: Duration) -> Result<Bytes, TransportError>;

    /// Streams a file after a header and waits for the answer. The caller bounds the time by dropping the future.
    ///
    /// # Errors
    /// As for [`call`](Self::call), and if the file cannot be read.
    async fn send_snapshot(&self, to: NodeId, header: Bytes, file: PathBuf) -> Result<Bytes, TransportError>;
}

/// What a request is about: one byte on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RpcKind {
    /// Log entries or a heartbeat, from the leader.
    AppendEntries = 1,
    /// A candidate asks for a vote.
    Vote = 2,
    /// A node asks whether it would get a vote.
    PreVote = 3,
    /// The leader hands over.
    TransferLeader = 4,
    /// A proposal, forwarded to the leader.
    Propose = 5,
    /// A reader asks the leader how far to wait.
    ReadIndex = 6,
}

impl RpcKind {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::AppendEntries, Self::Vote, Self::PreVote, Self::TransferLeader, Self::Propose, Self::ReadIndex];

    /// The byte on the wire.
    #[must_use]
    pub const fn byte(self) -> u8 {
        self as u8
    }

    /// The kind a byte stands for.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.byte() == byte)
    }
}

/// Why a peer did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// No connection: unknown, down, or cut off. The request was certainly not served.
    #[error("node {node} cannot be reached: {why}")]
    Unreachable {
        /// Who.
        node: NodeId,
        /// What the network said.
        why: String,
    },
    /// No answer in time. The request may have been served.
    #[error("node {node} did not answer within {after:?}")]
    Timeout {
        /// Who.
        node: NodeId,
        /// How long it was given.
        after: Duration,
    },
    /// The connection broke after the request was sent, or the peer refused it. The request may have been served.
    #[error("node {node} broke off: {why}")]
    Broken {
        /// Who.
        node: NodeId,
        /// What the network said.
        why: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_pinned_bytes() {
        assert_eq!(RpcKind::ALL.map(RpcKind::byte), [1, 2, 3, 4, 5, 6]);
        for byte in 0..=u8::MAX {
            assert_eq!(RpcKind::from_byte(byte).map(RpcKind::byte), (1..=6).contains(&byte).then_some(byte));
        }
    }
}

//! What can go wrong between this node and a peer, in words for people.

use std::{io, net::SocketAddr, time::Duration};
use waifud_model::{ids::NodeId, name::NodeName};

/// Why the endpoint could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address cannot be listened on.
    #[error("UDP {addr} cannot be listened on")]
    Socket {
        /// Which.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The identity does not make a TLS configuration.
    #[error("the node's identity cannot be used for TLS")]
    Tls(#[from] rustls::Error),
    /// The TLS configuration does not make a QUIC one.
    #[error("the TLS configuration cannot carry QUIC")]
    Quic(#[from] quinn::crypto::rustls::NoInitialCipherSuite),
}

/// Why a peer could not be talked to. Cloneable, because all who wait for one dial get its outcome.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// No such member.
    #[error("node {0} is not a member of this cluster")]
    Unknown(NodeId),
    /// That is this node; nothing is sent to oneself over the network.
    #[error("node {0} is this node")]
    Myself(NodeId),
    /// No connection could be made.
    #[error("node {name} ({addr}) cannot be reached: {why}")]
    Unreachable {
        /// Which.
        node: NodeId,
        /// Its name.
        name: NodeName,
        /// Where it was looked for.
        addr: SocketAddr,
        /// What happened at the last try.
        why: String,
    },
    /// The peer does not let this node in.
    #[error("node {name} ({addr}) refuses this node: {why}")]
    Refused {
        /// Which.
        node: NodeId,
        /// Its name.
        name: NodeName,
        /// Where it was.
        addr: SocketAddr,
        /// What it said.
        why: String,
    },
    /// Somebody else answered in its place.
    #[error("what answers at {addr} is not node {name}: {why}")]
    Impostor {
        /// Who was meant.
        node: NodeId,
        /// Its name.
        name: NodeName,
        /// Where it was looked for.
        addr: SocketAddr,
        /// What gave it away.
        why: String,
    },
    /// The connection or stream ended while in use.
    #[error("the connection to node {node} was lost: {why}")]
    Lost {
        /// Which.
        node: NodeId,
        /// What happened.
        why: String,
    },
    /// The peer's service broke the stream off.
    #[error("node {node} broke the stream off with code {code}")]
    Reset {
        /// Which.
        node: NodeId,
        /// The service's code.
        code: u64,
    },
    /// The reply is longer than the caller takes.
    #[error("the reply of node {node} is longer than {limit} bytes")]
    TooLong {
        /// Which.
        node: NodeId,
        /// What the caller takes.
        limit: usize,
    },
    /// No reply in time.
    #[error("node {node} did not answer within {after:?}")]
    Timeout {
        /// Which.
        node: NodeId,
        /// How long was waited.
        after: Duration,
    },
    /// This node's endpoint is closed.
    #[error("this node is shutting down")]
    ShuttingDown,
}

impl PeerError {
    /// True if nothing can have reached the peer, so that a repetition elsewhere cannot do a thing twice.
    #[must_use]
    pub fn never_sent(&self) -> bool {
        match self {
            Self::Unknown(_)
            | Self::Myself(_)
            | Self::Unreachable { .. }
            | Self::Refused { .. }
            | Self::Impostor { .. }
            | Self::ShuttingDown => true,
            Self::Lost { .. } | Self::Reset { .. } | Self::TooLong { .. } | Self::Timeout { .. } => false,
        }
    }
}

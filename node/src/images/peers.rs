//! Where other nodes' images come from: the edge to the peers' connections.

use async_trait::async_trait;
use std::{fmt::Debug, io};
use tokio::io::{AsyncRead, AsyncWrite};
use waifud_model::{digest::Blake3, ids::NodeId};

/// What is read from a peer.
pub type PeerReader = Box<dyn AsyncRead + Send + Unpin>;
/// What is written to a peer.
pub type PeerWriter = Box<dyn AsyncWrite + Send + Unpin>;

/// The other nodes, as far as images are concerned.
#[async_trait]
pub trait ImagePeers: Send + Sync + Debug {
    /// The nodes that say they have a version, the best first: alive, near, not busy. This node is not among them.
    async fn holders(&self, version: Blake3) -> Vec<NodeId>;

    /// A new stream to a node, at whose other end is [`super::Store::serve_blocks`].
    ///
    /// # Errors
    /// If the node cannot be reached. The caller gives up on its own when this takes too long.
    async fn open(&self, node: NodeId) -> io::Result<(PeerReader, PeerWriter)>;
}

/// There are none: a cluster of one.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoPeers;

#[async_trait]
impl ImagePeers for NoPeers {
    async fn holders(&self, _: Blake3) -> Vec<NodeId> {
        Vec::new()
    }

    async fn open(&self, _: NodeId) -> io::Result<(PeerReader, PeerWriter)> {
        Err(io::ErrorKind::NotConnected.into())
    }
}

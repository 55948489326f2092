//! The calls about the network: subnets, the mesh, and the machines that are no nodes and may reach the guests.

use super::{Answer, Client, ClientError, IdempotencyKey};
use crate::{
    net::{Net, NetPeer, NetPeerCreate},
    paths,
};
use waifud_model::name::PeerName;

impl Client {
    /// The network.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn net(&self) -> Result<Answer<Net>, ClientError> {
        self.get(paths::NET).await
    }

    /// All machines that are no nodes and may reach the guests, by name.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn net_peers(&self) -> Result<Answer<Vec<NetPeer>>, ClientError> {
        self.get(paths::NET_PEERS).await
    }

    /// Lets a machine in. Only its public key is sent.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn add_net_peer(
        &self,
        peer: &NetPeerCreate,
        key: &IdempotencyKey,
    ) -> Result<Answer<NetPeer>, ClientError> {
        self.post(paths::NET_PEERS.to_owned(), self.json(peer)?, key).await
    }

    /// A machine is not let in any more.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn delete_net_peer(&self, name: &PeerName) -> Result<Answer<()>, ClientError> {
        self.remove(paths::net_peer(paths::NET_PEER, name)).await
    }
}

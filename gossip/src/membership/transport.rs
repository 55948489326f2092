//! chitchat's view of the network: addresses on its side, authenticated members on ours.
//!
//! A message comes from the member whose key its connection was made with, and is shown to chitchat under the address
//! that the table has for that member; whatever address the packets had does not matter. A message to an address goes
//! to the member that the table has there, or nowhere.

use super::{
    outbox::Outboxes,
    wire::{self, WireError},
};
use crate::{
    peers::Peers,
    table::{PeerTable, PeerTableWatch, member_at},
};
use async_trait::async_trait;
use bytes::Bytes;
use chitchat::{
    ChitchatId, ChitchatMessage,
    transport::{Socket, Transport},
};
use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Arc, PoisonError, RwLock},
};
use tokio::sync::mpsc;
use waifud_model::ids::NodeId;

/// Messages that wait for chitchat: two rounds of a hundred peers. What does not fit is dropped.
const INBOX: usize = 256;

/// The ids chitchat has heard of. It keeps those of nodes that left the table until they expire; as long as it does,
/// their entries in digests must reach it, or every peer's message would offer the whole of them again.
pub(super) type KnownIds = Arc<RwLock<BTreeSet<ChitchatId>>>;

/// Opens sockets over the endpoint.
pub(super) struct MemberTransport {
    pub(super) peers: Peers,
    pub(super) known: KnownIds,
}

#[async_trait]
impl Transport for MemberTransport {
    async fn open(&self, _listen: SocketAddr) -> anyhow::Result<Box<dyn Socket>> {
        let (inbox, messages) = mpsc::channel(INBOX);
        self.peers.direct_gossip(inbox);
        Ok(Box::new(MemberSocket {
            table: self.peers.table(),
            outboxes: Outboxes::new(self.peers.clone()),
            messages,
            known: self.known.clone(),
        }))
    }
}

struct MemberSocket {
    table: PeerTableWatch,
    outboxes: Outboxes,
    messages: mpsc::Receiver<(NodeId, Bytes)>,
    known: KnownIds,
}

#[async_trait]
impl Socket for MemberSocket {
    /// Never waits and never fails: an error would end chitchat.
    async fn send(&mut self, to: SocketAddr, message: ChitchatMessage) -> anyhow::Result<()> {
        if wire::is_idle(&message) {
            return Ok(());
        }
        let Some(node) = member_at(&self.table.borrow(), to) else { return Ok(()) };
        match wire::encode(&message) {
            Ok(bytes) => self.outboxes.send(node, bytes),
            Err(error) => tracing::error!(%error, "a gossip message could not be encoded"),
        }
        Ok(())
    }

    /// May be cancelled at any time: nothing is lost, since the only wait is for the channel.
    async fn recv(&mut self) -> anyhow::Result<(SocketAddr, ChitchatMessage)> {
        loop {
            let Some((from, bytes)) = self.messages.recv().await else { anyhow::bail!("the endpoint is gone") };
            match self.understand(from, &bytes) {
                Some(Ok(message)) => return Ok(message),
                Some(Err(error)) => tracing::warn!(node = %from, %error, "a gossip message was left aside"),
                None => {}
            }
        }
    }
}

impl MemberSocket {
    /// What `from` says; none if he is no member any more.
    fn understand(&self, from: NodeId, bytes: &[u8]) -> Option<Result<(SocketAddr, ChitchatMessage), WireError>> {
        let table = self.table.borrow();
        let addr = table.get(&from)?.addr;
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        Some(wire::decode(bytes, |id| is_welcome(&table, &known, id)).map(|message| (addr, message)))
    }
}

/// May chitchat hear of `id`? Either it has already, or it is a member at its own address.
fn is_welcome(table: &PeerTable, known: &BTreeSet<ChitchatId>, id: &ChitchatId) -> bool {
    known.contains(id)
        || wire::node_of(id).and_then(|node| table.get(&node)).is_some_and(|peer| peer.addr == id.gossip_advertise_addr)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Peer;
    use waifud_model::digest::Fingerprint;

    #[test]
    fn only_members_at_their_own_address_are_heard_of() {
        let (node, addr): (NodeId, SocketAddr) = (NodeId::from_random(2), ([10, 0, 0, 2], 7400).into());
        let peer = Peer { name: "n2".parse().unwrap(), addr, fingerprint: Fingerprint([2; 32]) };
        let table = PeerTable::from([(node, peer)]);
        let none = BTreeSet::new();
        let welcome = |id: &str, addr| is_welcome(&table, &none, &ChitchatId::new(id, 1, addr));
        assert!(welcome(&node.to_string(), addr));
        assert!(!welcome(&node.to_string(), ([10, 0, 0, 3], 7400).into()));
        assert!(!welcome(&NodeId::from_random(3).to_string(), addr));
        assert!(!welcome("n2", addr));
        let left = ChitchatId::new(NodeId::from_random(3).to_string(), 1, addr);
        assert!(is_welcome(&table, &BTreeSet::from([left.clone()]), &left));
    }
}

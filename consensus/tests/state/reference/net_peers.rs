//! Machines that are no nodes, told plainly.

use super::Reference;
use std::net::Ipv4Addr;
use waifud_model::{
    command::Reply,
    event::{EventKind, Subject},
    mesh::{MeshKey, NetPeer},
    name::PeerName,
    reject::Reject,
};

impl Reference {
    pub(super) fn key_holder(&self, key: MeshKey) -> Option<String> {
        let peer = self.state.net_peers.values().find(|peer| peer.key == key).map(|peer| format!("peer {}", peer.name));
        let node = || self.state.nodes.values().find(|node| node.mesh.is_some_and(|end| end.key == key));
        peer.or_else(|| node().map(|node| format!("node {}", node.name)))
    }

    pub(super) fn add_net_peer(&mut self, name: &PeerName, key: MeshKey) -> Result<Reply, Reject> {
        if self.state.net_peers.contains_key(name) {
            return Err(Reject::PeerTaken { what: "name".into(), holder: format!("peer {name}") });
        }
        if let Some(holder) = self.key_holder(key) {
            return Err(Reject::PeerTaken { what: "key".into(), holder });
        }
        let bits = self.peer_bits().ok_or(Reject::NoPeerAddress)?;
        self.last_peer = Some(bits);
        let ip = Ipv4Addr::from_bits(bits);
        let peer = NetPeer { name: name.clone(), key, ip, created_at: self.state.log_time };
        self.state.net_peers.insert(name.clone(), peer.clone());
        self.event(Subject::Peer(name.clone()), EventKind::Created);
        Ok(Reply::NetPeer(Box::new(peer)))
    }

    /// The next address of the cluster's last block of addresses, of which the first two and the last are nobody's.
    fn peer_bits(&self) -> Option<u32> {
        let cluster = self.state.cluster.as_ref()?;
        if cluster.subnet_prefix == cluster.cidr.prefix_len() {
            return None;
        }
        let size = 1_u32 << (32 - cluster.subnet_prefix);
        let end = cluster.cidr.broadcast().to_bits();
        let (first, last) = (end - size + 3, end - 1);
        let from = self.last_peer.map_or(first, |last| last + 1);
        let free = |bits: &u32| !self.state.net_peers.values().any(|peer| peer.ip.to_bits() == *bits);
        (from..=last).chain(first..from).find(free)
    }
}

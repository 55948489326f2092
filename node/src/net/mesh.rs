//! Who is in the mesh, and what lies behind it. Pure: the replica's records in, the configuration of WireGuard and of the host's
//! routing out.
//!
//! Every node is every other node's peer, and every laptop is a peer of every node. What a peer may send from, and what is
//! sent to it, is its node's subnet, and each guest that runs there with an address out of another's.

use ipnet::Ipv4Net;
use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
};
use waifud_mesh::{PeerConfig, PublicKey, host::Routing};
use waifud_model::{ids::NodeId, mesh::NetPeer, network, node::Node};

/// What the replica says of the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Members {
    /// All nodes.
    pub nodes: Vec<Node>,
    /// All machines that are no nodes.
    pub peers: Vec<NetPeer>,
    /// Whose the guests' addresses are.
    pub addresses: Vec<(Ipv4Addr, NodeId)>,
}

/// What is this node's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    /// Which node.
    pub node: NodeId,
    /// The mesh's interface.
    pub interface: String,
    /// The bridge that its guests are on.
    pub bridge: String,
    /// Largest packet, in bytes.
    pub mtu: u16,
    /// All of the cluster's addresses.
    pub cluster: Ipv4Net,
    /// This node's part of them.
    pub subnet: Ipv4Net,
}

impl Members {
    /// The others, as WireGuard has to know them; nodes that have not told their key yet are left out.
    #[must_use]
    pub fn peers(&self, own: &Own) -> Vec<PeerConfig> {
        let mut away = self.away();
        let others = self.nodes.iter().filter(|node| node.id != own.node);
        let nodes = others.filter_map(|node| {
            let end = node.mesh?;
            let mut allowed_ips = vec![node.subnet];
            allowed_ips.extend(away.remove(&node.id).unwrap_or_default());
            Some(PeerConfig {
                public_key: PublicKey::from_bytes(end.key.0),
                endpoint: Some(SocketAddr::new(node.advertise.ip(), end.port)),
                allowed_ips,
                // Nodes reach each other by the addresses they advertise: no NAT has to be kept open.
                keepalive: None,
            })
        });
        let nodes: Vec<_> = nodes.collect();
        let laptops = self.peers.iter().map(|peer| PeerConfig {
            public_key: PublicKey::from_bytes(peer.key.0),
            // It calls.
            endpoint: None,
            allowed_ips: vec![Ipv4Net::from(peer.ip)],
            keepalive: None,
        });
        nodes.into_iter().chain(laptops).collect()
    }

    /// The host's part in it.
    #[must_use]
    pub fn routing(&self, own: &Own) -> Routing {
        let mut away = self.away();
        let local = away.remove(&own.node).unwrap_or_default();
        let subnets = self.nodes.iter().filter(|node| node.id != own.node).map(|node| node.subnet);
        let laptops = self.peers.iter().map(|peer| Ipv4Net::from(peer.ip));
        Routing {
            interface: own.interface.clone(),
            mtu: own.mtu,
            bridge: own.bridge.clone(),
            cluster: own.cluster,
            gateway: network::gateway(own.subnet),
            remote: subnets.chain(laptops).chain(away.into_values().flatten()).collect(),
            local,
        }
    }

    /// The guests that have an address out of another node's subnet, by the node they run on.
    fn away(&self) -> BTreeMap<NodeId, Vec<Ipv4Net>> {
        let subnets: BTreeMap<NodeId, Ipv4Net> = self.nodes.iter().map(|node| (node.id, node.subnet)).collect();
        let mut away: BTreeMap<NodeId, Vec<Ipv4Net>> = BTreeMap::new();
        for (ip, node) in &self.addresses {
            if !subnets.get(node).is_some_and(|subnet| subnet.contains(ip)) {
                away.entry(*node).or_default().push(Ipv4Net::from(*ip));
            }
        }
        away
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use waifud_model::{
        digest::Fingerprint,
        labels::Labels,
        mesh::{MeshEnd, MeshKey},
        node::{Arch, Capacity},
        size::ByteSize,
        time::Timestamp,
    };

    fn node(n: u8, key: Option<u8>) -> Node {
        let (memory, disk) = (ByteSize::gib(1), ByteSize::gib(1));
        Node {
            id: NodeId::from_random(u64::from(n)),
            name: format!("n{n}").parse().unwrap(),
            advertise: ([192, 0, 2, n], 7443).into(),
            fingerprint: Fingerprint([n; 32]),
            labels: Labels::default(),
            cordoned: false,
            capacity: Capacity {
                cpus: 1,
                threads: 1,
                memory,
                disk,
                arch: Arch::X86_64,
                kvm: false,
                bridges: Vec::new(),
            },
            subnet: format!("10.77.{n}.0/24").parse().unwrap(),
            mesh: key.map(|key| MeshEnd { key: MeshKey([key; 32]), port: 7444 }),
            joined_at: Timestamp(0),
        }
    }

    fn members() -> Members {
        let laptop = NetPeer {
            name: "laptop".parse().unwrap(),
            key: MeshKey([9; 32]),
            ip: [10, 77, 255, 2].into(),
            created_at: Timestamp(0),
        };
        let at = |ip: [u8; 4], n: u8| (Ipv4Addr::from(ip), NodeId::from_random(u64::from(n)));
        Members {
            nodes: vec![node(1, Some(1)), node(2, Some(2)), node(3, None)],
            peers: vec![laptop],
            // One at home, one that went to n2, one that came here.
            addresses: vec![at([10, 77, 1, 2], 1), at([10, 77, 1, 3], 2), at([10, 77, 2, 7], 1)],
        }
    }

    fn own() -> Own {
        Own {
            node: NodeId::from_random(1),
            interface: "waifu0".to_owned(),
            bridge: "waifubr0".to_owned(),
            mtu: 1420,
            cluster: "10.77.0.0/16".parse().unwrap(),
            subnet: "10.77.1.0/24".parse().unwrap(),
        }
    }

    #[test]
    fn peers_are_the_others_with_what_lies_behind_them() {
        let shown: Vec<String> = members()
            .peers(&own())
            .iter()
            .map(|peer| format!("{} {:?} {:?}", &peer.public_key.to_string()[..4], peer.endpoint, peer.allowed_ips))
            .collect();
        expect![[r#"
            [
                "AgIC Some(192.0.2.2:7444) [10.77.2.0/24, 10.77.1.3/32]",
                "CQkJ None [10.77.255.2/32]",
            ]
        "#]]
        .assert_debug_eq(&shown);
    }

    #[test]
    fn routes_lead_to_all_that_is_not_here() {
        let routing = members().routing(&own());
        let shown = |nets: &[Ipv4Net]| nets.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(shown(&routing.remote), ["10.77.2.0/24", "10.77.3.0/24", "10.77.255.2/32", "10.77.1.3/32"]);
        assert_eq!(shown(&routing.local), ["10.77.2.7/32"]);
        assert_eq!(routing.gateway, Ipv4Addr::new(10, 77, 1, 1));
    }
}

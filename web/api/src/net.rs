//! The network on the wire: subnets, the mesh between the nodes, and the machines that may reach the guests from outside.

use crate::time::Time;
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddr};
use utoipa::ToSchema;
use waifud_model::{
    mesh::MeshKey,
    name::{NodeName, PeerName},
};

/// The answer of `GET /net`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Net {
    /// What all VMs' addresses are taken from.
    #[schema(value_type = String)]
    pub cidr: Ipv4Net,
    /// What machines that are no nodes get their addresses from; none where the cluster has a single subnet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub peers_subnet: Option<Ipv4Net>,
    /// The domain that VMs' names are resolved in.
    pub domain: String,
    /// Each node's part, by name.
    pub nodes: Vec<NodeNet>,
}

/// A node's part of the network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeNet {
    /// The node.
    #[schema(value_type = String)]
    pub node: NodeName,
    /// Its VMs' addresses.
    #[schema(value_type = String)]
    pub subnet: Ipv4Net,
    /// Its own address in it: the guests' gateway and name server.
    #[schema(value_type = String, format = Ipv4)]
    pub gateway: Ipv4Addr,
    /// Where other nodes, and so routers of a plain LAN, reach it.
    #[schema(value_type = String)]
    pub address: std::net::IpAddr,
    /// Its end of the mesh; none before it has told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mesh: Option<MeshEnd>,
}

/// A node's end of the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MeshEnd {
    /// Its WireGuard public key, as `wg` writes it.
    #[schema(value_type = String)]
    pub key: MeshKey,
    /// Where it listens (UDP).
    #[schema(value_type = String)]
    pub endpoint: SocketAddr,
}

/// A machine that is no node and may reach the guests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NetPeer {
    /// Its name.
    #[schema(value_type = String)]
    pub name: PeerName,
    /// Its WireGuard public key.
    #[schema(value_type = String)]
    pub key: MeshKey,
    /// Its address in the mesh.
    #[schema(value_type = String, format = Ipv4)]
    pub ip: Ipv4Addr,
    /// When it was added.
    pub created_at: Time,
}

/// A machine to be let in. Its private key stays where it was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NetPeerCreate {
    /// Its name.
    #[schema(value_type = String)]
    pub name: PeerName,
    /// Its WireGuard public key, as `wg pubkey` prints it.
    #[schema(value_type = String)]
    pub key: MeshKey,
}

impl From<waifud_model::mesh::NetPeer> for NetPeer {
    fn from(peer: waifud_model::mesh::NetPeer) -> Self {
        Self { name: peer.name, key: peer.key, ip: peer.ip, created_at: peer.created_at.into() }
    }
}

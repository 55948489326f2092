//! The network: subnets, the nodes' ends of the mesh, and the machines that may reach the guests from outside.

use crate::{
    conditional::Revision,
    problem::{Failure, Missing},
    suggest::nearest,
};
use std::net::SocketAddr;
use waifud_api::net as wire;
use waifud_cloudinit::instance::DOMAIN;
use waifud_consensus::{
    Handle,
    state::{ReadError, View},
};
use waifud_model::{mesh::NetPeer, name::PeerName, network, node::Node};

/// The whole network.
pub(crate) async fn net(consensus: &Handle) -> Result<wire::Net, Failure> {
    let (cluster, nodes) = consensus.read(|view| Ok((view.cluster()?, view.nodes()?))).await?;
    let cluster = cluster.ok_or(Failure::NotInitialised)?;
    Ok(wire::Net {
        cidr: cluster.cidr,
        peers_subnet: network::peer_subnet(cluster.cidr, cluster.subnet_prefix),
        domain: DOMAIN.to_owned(),
        nodes: nodes.into_iter().map(node_net).collect(),
    })
}

fn node_net(node: Node) -> wire::NodeNet {
    let address = node.advertise.ip();
    let end =
        |end: waifud_model::mesh::MeshEnd| wire::MeshEnd { key: end.key, endpoint: SocketAddr::new(address, end.port) };
    wire::NodeNet {
        node: node.name,
        subnet: node.subnet,
        gateway: network::gateway(node.subnet),
        address,
        mesh: node.mesh.map(end),
    }
}

/// All machines that are no nodes and may reach the guests, by name.
pub(crate) async fn peers(consensus: &Handle) -> Result<Vec<wire::NetPeer>, Failure> {
    let peers = consensus.read(|view| view.net_peers()).await?;
    Ok(peers.into_iter().map(Into::into).collect())
}

/// One of them.
pub(crate) async fn peer(consensus: &Handle, name: PeerName) -> Result<wire::NetPeer, Failure> {
    let found = consensus.read(move |view| find_peer(view, &name)).await?;
    found.map(Into::into).map_err(Failure::Missing)
}

/// What is wanted of one: it never changes, but another can have its name.
pub(crate) fn revision(peer: &wire::NetPeer) -> Result<Revision, Failure> {
    Revision::of(peer)
}

/// One record. Where there is none, the failure names the nearest.
fn find_peer(view: &View<'_>, name: &PeerName) -> Result<Result<NetPeer, Missing>, ReadError> {
    if let Some(peer) = view.net_peer(name)? {
        return Ok(Ok(peer));
    }
    let similar = nearest(name.as_str(), view.net_peers()?.into_iter().map(|peer| peer.name));
    Ok(Err(Missing::Peer { name: name.clone(), similar }))
}

//! Machines that are no nodes and may reach the guests: an admin adds and removes them.

use super::{
    super::{events::Changes, read::ReadError, rows, stop::Stop, view::View},
    Work,
};
use std::net::Ipv4Addr;
use waifud_model::{
    command::Reply,
    event::{EventKind, Subject},
    mesh::{MeshKey, NetPeer},
    name::PeerName,
    network,
    reject::Reject,
    token::Role,
};

pub(super) fn add(work: &mut Work<'_>, name: &PeerName, key: MeshKey) -> Result<Reply, Stop> {
    work.standing.at_least(Role::Admin)?;
    let view = work.view;
    if view.net_peer(name)?.is_some() {
        return Err(Reject::PeerTaken { what: "name".to_owned(), holder: format!("peer {name}") }.into());
    }
    if let Some(holder) = holder(view, key)? {
        return Err(Reject::PeerTaken { what: "key".to_owned(), holder }.into());
    }
    let peer = NetPeer { name: name.clone(), key, ip: address(view)?, created_at: work.now };
    rows::net_peer::insert(work.db, &peer)?;
    let changes = Changes::none().set("key", peer.key).set("ip", peer.ip);
    work.trail.add(Subject::Peer(peer.name.clone()), EventKind::Created, changes)?;
    Ok(Reply::NetPeer(Box::new(peer)))
}

pub(super) fn remove(work: &mut Work<'_>, name: &PeerName) -> Result<Reply, Stop> {
    work.standing.at_least(Role::Admin)?;
    let peer = work.view.net_peer(name)?.ok_or_else(|| Reject::NoSuchPeer(name.clone()))?;
    rows::net_peer::delete(work.db, name)?;
    let changes = Changes::none().unset("key", peer.key).unset("ip", peer.ip);
    work.trail.add(Subject::Peer(peer.name), EventKind::Deleted, changes)?;
    Ok(Reply::Done)
}

/// Who has this key already: two ends with one key would take each other's packets.
pub(super) fn holder(view: View<'_>, key: MeshKey) -> Result<Option<String>, ReadError> {
    if let Some(peer) = view.net_peers()?.into_iter().find(|peer| peer.key == key) {
        return Ok(Some(format!("peer {}", peer.name)));
    }
    let node = view.nodes()?.into_iter().find(|node| node.mesh.is_some_and(|end| end.key == key));
    Ok(node.map(|node| format!("node {}", node.name)))
}

fn address(view: View<'_>) -> Result<Ipv4Addr, Stop> {
    let cluster = view.cluster()?.ok_or(Reject::NotInitialised)?;
    let subnet = network::peer_subnet(cluster.cidr, cluster.subnet_prefix).ok_or(Reject::NoPeerAddress)?;
    let last = view.one("SELECT last_peer FROM cluster", [], rows::cluster::last_peer)?.flatten();
    for ip in network::guest_addresses(subnet, last) {
        if !view.any("SELECT 1 FROM net_peers WHERE ip = ?1", [ip.to_bits()])? {
            return Ok(ip);
        }
    }
    Err(Reject::NoPeerAddress.into())
}

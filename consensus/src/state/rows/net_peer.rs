//! Machines that are no nodes and may reach the guests, as rows.

use super::{super::stop::Stop, Cells, ReadError, number};
use rusqlite::{Connection, Row, params};
use std::net::Ipv4Addr;
use waifud_model::{
    mesh::{MeshKey, NetPeer},
    name::PeerName,
};

pub(in super::super) const COLUMNS: &str = "name, key, ip, created_at";

pub(in super::super) fn read(row: &Row<'_>) -> Result<NetPeer, ReadError> {
    let mut cells = Cells::of("net_peers", row);
    Ok(NetPeer {
        name: cells.parsed()?,
        key: MeshKey(cells.plain()?),
        ip: Ipv4Addr::from_bits(cells.plain()?),
        created_at: cells.time()?,
    })
}

/// Its address was given last.
pub(in super::super) fn insert(db: &Connection, peer: &NetPeer) -> Result<(), Stop> {
    db.prepare_cached("INSERT INTO net_peers (name, key, ip, created_at) VALUES (?1, ?2, ?3, ?4)")?.execute(
        params![peer.name.as_str(), peer.key.0, peer.ip.to_bits(), number("created_at", peer.created_at.0)?,],
    )?;
    super::cluster::set_last_peer(db, peer.ip)
}

pub(in super::super) fn delete(db: &Connection, name: &PeerName) -> Result<(), Stop> {
    db.prepare_cached("DELETE FROM net_peers WHERE name = ?1")?.execute([name.as_str()])?;
    Ok(())
}

//! The cluster's own row.

use super::{super::stop::Stop, Cells, ReadError};
use ipnet::Ipv4Net;
use rusqlite::{Connection, Row, params};
use std::net::Ipv4Addr;
use waifud_model::state::ClusterInfo;

pub(in super::super) const COLUMNS: &str = "id, ca_cert, ca_key, cidr, subnet_prefix, feature_level";

pub(in super::super) fn read(row: &Row<'_>) -> Result<ClusterInfo, ReadError> {
    let mut cells = Cells::of("cluster", row);
    Ok(ClusterInfo {
        id: cells.parsed()?,
        ca_cert: cells.plain()?,
        ca_key: cells.plain()?,
        cidr: cells.parsed()?,
        subnet_prefix: cells.plain()?,
        feature_level: cells.plain()?,
    })
}

pub(in super::super) fn insert(db: &Connection, info: &ClusterInfo, last_subnet: Ipv4Net) -> Result<(), Stop> {
    db.prepare_cached(
        "INSERT INTO cluster (one, id, ca_cert, ca_key, cidr, subnet_prefix, feature_level, last_subnet)
         VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute(params![
        info.id.to_string(),
        info.ca_cert,
        info.ca_key,
        info.cidr.to_string(),
        info.subnet_prefix,
        info.feature_level,
        last_subnet.to_string(),
    ])?;
    Ok(())
}

/// The subnet given last.
pub(in super::super) fn last_subnet(row: &Row<'_>) -> Result<Ipv4Net, ReadError> {
    Cells::of("cluster", row).parsed()
}

pub(in super::super) fn set_last_subnet(db: &Connection, subnet: Ipv4Net) -> Result<(), Stop> {
    db.prepare_cached("UPDATE cluster SET last_subnet = ?1")?.execute([subnet.to_string()])?;
    Ok(())
}

/// The address given last to a peer.
pub(in super::super) fn last_peer(row: &Row<'_>) -> Result<Option<Ipv4Addr>, ReadError> {
    let bits: Option<u32> = Cells::of("cluster", row).plain()?;
    Ok(bits.map(Ipv4Addr::from_bits))
}

pub(super) fn set_last_peer(db: &Connection, ip: Ipv4Addr) -> Result<(), Stop> {
    db.prepare_cached("UPDATE cluster SET last_peer = ?1")?.execute([ip.to_bits()])?;
    Ok(())
}

pub(in super::super) fn set_feature_level(db: &Connection, level: u32) -> Result<(), Stop> {
    db.prepare_cached("UPDATE cluster SET feature_level = ?1")?.execute([level])?;
    Ok(())
}

//! Nodes as rows.

use super::{super::stop::Stop, Cells, ReadError, number};
use rusqlite::{Connection, Row, params};
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;
use waifud_model::{
    digest::Fingerprint,
    ids::NodeId,
    labels::Labels,
    mesh::{MeshEnd, MeshKey},
    name::BridgeName,
    node::{Arch, Capacity, Node},
    placement::Reserved,
    vm::VmSpec,
};

pub(in super::super) const COLUMNS: &str = "id, name, advertise, fingerprint, cordoned, cpus, threads, memory, disk, subnet, mesh_key, mesh_port, joined_at, more";

/// What has no column.
#[derive(Serialize, Deserialize)]
struct More {
    labels: Labels,
    arch: Arch,
    kvm: bool,
    bridges: Vec<BridgeName>,
}

/// The number that a node's id is kept as; ids that apply lets in are positive.
pub(in super::super) fn key(node: NodeId) -> i64 {
    node.get().cast_signed()
}

pub(in super::super) fn read(row: &Row<'_>) -> Result<Node, ReadError> {
    let mut cells = Cells::of("nodes", row);
    let id = cells.id("id", NodeId::new)?;
    let name = cells.parsed()?;
    let advertise = cells.parsed()?;
    let fingerprint = Fingerprint(cells.plain()?);
    let cordoned = cells.plain()?;
    let (cpus, threads, memory, disk) = (cells.plain()?, cells.plain()?, cells.size()?, cells.size()?);
    let subnet = cells.parsed()?;
    let (key, port): (Option<[u8; 32]>, Option<u16>) = (cells.plain()?, cells.plain()?);
    let mesh = key.zip(port).map(|(key, port)| MeshEnd { key: MeshKey(key), port });
    let joined_at = cells.time()?;
    let More { labels, arch, kvm, bridges } = cells.packed()?;
    let capacity = Capacity { cpus, threads, memory, disk, arch, kvm, bridges };
    Ok(Node { id, name, advertise, fingerprint, labels, cordoned, capacity, subnet, mesh, joined_at })
}

/// Writes the whole row; `REPLACE` is not used, as it would delete what a unique column of the new row collides with.
pub(in super::super) fn insert(db: &Connection, node: &Node) -> Result<(), Stop> {
    write(
        db,
        node,
        "INSERT INTO nodes (id, name, advertise, fingerprint, cordoned, cpus, threads, memory, disk, subnet, joined_at, more,
         mesh_key, mesh_port) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
    )
}

pub(in super::super) fn update(db: &Connection, node: &Node) -> Result<(), Stop> {
    write(
        db,
        node,
        "UPDATE nodes SET name = ?2, advertise = ?3, fingerprint = ?4, cordoned = ?5, cpus = ?6, threads = ?7, memory = ?8,
         disk = ?9, subnet = ?10, joined_at = ?11, more = ?12, mesh_key = ?13, mesh_port = ?14 WHERE id = ?1",
    )
}

fn write(db: &Connection, node: &Node, sql: &str) -> Result<(), Stop> {
    let Capacity { cpus, threads, memory, disk, arch, kvm, bridges } = node.capacity.clone();
    let more = More { labels: node.labels.clone(), arch, kvm, bridges };
    db.prepare_cached(sql)?.execute(params![
        key(node.id),
        node.name.as_str(),
        node.advertise.to_string(),
        node.fingerprint.0,
        node.cordoned,
        cpus,
        threads,
        number("memory", memory.as_bytes())?,
        number("disk", disk.as_bytes())?,
        node.subnet.to_string(),
        number("joined_at", node.joined_at.0)?,
        rmp_serde::to_vec_named(&more)?,
        node.mesh.map(|end| end.key.0),
        node.mesh.map(|end| end.port),
    ])?;
    Ok(())
}

pub(in super::super) fn delete(db: &Connection, node: NodeId) -> Result<(), Stop> {
    db.prepare_cached("DELETE FROM nodes WHERE id = ?1")?.execute([key(node)])?;
    Ok(())
}

/// The guest address given last on the node.
pub(in super::super) fn last_ip(row: &Row<'_>) -> Result<Option<Ipv4Addr>, ReadError> {
    let bits: Option<u32> = Cells::of("nodes", row).plain()?;
    Ok(bits.map(Ipv4Addr::from_bits))
}

/// One VM counts for another on a node, or one more, or one less; `given` is the address given with it.
pub(super) fn recount(
    db: &Connection,
    node: NodeId,
    [before, after]: [Option<&VmSpec>; 2],
    given: Option<Ipv4Addr>,
) -> Result<(), Stop> {
    let difference = |what: &str, of: fn(&VmSpec) -> u64| {
        let of = |spec: Option<&VmSpec>| number(what, spec.map_or(0, of));
        Ok::<_, Stop>(of(after)? - of(before)?)
    };
    db.prepare_cached(
        "UPDATE nodes SET vms = vms + ?2, vms_cpus = vms_cpus + ?3, vms_memory = vms_memory + ?4,
         vms_disk = vms_disk + ?5, last_ip = coalesce(?6, last_ip) WHERE id = ?1",
    )?
    .execute(params![
        key(node),
        i64::from(after.is_some()) - i64::from(before.is_some()),
        difference("cpus", |spec| spec.cpus.into())?,
        difference("memory", |spec| spec.memory_promised().as_bytes())?,
        difference("disk", |spec| spec.disk_promised().as_bytes())?,
        given.map(Ipv4Addr::to_bits),
    ])?;
    Ok(())
}

pub(in super::super) const RESERVED_COLUMNS: &str = "id, vms_cpus, vms_memory, vms_disk, vms";

/// What a node has promised to its VMs.
pub(in super::super) fn read_reserved(row: &Row<'_>) -> Result<(NodeId, Reserved), ReadError> {
    let mut cells = Cells::of("nodes", row);
    let id = cells.id("id", NodeId::new)?;
    let (cpus, memory, disk, vms) = (cells.unsigned()?, cells.size()?, cells.size()?, cells.plain()?);
    Ok((id, Reserved { cpus, memory, disk, vms }))
}

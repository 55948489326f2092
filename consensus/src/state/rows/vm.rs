//! VMs as rows.

use super::{super::stop::Stop, Cells, ReadError, Word, corrupt, number};
use rusqlite::{Connection, Row, params};
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;
use waifud_model::{
    digest::Blake3,
    ids::{Generation, NodeId, VmId},
    labels::Labels,
    vm::{ImageRef, Mac, RestartPolicy, UserData, Vm, VmSpec},
};

pub(in super::super) const COLUMNS: &str = "id, name, node, cpus, memory, disk, template, version, desired, phase, ip, \
                                            mac, generation, created_at, more, user_data";

/// What has no column.
#[derive(Serialize, Deserialize)]
struct More {
    ssh_keys: Vec<String>,
    labels: Labels,
    restart: RestartPolicy,
}

pub(in super::super) fn read(row: &Row<'_>) -> Result<Vm, ReadError> {
    let mut cells = Cells::of("vms", row);
    let id: [u8; 16] = cells.plain()?;
    let id = cells.known("id", VmId::from_bytes(id))?;
    let name = cells.parsed()?;
    let node = cells.id("node", NodeId::new)?;
    let (cpus, memory, disk) = (cells.plain()?, cells.size()?, cells.size()?);
    let image = ImageRef { template: cells.parsed()?, version: Blake3(cells.plain()?) };
    let (desired, phase) = (cells.word()?, cells.word()?);
    let ip = Ipv4Addr::from_bits(cells.plain()?);
    let mac = Mac(cells.plain()?);
    let generation = Generation(cells.unsigned()?);
    let created_at = cells.time()?;
    let More { ssh_keys, labels, restart } = cells.packed()?;
    let user_data: Option<Vec<u8>> = cells.plain()?;
    let user_data = user_data.map(UserData::new).transpose().map_err(corrupt("vms"))?;
    let spec = VmSpec { cpus, memory, disk, image, user_data, ssh_keys, labels, restart };
    Ok(Vm { id, name, node, spec, desired, phase, ip, mac, generation, created_at })
}

pub(in super::super) fn insert(db: &Connection, vm: &Vm) -> Result<(), Stop> {
    let spec = &vm.spec;
    let more = More { ssh_keys: spec.ssh_keys.clone(), labels: spec.labels.clone(), restart: spec.restart };
    db.prepare_cached(
        "INSERT INTO vms (id, name, node, cpus, memory, disk, template, version, desired, phase, ip, mac, generation,
         created_at, more, user_data) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
    )?
    .execute(params![
        vm.id.as_bytes(),
        vm.name.as_str(),
        super::node::key(vm.node),
        spec.cpus,
        number("memory", spec.memory.as_bytes())?,
        number("disk", spec.disk.as_bytes())?,
        spec.image.template.as_str(),
        spec.image.version.0,
        vm.desired.word(),
        vm.phase.word(),
        vm.ip.to_bits(),
        vm.mac.0,
        number("generation", vm.generation.0)?,
        number("created_at", vm.created_at.0)?,
        rmp_serde::to_vec_named(&more)?,
        spec.user_data.as_ref().map(UserData::as_bytes),
    ])?;
    super::node::count_in(db, vm)
}

/// Writes what commands change: what is wanted, and how often that was changed.
pub(in super::super) fn update(db: &Connection, vm: &Vm) -> Result<(), Stop> {
    db.prepare_cached("UPDATE vms SET desired = ?2, phase = ?3, generation = ?4 WHERE id = ?1")?.execute(params![
        vm.id.as_bytes(),
        vm.desired.word(),
        vm.phase.word(),
        number("generation", vm.generation.0)?,
    ])?;
    Ok(())
}

pub(in super::super) fn delete(db: &Connection, vm: &Vm) -> Result<(), Stop> {
    db.prepare_cached("DELETE FROM vms WHERE id = ?1")?.execute([vm.id.as_bytes()])?;
    super::node::count_out(db, vm)
}

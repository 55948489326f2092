//! VMs as rows.

use super::{super::stop::Stop, Cells, ReadError, Word, number};
use rusqlite::{Connection, Row, params};
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;
use waifud_model::{
    cloud_init::{CloudInit, Datasource, Imds, UserData},
    digest::Blake3,
    ids::{Generation, NodeId, VmId},
    labels::Labels,
    vm::{ImageRef, Mac, RestartPolicy, Vm, VmSpec},
};

pub(in super::super) const COLUMNS: &str = "id, name, node, cpus, memory, disk, template, version, desired, phase, ip, \
                                            mac, generation, instance, created_at, more, \
                                            user_data, network_config";

/// What has no column.
#[derive(Serialize, Deserialize)]
struct More {
    ssh_keys: Vec<String>,
    datasource: Datasource,
    imds: Imds,
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
    let instance = cells.plain()?;
    let created_at = cells.time()?;
    let More { ssh_keys, datasource, imds, labels, restart } = cells.packed()?;
    let (user_data, network_config) = (super::document(&mut cells)?, super::document(&mut cells)?);
    let cloud_init = CloudInit { user_data, network_config, ssh_keys, datasource, imds };
    let spec = VmSpec { cpus, memory, disk, image, cloud_init, labels, restart };
    Ok(Vm { id, name, node, spec, desired, phase, ip, mac, generation, instance, created_at })
}

pub(in super::super) fn insert(db: &Connection, vm: &Vm) -> Result<(), Stop> {
    let spec = &vm.spec;
    db.prepare_cached(
        "INSERT INTO vms (id, name, node, cpus, memory, disk, template, version, desired, phase, ip, mac, generation, instance,
         created_at, more, user_data, network_config)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)",
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
        vm.instance,
        number("created_at", vm.created_at.0)?,
        more(spec)?,
        spec.cloud_init.user_data.as_ref().map(UserData::as_bytes),
        spec.cloud_init.network_config.as_ref().map(UserData::as_bytes),
    ])?;
    super::node::count_in(db, vm)
}

fn more(spec: &VmSpec) -> Result<Vec<u8>, Stop> {
    let VmSpec { cloud_init: CloudInit { ssh_keys, datasource, imds, .. }, labels, restart, .. } = spec.clone();
    Ok(rmp_serde::to_vec_named(&More { ssh_keys, datasource, imds, labels, restart })?)
}

/// Writes what a guest is told, and which life of it that begins.
pub(in super::super) fn update_cloud_init(db: &Connection, vm: &Vm) -> Result<(), Stop> {
    let told = &vm.spec.cloud_init;
    db.prepare_cached(
        "UPDATE vms SET generation = ?2, instance = ?3, more = ?4, user_data = ?5, network_config = ?6 WHERE id = ?1",
    )?
    .execute(params![
        vm.id.as_bytes(),
        number("generation", vm.generation.0)?,
        vm.instance,
        more(&vm.spec)?,
        told.user_data.as_ref().map(UserData::as_bytes),
        told.network_config.as_ref().map(UserData::as_bytes),
    ])?;
    Ok(())
}

/// Writes what most commands change: what is wanted, and how often that was changed.
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

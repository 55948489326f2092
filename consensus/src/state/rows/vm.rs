//! VMs as rows.

use super::{
    super::{
        brief::{DocumentBrief, VmBrief},
        stop::Stop,
    },
    Cells, ReadError, Word, number,
};
use rusqlite::{Connection, Row, params};
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;
use waifud_model::{
    cloud_init::{CloudInit, Datasource, Imds, UserData},
    digest::Blake3,
    hardware::Hardware,
    ids::{Generation, NodeId, VmId},
    labels::Labels,
    name::VmName,
    vm::{ImageRef, Mac, RestartPolicy, Vm, VmSpec},
};

pub(in super::super) const COLUMNS: &str = "id, name, node, cpus, memory, disk, template, version, desired, phase, ip, \
                                            mac, generation, instance, created_at, more, \
                                            user_data, network_config";

/// All but the documents, which come last in the row: what stands before them is read without them.
pub(in super::super) const BRIEF_COLUMNS: &str = "id, name, node, cpus, memory, disk, template, version, desired, phase, \
                                                  ip, mac, generation, instance, created_at, more";

/// What has no column.
#[derive(Serialize, Deserialize)]
struct More {
    ssh_keys: Vec<String>,
    datasource: Datasource,
    imds: Imds,
    labels: Labels,
    restart: RestartPolicy,
    description: String,
    protected: bool,
    autostart: bool,
    hardware: Hardware,
    disk_life: u32,
    reboots: u32,
    grace: Option<u32>,
    /// What lists show of the documents: kept twice, so that they need not read and hash each.
    user_data: Option<DocumentBrief>,
    network_config: Option<DocumentBrief>,
}

pub(in super::super) fn read(row: &Row<'_>) -> Result<Vm, ReadError> {
    let mut cells = Cells::of("vms", row);
    let VmBrief { mut vm, .. } = brief(&mut cells)?;
    let told = &mut vm.spec.cloud_init;
    (told.user_data, told.network_config) = (super::document(&mut cells)?, super::document(&mut cells)?);
    Ok(vm)
}

pub(in super::super) fn read_brief(row: &Row<'_>) -> Result<VmBrief, ReadError> {
    brief(&mut Cells::of("vms", row))
}

pub(in super::super) fn read_name(row: &Row<'_>) -> Result<(VmName, NodeId), ReadError> {
    let mut cells = Cells::of("vms", row);
    Ok((cells.parsed()?, cells.id("node", NodeId::new)?))
}

fn brief(cells: &mut Cells<'_>) -> Result<VmBrief, ReadError> {
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
    let more: More = cells.packed()?;
    let cloud_init = CloudInit {
        user_data: None,
        network_config: None,
        ssh_keys: more.ssh_keys,
        datasource: more.datasource,
        imds: more.imds,
    };
    let spec = VmSpec {
        cpus,
        memory,
        disk,
        image,
        cloud_init,
        labels: more.labels,
        restart: more.restart,
        description: more.description,
        protected: more.protected,
        autostart: more.autostart,
        hardware: more.hardware,
    };
    let More { disk_life, reboots, grace, .. } = more;
    let vm = Vm {
        id,
        name,
        node,
        spec,
        desired,
        phase,
        ip,
        mac,
        generation,
        instance,
        disk_life,
        reboots,
        grace,
        created_at,
    };
    Ok(VmBrief { vm, user_data: more.user_data, network_config: more.network_config })
}

pub(in super::super) fn insert(db: &Connection, vm: &Vm) -> Result<(), Stop> {
    write(
        db,
        vm,
        "INSERT INTO vms (id, name, node, cpus, memory, disk, template, version, desired, phase, ip, mac, generation, instance,
         created_at, more, cd_template, cd_version, user_data, network_config)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20)",
    )?;
    super::node::recount(db, vm.node, [None, Some(&vm.spec)], Some(vm.ip))
}

/// Writes everything, for whatever changed of it. `before` is what its node was counted for until now.
pub(in super::super) fn update(db: &Connection, vm: &Vm, before: &VmSpec) -> Result<(), Stop> {
    write(
        db,
        vm,
        "UPDATE vms SET name = ?2, node = ?3, cpus = ?4, memory = ?5, disk = ?6, template = ?7, version = ?8, desired = ?9,
         phase = ?10, ip = ?11, mac = ?12, generation = ?13, instance = ?14, created_at = ?15, more = ?16, cd_template = ?17,
         cd_version = ?18, user_data = ?19, network_config = ?20 WHERE id = ?1",
    )?;
    if *before == vm.spec {
        return Ok(());
    }
    super::node::recount(db, vm.node, [Some(before), Some(&vm.spec)], None)
}

fn write(db: &Connection, vm: &Vm, sql: &str) -> Result<(), Stop> {
    let spec = &vm.spec;
    let cd = spec.hardware.cd.as_ref();
    db.prepare_cached(sql)?.execute(params![
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
        more(vm)?,
        cd.map(|cd| cd.template.as_str()),
        cd.map(|cd| cd.version.0),
        spec.cloud_init.user_data.as_ref().map(UserData::as_bytes),
        spec.cloud_init.network_config.as_ref().map(UserData::as_bytes),
    ])?;
    Ok(())
}

fn more(vm: &Vm) -> Result<Vec<u8>, Stop> {
    let spec = vm.spec.clone();
    let CloudInit { user_data, network_config, ssh_keys, datasource, imds } = spec.cloud_init;
    let [user_data, network_config] = [user_data, network_config].map(|document| document.as_ref().map(Into::into));
    Ok(rmp_serde::to_vec_named(&More {
        ssh_keys,
        datasource,
        imds,
        labels: spec.labels,
        restart: spec.restart,
        description: spec.description,
        protected: spec.protected,
        autostart: spec.autostart,
        hardware: spec.hardware,
        disk_life: vm.disk_life,
        reboots: vm.reboots,
        grace: vm.grace,
        user_data,
        network_config,
    })?)
}

/// Writes what is wanted, and how often that was changed: the rest of the row need not be written for it.
pub(in super::super) fn update_wish(db: &Connection, vm: &Vm) -> Result<(), Stop> {
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
    super::node::recount(db, vm.node, [Some(&vm.spec), None], None)
}

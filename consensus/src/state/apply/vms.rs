//! VMs: created, started and stopped, deleted, gone.

use super::{
    super::{events::Changes, rows, rows::Word, stop::Stop, view::View},
    Work, limits,
};
use std::net::Ipv4Addr;
use waifud_model::{
    command::{CreateVm, Reply},
    event::{EventKind, Subject},
    ids::{Generation, VmId},
    network,
    node::Node,
    placement,
    reject::Reject,
    token::Role,
    vm::{Desired, Mac, Phase, Vm, VmSpec},
};

pub(super) fn subject(vm: &Vm) -> Subject {
    Subject::Vm(vm.id, vm.name.clone())
}

pub(super) fn find(view: View<'_>, id: VmId) -> Result<Vm, Stop> {
    view.vm(id)?.ok_or_else(|| Reject::NoSuchVm(id).into())
}

/// Refuses what was decided on an older generation.
pub(super) fn expected(vm: &Vm, expect: Option<Generation>) -> Result<(), Reject> {
    match expect {
        Some(expected) if expected != vm.generation => {
            Err(Reject::Stale { vm: vm.id, expected, actual: vm.generation })
        }
        _ => Ok(()),
    }
}

pub(super) fn create(work: &mut Work<'_>, create: &CreateVm) -> Result<Reply, Stop> {
    work.standing.at_least(Role::Operator)?;
    let view = work.view;
    if view.vm(create.id)?.is_some() {
        return Err(Reject::IdTaken(create.id.to_string()).into());
    }
    if let Some(holder) = view.vm_by_name(&create.name)? {
        let name = create.name.clone();
        return Err(Reject::VmNameTaken { name, holder: holder.id, node: holder.node }.into());
    }
    let node = view.node(create.node)?.ok_or(Reject::NoSuchNode(create.node))?;
    if node.cordoned {
        return Err(Reject::Cordoned(node.id).into());
    }
    limits::vm(create.id, &create.spec, &node)?;
    image(view, &create.spec)?;
    fits(view, &create.spec, &node)?;
    let ip = address(view, &node)?;
    let vm = Vm {
        id: create.id,
        name: create.name.clone(),
        node: create.node,
        spec: create.spec.clone(),
        desired: create.desired,
        phase: Phase::Live,
        ip,
        mac: Mac::of(ip),
        generation: Generation::FIRST,
        instance: 1,
        created_at: work.now,
    };
    rows::vm::insert(work.db, &vm)?;
    work.trail.add(subject(&vm), EventKind::Created, born(&vm))?;
    Ok(Reply::Vm(Box::new(vm)))
}

fn image(view: View<'_>, spec: &VmSpec) -> Result<(), Stop> {
    let (template, version) = (&spec.image.template, spec.image.version);
    let Some(found) = view.template_version(template, version)? else {
        let template = template.clone();
        return Err(match view.newest_version(&template)? {
            None => Reject::NoSuchTemplate(template),
            Some(_) => Reject::NoSuchVersion { template, version },
        }
        .into());
    };
    if spec.disk < found.virtual_size {
        return Err(Reject::DiskTooSmall { wanted: spec.disk, least: found.virtual_size }.into());
    }
    Ok(())
}

fn fits(view: View<'_>, spec: &VmSpec, node: &Node) -> Result<(), Stop> {
    let reserved = view.reserved(node.id)?;
    let shortages = placement::shortages(&node.capacity, &reserved, spec.cpus, spec.memory, spec.disk);
    match shortages.first() {
        None => Ok(()),
        Some(&placement::Shortage { resource, wanted, free }) => {
            Err(Reject::DoesNotFit { node: node.id, resource, wanted, free }.into())
        }
    }
}

fn address(view: View<'_>, node: &Node) -> Result<Ipv4Addr, Stop> {
    let key = rows::node::key(node.id);
    let last = view.one("SELECT last_ip FROM nodes WHERE id = ?1", [key], rows::node::last_ip)?.flatten();
    for ip in network::guest_addresses(node.subnet, last) {
        if !view.any("SELECT 1 FROM vms WHERE ip = ?1", [ip.to_bits()])? {
            return Ok(ip);
        }
    }
    Err(Reject::NoAddress(node.id).into())
}

fn born(vm: &Vm) -> Changes {
    let spec = &vm.spec;
    let mut changes = Changes::none()
        .set("node", vm.node)
        .set("cpus", spec.cpus)
        .set("memory", spec.memory)
        .set("disk", spec.disk)
        .set("image", format_args!("{}@{}", spec.image.template, spec.image.version))
        .set("desired", vm.desired.word())
        .set("ip", vm.ip)
        .set("mac", vm.mac);
    for (key, value) in spec.labels.iter() {
        changes = changes.set(&format!("labels.{key}"), value);
    }
    let told = &spec.cloud_init;
    for key in &told.ssh_keys {
        changes = changes.set("ssh_keys", key);
    }
    for (field, document) in [("user_data", &told.user_data), ("network_config", &told.network_config)] {
        if let Some(document) = document {
            changes = changes.secret(field, document.as_bytes());
        }
    }
    changes.set("datasource", told.datasource).set("imds", told.imds)
}

pub(super) fn set_power(
    work: &mut Work<'_>,
    id: VmId,
    desired: Desired,
    expect: Option<Generation>,
) -> Result<Reply, Stop> {
    let mut vm = owned(work, id)?;
    if vm.phase == Phase::Deleting {
        return Err(Reject::VmDeleting(id).into());
    }
    expected(&vm, expect)?;
    let changes = wish(&mut vm, desired);
    rows::vm::update(work.db, &vm)?;
    work.trail.add(subject(&vm), EventKind::Changed, changes)?;
    Ok(Reply::Vm(Box::new(vm)))
}

/// An operator's word, or that of the owner, who may have carried out a wish while there was no quorum.
fn owned(work: &Work<'_>, id: VmId) -> Result<Vm, Stop> {
    if work.standing.node().is_err() {
        work.standing.at_least(Role::Operator)?;
    }
    let vm = find(work.view, id)?;
    work.standing.at_least_or_owner(Role::Operator, vm.node)?;
    Ok(vm)
}

/// Changes what is wanted of a VM; a wish that is granted already changes nothing.
pub(super) fn wish(vm: &mut Vm, desired: Desired) -> Changes {
    if vm.desired == desired {
        return Changes::none();
    }
    let before = std::mem::replace(&mut vm.desired, desired);
    vm.generation = vm.generation.next();
    Changes::none().diff("desired", &before.word(), &desired.word())
}

/// To delete what is being deleted is no mistake: whoever asks twice wants the same.
pub(super) fn delete(work: &mut Work<'_>, id: VmId, expect: Option<Generation>) -> Result<Reply, Stop> {
    work.standing.at_least(Role::Operator)?;
    let mut vm = find(work.view, id)?;
    expected(&vm, expect)?;
    let before = std::mem::replace(&mut vm.phase, Phase::Deleting);
    rows::vm::update(work.db, &vm)?;
    let changes = Changes::none().diff("phase", &before.word(), &vm.phase.word());
    work.trail.add(subject(&vm), EventKind::Deleting, changes)?;
    Ok(Reply::Vm(Box::new(vm)))
}

pub(super) fn confirm_gone(work: &mut Work<'_>, id: VmId) -> Result<Reply, Stop> {
    work.standing.node()?;
    let vm = find(work.view, id)?;
    work.standing.owner(vm.node)?;
    if vm.phase != Phase::Deleting {
        return Err(Reject::NotDeleting(id).into());
    }
    drop_row(work, &vm)?;
    Ok(Reply::Done)
}

/// The VM is gone: name, address and MAC are free.
pub(super) fn drop_row(work: &mut Work<'_>, vm: &Vm) -> Result<(), Stop> {
    rows::vm::delete(work.db, vm)?;
    let changes = Changes::none().unset("node", vm.node).unset("ip", vm.ip).unset("mac", vm.mac);
    work.trail.add(subject(vm), EventKind::Deleted, changes)
}

//! What a VM is made of changes: its hardware and settings, its name, its root disk.

use super::{
    super::{events::Changes, rows, stop::Stop, view::View},
    Work, limits,
    vms::{expected, find, fits, name_is_free, stands_on, subject},
};
use waifud_model::{
    change::VmChange,
    command::Reply,
    event::EventKind,
    ids::{Generation, VmId},
    name::{BridgeName, VmName},
    node::Node,
    reject::Reject,
    size::ByteSize,
    token::Role,
    vm::{ImageRef, Phase, Vm, VmSpec},
};

/// A VM that an operator may change now.
fn changeable(work: &Work<'_>, id: VmId, expect: Option<Generation>) -> Result<Vm, Stop> {
    work.standing.at_least(Role::Operator)?;
    let vm = find(work.view, id)?;
    if vm.phase == Phase::Deleting {
        return Err(Reject::VmDeleting(id).into());
    }
    expected(&vm, expect)?;
    Ok(vm)
}

/// Writes a VM whose every field was checked. A repetition changes nothing, and nobody has to act on it.
fn write(work: &mut Work<'_>, before: &Vm, mut vm: Vm, changes: Changes) -> Result<Reply, Stop> {
    if vm != *before {
        vm.generation = before.generation.next();
    }
    rows::vm::update(work.db, &vm, &before.spec)?;
    work.trail.add(subject(&vm), EventKind::Changed, changes)?;
    Ok(Reply::Vm(Box::new(vm)))
}

pub(super) fn change(
    work: &mut Work<'_>,
    id: VmId,
    change: &VmChange,
    expect: Option<Generation>,
) -> Result<Reply, Stop> {
    let before = changeable(work, id, expect)?;
    let (spec, changes) = outcome(work.view, &before, change)?;
    let vm = Vm { spec, ..before.clone() };
    write(work, &before, vm, changes)
}

/// What a VM is made of after a change, if it can be, and what is different then.
pub(in super::super) fn outcome(view: View<'_>, before: &Vm, change: &VmChange) -> Result<(VmSpec, Changes), Stop> {
    let spec = change.applied(before)?;
    let node = view.node(before.node)?.ok_or(Reject::NoSuchNode(before.node))?;
    limits::vm(before.id, &spec, &node)?;
    stands_on(view, &spec)?;
    fits(view, &spec, Some(&before.spec), &node)?;
    let changes = diff(&before.spec, &spec);
    Ok((spec, changes))
}

pub(super) fn rename(work: &mut Work<'_>, id: VmId, name: &VmName, expect: Option<Generation>) -> Result<Reply, Stop> {
    let before = changeable(work, id, expect)?;
    name_is_free(work.view, name, Some(id))?;
    let changes = Changes::none().diff("name", &before.name, name);
    let vm = Vm { name: name.clone(), ..before.clone() };
    write(work, &before, vm, changes)
}

pub(super) fn reinit(
    work: &mut Work<'_>,
    id: VmId,
    image: &ImageRef,
    expect: Option<Generation>,
) -> Result<Reply, Stop> {
    let before = changeable(work, id, expect)?;
    if before.spec.protected {
        return Err(Reject::Protected(id).into());
    }
    let next = |count: u32| {
        count.checked_add(1).ok_or_else(|| Reject::BadSpec {
            field: "image".to_owned(),
            why: "this VM has been made anew too often".to_owned(),
        })
    };
    let mut vm = before.clone();
    vm.spec.image = image.clone();
    stands_on(work.view, &vm.spec)?;
    (vm.instance, vm.disk_life) = (next(vm.instance)?, next(vm.disk_life)?);
    let shown = |image: &ImageRef| format!("{}@{}", image.template, image.version);
    let changes = Changes::none()
        .diff("image", &shown(&before.spec.image), &shown(image))
        .diff("instance", &before.instance, &vm.instance)
        .diff("disk_life", &before.disk_life, &vm.disk_life);
    write(work, &before, vm, changes)
}

/// The bridges of a VM are bridges of its node that VMs may be on.
pub(super) fn bridges(spec: &VmSpec, node: &Node) -> Result<(), Reject> {
    match spec.hardware.bridges.iter().find(|bridge| !node.capacity.bridges.contains(bridge)) {
        Some(bridge) => Err(Reject::NoSuchBridge { node: node.id, bridge: bridge.clone() }),
        None => Ok(()),
    }
}

/// Field by field; also what a new VM has beyond what every VM has, seen from one that has nothing.
pub(super) fn diff(old: &VmSpec, new: &VmSpec) -> Changes {
    let (was, is) = (&old.hardware, &new.hardware);
    let size = |size: Option<ByteSize>| size.map_or_else(|| "none".to_owned(), |size| size.to_string());
    let cd = |cd: &Option<ImageRef>| {
        cd.as_ref().map_or_else(|| "none".to_owned(), |cd| format!("{}@{}", cd.template, cd.version))
    };
    let bridges = |names: &[BridgeName]| names.iter().map(BridgeName::as_str).collect::<Vec<_>>().join(" ");
    let mut changes = Changes::none()
        .diff("cpus", &old.cpus, &new.cpus)
        .diff("memory", &old.memory, &new.memory)
        .diff("memory_max", &size(was.memory_max), &size(is.memory_max))
        .diff("disk", &old.disk, &new.disk)
        .labels(&old.labels, &new.labels)
        .diff("description", &old.description, &new.description)
        .diff("protected", &old.protected, &new.protected)
        .diff("autostart", &old.autostart, &new.autostart)
        .diff("restart", &old.restart, &new.restart)
        .diff("firmware", &was.firmware, &is.firmware)
        .diff("cpu_model", &was.cpu_model, &is.cpu_model)
        .diff("cd", &cd(&was.cd), &cd(&is.cd))
        .diff("bridges", &bridges(&was.bridges), &bridges(&is.bridges));
    for gone in was.disks.iter().filter(|disk| is.disk(&disk.name).is_none()) {
        changes = changes.unset(&format!("disks.{}", gone.name), gone.size);
    }
    for disk in &is.disks {
        let field = format!("disks.{}", disk.name);
        changes = match was.disk(&disk.name) {
            None => changes.set(&field, disk.size),
            Some(before) => changes.diff(&field, &before.size, &disk.size),
        };
    }
    changes
}

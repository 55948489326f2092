//! VMs: created, deleted, gone.

use super::{
    super::{events::Changes, rows, rows::Word, stop::Stop, view::View},
    Work, changes, limits,
};
use std::net::Ipv4Addr;
use waifud_model::{
    change,
    command::{CreateVm, Reply},
    event::{EventKind, Subject},
    ids::{Generation, VmId},
    name::VmName,
    network,
    node::Node,
    placement,
    reject::{Reject, Resource},
    template::{ImageFormat, TemplateVersion},
    token::Role,
    vm::{Console, ImageRef, Phase, Vm, VmSpec},
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
    let vm = create.record(settled(work.view, create)?, work.now);
    rows::vm::insert(work.db, &vm)?;
    work.trail.add(subject(&vm), EventKind::Created, born(&vm))?;
    Ok(Reply::Vm(Box::new(vm)))
}

/// The address that the new VM gets, if it may be made.
pub(in super::super) fn settled(view: View<'_>, create: &CreateVm) -> Result<Ipv4Addr, Stop> {
    if view.vm(create.id)?.is_some() {
        return Err(Reject::IdTaken(create.id.to_string()).into());
    }
    name_is_free(view, &create.name, None)?;
    let node = view.node(create.node)?.ok_or(Reject::NoSuchNode(create.node))?;
    if node.cordoned {
        return Err(Reject::Cordoned(node.id).into());
    }
    // A change is checked where it is made.
    change::check(&create.spec)?;
    limits::vm(create.id, &create.spec, &node)?;
    stands_on(view, &create.spec)?;
    fits(view, &create.spec, None, &node)?;
    address(view, &node)
}

/// Refuses a name that another VM than `own` has.
pub(super) fn name_is_free(view: View<'_>, name: &VmName, own: Option<VmId>) -> Result<(), Stop> {
    match view.vm_by_name(name)? {
        Some(holder) if Some(holder.id) != own => {
            Err(Reject::VmNameTaken { name: name.clone(), holder: holder.id, node: holder.node }.into())
        }
        _ => Ok(()),
    }
}

/// The images that a VM starts from and has in its drive are there, and of the right kind.
pub(super) fn stands_on(view: View<'_>, spec: &VmSpec) -> Result<(), Stop> {
    let least = image(view, &spec.image)?.least_disk();
    if spec.disk < least {
        return Err(Reject::DiskTooSmall { wanted: spec.disk, least }.into());
    }
    let Some(cd) = &spec.hardware.cd else { return Ok(()) };
    if image(view, cd)?.format != ImageFormat::Iso {
        let wanted = "a CD (ISO 9660)".to_owned();
        return Err(Reject::WrongFormat { template: cd.template.clone(), wanted }.into());
    }
    Ok(())
}

fn image(view: View<'_>, image: &ImageRef) -> Result<TemplateVersion, Stop> {
    let ImageRef { template, version } = image.clone();
    match view.template_version(&template, version)? {
        Some(found) => Ok(found),
        None => Err(match view.newest_version(&template)? {
            None => Reject::NoSuchTemplate(template),
            Some(_) => Reject::NoSuchVersion { template, version },
        }
        .into()),
    }
}

/// There is room on `node`, where `before` is what is counted for the VM until now.
pub(super) fn fits(view: View<'_>, spec: &VmSpec, before: Option<&VmSpec>, node: &Node) -> Result<(), Stop> {
    let mut reserved = view.reserved(node.id)?;
    if let Some(before) = before {
        reserved.cpus = reserved.cpus.saturating_sub(before.cpus.into());
        reserved.memory = reserved.memory.saturating_sub(before.memory_promised());
        reserved.disk = reserved.disk.saturating_sub(before.disk_promised());
    }
    let (memory, disk) = (spec.memory_promised(), spec.disk_promised());
    // A host that became smaller than what it has promised takes nothing more, and nothing is taken from it for that.
    let grows = |of: fn(&VmSpec) -> u64| before.is_none_or(|before| of(before) < of(spec));
    let shortages = placement::shortages(&node.capacity, &reserved, spec.cpus, memory, disk);
    let short = shortages.iter().find(|short| match short.resource {
        Resource::Cpus => grows(|spec| spec.cpus.into()),
        Resource::Memory => grows(|spec| spec.memory_promised().as_bytes()),
        Resource::Disk => grows(|spec| spec.disk_promised().as_bytes()),
    });
    match short {
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
    let told = &spec.cloud_init;
    for key in &told.ssh_keys {
        changes = changes.set("ssh_keys", key);
    }
    for (field, document) in [("user_data", &told.user_data), ("network_config", &told.network_config)] {
        if let Some(document) = document {
            changes = changes.secret(field, document.as_bytes());
        }
    }
    let plain = VmSpec::new(spec.cpus, spec.memory, spec.disk, spec.image.clone());
    changes.set("datasource", told.datasource).set("imds", told.imds).and(changes::diff(&plain, spec))
}

/// To delete what is being deleted is no mistake: whoever asks twice wants the same.
pub(super) fn delete(work: &mut Work<'_>, id: VmId, expect: Option<Generation>) -> Result<Reply, Stop> {
    work.standing.at_least(Role::Operator)?;
    let mut vm = find(work.view, id)?;
    expected(&vm, expect)?;
    if vm.spec.protected {
        return Err(Reject::Protected(id).into());
    }
    let before = std::mem::replace(&mut vm.phase, Phase::Deleting);
    rows::vm::update_wish(work.db, &vm)?;
    let changes = Changes::none().diff("phase", &before.word(), &vm.phase.word());
    work.trail.add(subject(&vm), EventKind::Deleting, changes)?;
    Ok(Reply::Vm(Box::new(vm)))
}

/// It is open by then, whatever is said here: a VM that is being deleted has been looked at too.
pub(super) fn open_console(work: &mut Work<'_>, id: VmId, console: Console) -> Result<Reply, Stop> {
    work.standing.at_least(Role::Operator)?;
    let vm = find(work.view, id)?;
    work.trail.add(subject(&vm), EventKind::Opened, Changes::none().set("console", console))?;
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

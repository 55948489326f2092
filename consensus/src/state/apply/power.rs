//! Power: start, stop, pause, resume, reboot. What is asked is kept as a wish, which the owner brings about.

use super::{
    super::{events::Changes, rows, rows::Word, stop::Stop},
    Work,
    vms::{expected, find, subject},
};
use waifud_model::{
    command::Reply,
    event::EventKind,
    ids::{Generation, VmId},
    reject::Reject,
    token::Role,
    vm::{Desired, Phase, Vm},
};

pub(super) fn set(
    work: &mut Work<'_>,
    id: VmId,
    desired: Desired,
    grace: Option<u32>,
    expect: Option<Generation>,
) -> Result<Reply, Stop> {
    let mut vm = owned(work, id)?;
    expected(&vm, expect)?;
    if desired == Desired::Paused && vm.desired == Desired::Stopped {
        return Err(Reject::NotRunning(id).into());
    }
    let (grace_before, before) = (vm.grace, vm.generation);
    // Only a stop is given time; whoever asks a second time may be in a greater hurry.
    vm.grace = grace.filter(|_| desired == Desired::Stopped);
    let mut changes = wish(&mut vm, desired);
    if vm.grace == grace_before {
        rows::vm::update_wish(work.db, &vm)?;
    } else {
        changes = changes.diff("grace", &seconds(grace_before), &seconds(vm.grace));
        vm.generation = before.next();
        rows::vm::update(work.db, &vm, &vm.spec)?;
    }
    work.trail.add(subject(&vm), EventKind::Changed, changes)?;
    Ok(Reply::Vm(Box::new(vm)))
}

pub(super) fn reboot(
    work: &mut Work<'_>,
    id: VmId,
    grace: Option<u32>,
    expect: Option<Generation>,
) -> Result<Reply, Stop> {
    let mut vm = owned(work, id)?;
    expected(&vm, expect)?;
    if vm.desired != Desired::Running {
        return Err(Reject::NotRunning(id).into());
    }
    let before = vm.reboots;
    vm.reboots = before.checked_add(1).ok_or_else(|| Reject::BadSpec {
        field: "reboots".to_owned(),
        why: "it was rebooted too often to count".to_owned(),
    })?;
    vm.grace = grace;
    vm.generation = vm.generation.next();
    rows::vm::update(work.db, &vm, &vm.spec)?;
    let changes = Changes::none().diff("reboots", &before, &vm.reboots);
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
    if vm.phase == Phase::Deleting {
        return Err(Reject::VmDeleting(id).into());
    }
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

fn seconds(grace: Option<u32>) -> String {
    grace.map_or_else(|| "usual".to_owned(), |seconds| format!("{seconds} s"))
}

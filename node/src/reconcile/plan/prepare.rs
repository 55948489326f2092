//! What has to be there before a guest can be started: image, disks, address, definition.

use super::{Hold, Observed, Plan, Step};
use crate::volumes::DataVolume;
use std::path::{Path, PathBuf};
use waifud_model::{hardware::DataDisk, observed::VmState, vm::Vm};

/// A guest that is off, and shall be on.
pub(super) fn bring_up(vm: &Vm, seen: &Observed) -> Plan {
    match prepare(vm, seen) {
        Err(hold) => Plan::hold(VmState::Failed, hold),
        Ok(mut steps) => {
            steps.push(Step::Start);
            Plan::act(preparing(&steps), steps)
        }
    }
}

/// All there is to do before a start, whether it seems done or not: disks are as large as they shall be then, and the
/// definition is ours.
pub(super) fn prepare(vm: &Vm, seen: &Observed) -> Result<Vec<Step>, Hold> {
    if let Some(hold) = lost(vm, seen) {
        return Err(hold);
    }
    let mut steps = Vec::new();
    // The root disk stands on the image, so it has to be there even if the disk is.
    if !seen.image {
        steps.push(Step::EnsureImage);
    }
    if vm.spec.hardware.cd.is_some() && seen.cd.is_none() {
        steps.push(Step::EnsureCd);
    }
    steps.push(Step::EnsureRoot);
    steps.extend(strangers(vm, seen).map(|(disk, _)| Step::RemoveDisk(disk.clone())));
    steps.extend(vm.spec.hardware.disks.iter().map(|disk| Step::EnsureDisk(disk.slot)));
    if !seen.reserved {
        steps.push(Step::ReserveAddress);
    }
    steps.push(Step::DefineDomain);
    Ok(steps)
}

/// A disk that was made, and is not here. A definition names only what was made; and a guest that was started has had a root
/// disk of the life it was started with, whatever became of its definition. One that is to be made anew gets another.
pub(super) fn lost(vm: &Vm, seen: &Observed) -> Option<Hold> {
    let has_run =
        |life| seen.domain.as_ref().is_some_and(|domain| domain.started.is_some() && domain.booted.disk_life >= life);
    let root = seen.named.roots.get(&vm.disk_life);
    if !seen.roots.contains(&vm.disk_life) && (root.is_some() || has_run(vm.disk_life)) {
        return Some(Hold::RootMissing(root.cloned()));
    }
    let mut gone = vm.spec.hardware.disks.iter().filter(|disk| path_of(disk, seen).is_none());
    gone.find_map(|disk| Some(Hold::DiskMissing(disk.name.clone(), named(disk, seen)?.to_owned())))
}

/// Disks here that are none of the record's. A slot may have gone to another disk.
pub(super) fn strangers<'a>(vm: &'a Vm, seen: &'a Observed) -> impl Iterator<Item = (&'a DataVolume, &'a Path)> {
    let is_ours = |here: &DataVolume| vm.spec.hardware.disks.iter().any(|disk| *here == disk.into());
    seen.disks.iter().filter(move |(here, _)| !is_ours(here)).map(|(here, path)| (here, path.as_path()))
}

/// Slots of the record's whose disk has still to be made.
pub(super) fn missing<'a>(vm: &'a Vm, seen: &'a Observed) -> impl Iterator<Item = u8> + 'a {
    let disks = vm.spec.hardware.disks.iter();
    disks.filter(|disk| path_of(disk, seen).is_none() && named(disk, seen).is_none()).map(|disk| disk.slot)
}

/// Where the definition has a disk of the record's.
pub(super) fn named<'a>(disk: &DataDisk, seen: &'a Observed) -> Option<&'a Path> {
    seen.named.data.get(&disk.into()).map(PathBuf::as_path)
}

/// Where a disk of the record's is, if it is here.
pub(super) fn path_of<'a>(disk: &DataDisk, seen: &'a Observed) -> Option<&'a Path> {
    seen.disks.get(&disk.into()).map(PathBuf::as_path)
}

/// Root disks of earlier lives, which nothing needs any more.
pub(super) fn has_old_roots(vm: &Vm, seen: &Observed) -> bool {
    seen.roots.range(..vm.disk_life).next().is_some()
}

pub(super) fn preparing(steps: &[Step]) -> VmState {
    if steps.first() == Some(&Step::EnsureImage) { VmState::Fetching } else { VmState::Preparing }
}

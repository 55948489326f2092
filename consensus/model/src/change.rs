//! Changing what a VM is made of. A [`VmChange`] names what shall be different; everything it does not name stays. Pure:
//! apply and whoever tries a change out without committing it come to the same result by the same function.

use crate::{
    hardware::{BRIDGES_MAX, CpuModel, DISKS_MAX, DataDisk, Firmware},
    labels::LabelPatch,
    name::{BridgeName, DiskName},
    reject::Reject,
    size::ByteSize,
    vm::{ImageRef, RestartPolicy, Vm, VmSpec},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Longest description, in bytes: a paragraph.
const DESCRIPTION_MAX: usize = 1024;

/// What shall become of something that may be there or not. Not an option in an option, which no encoding keeps apart.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Patch<T> {
    /// It stays as it is.
    #[default]
    Keep,
    /// It goes.
    Clear,
    /// It comes, or changes to this.
    Set(T),
}

impl<T: Clone> Patch<T> {
    /// What is there afterwards.
    #[must_use]
    pub fn applied(&self, before: Option<T>) -> Option<T> {
        match self {
            Self::Keep => before,
            Self::Clear => None,
            Self::Set(value) => Some(value.clone()),
        }
    }
}

impl<T> From<Option<Option<T>>> for Patch<T> {
    fn from(given: Option<Option<T>>) -> Self {
        match given {
            None => Self::Keep,
            Some(None) => Self::Clear,
            Some(Some(value)) => Self::Set(value),
        }
    }
}

/// What shall be different about a VM.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct VmChange {
    /// Virtual CPUs.
    pub cpus: Option<u32>,
    /// Memory.
    pub memory: Option<ByteSize>,
    /// The most memory it can be given while it runs.
    pub memory_max: Patch<ByteSize>,
    /// Size of the root disk; it only grows.
    pub disk: Option<ByteSize>,
    /// Labels that come, change or (with none) go.
    pub labels: LabelPatch,
    /// What it is for; empty takes it away.
    pub description: Option<String>,
    /// May it be deleted or made anew?
    pub protected: Option<bool>,
    /// Is it started with its host?
    pub autostart: Option<bool>,
    /// What to do when it stops by itself.
    pub restart: Option<RestartPolicy>,
    /// What starts its boot loader.
    pub firmware: Option<Firmware>,
    /// The CPU its guest sees.
    pub cpu_model: Option<CpuModel>,
    /// Further disks that come, grow or (with none) go, with all that is on them.
    pub disks: BTreeMap<DiskName, Option<ByteSize>>,
    /// The image in its CD drive.
    pub cd: Patch<ImageRef>,
    /// All bridges of the host it shall have a network card on.
    pub bridges: Option<Vec<BridgeName>>,
}

fn bad<T>(field: impl Into<String>, why: impl Into<String>) -> Result<T, Reject> {
    Err(Reject::BadSpec { field: field.into(), why: why.into() })
}

impl VmChange {
    /// What `vm` is made of after the change.
    ///
    /// # Errors
    /// If the change contradicts what is there: a disk that would shrink, one that is not there, too many of something,
    /// protected disks that would go.
    pub fn applied(&self, vm: &Vm) -> Result<VmSpec, Reject> {
        let mut spec = vm.spec.clone();
        spec.cpus = self.cpus.unwrap_or(spec.cpus);
        spec.memory = self.memory.unwrap_or(spec.memory);
        if let Some(disk) = self.disk {
            grown("disk", spec.disk, disk)?;
            spec.disk = disk;
        }
        spec.labels = self.labels.applied(&spec.labels)?;
        if let Some(description) = &self.description {
            spec.description.clone_from(description);
        }
        spec.protected = self.protected.unwrap_or(spec.protected);
        spec.autostart = self.autostart.unwrap_or(spec.autostart);
        spec.restart = self.restart.unwrap_or(spec.restart);
        let hardware = &mut spec.hardware;
        hardware.memory_max = self.memory_max.applied(hardware.memory_max);
        hardware.firmware = self.firmware.unwrap_or(hardware.firmware);
        if let Some(model) = &self.cpu_model {
            hardware.cpu_model = model.clone();
        }
        hardware.cd = self.cd.applied(hardware.cd.take());
        if let Some(bridges) = &self.bridges {
            hardware.bridges.clone_from(bridges);
        }
        for (name, size) in &self.disks {
            self.disk(&mut spec, vm, name, *size)?;
        }
        check(&spec)?;
        Ok(spec)
    }

    fn disk(&self, spec: &mut VmSpec, vm: &Vm, name: &DiskName, size: Option<ByteSize>) -> Result<(), Reject> {
        let field = || format!("disks.{name}");
        let disks = &mut spec.hardware.disks;
        let there = disks.iter().position(|disk| disk.name == *name);
        match (there, size) {
            (Some(_), None) if spec.protected => return Err(Reject::Protected(vm.id)),
            (Some(at), None) => drop(disks.remove(at)),
            (Some(at), Some(size)) => {
                grown(&field(), disks[at].size, size)?;
                disks[at].size = size;
            }
            (None, Some(size)) => {
                let Some(slot) = spec.hardware.free_slot() else {
                    return bad(field(), format!("there are {DISKS_MAX} disks already, and no more are possible"));
                };
                let born = vm.generation.next();
                spec.hardware.disks.push(DataDisk { name: name.clone(), slot, size, born });
                spec.hardware.disks.sort_by_key(|disk| disk.slot);
            }
            (None, None) => {
                let names: Vec<_> = disks.iter().map(|disk| disk.name.as_str()).collect();
                let has = if names.is_empty() { "no further disk".to_owned() } else { names.join(", ") };
                return bad(field(), format!("there is no such disk; the VM has {has}"));
            }
        }
        Ok(())
    }
}

fn grown(field: &str, have: ByteSize, wanted: ByteSize) -> Result<(), Reject> {
    if wanted < have {
        return bad(field, format!("it has {have}, and disks never shrink: give at least {have}"));
    }
    Ok(())
}

/// What must hold of a VM's hardware wherever it is, whoever asks for it.
///
/// # Errors
/// The field, the limit, and what would do.
pub fn check(spec: &VmSpec) -> Result<(), Reject> {
    let hardware = &spec.hardware;
    if let Some(most) = hardware.memory_max
        && (most < spec.memory || !most.as_bytes().is_multiple_of(ByteSize::mib(1).as_bytes()))
    {
        return bad("memory_max", format!("{most} given; at least the memory, {}, in whole MiB", spec.memory));
    }
    if spec.description.len() > DESCRIPTION_MAX || spec.description.chars().any(|c| c.is_control() && c != '\n') {
        return bad("description", format!("at most {DESCRIPTION_MAX} bytes, without control characters"));
    }
    if hardware.disks.len() > DISKS_MAX {
        return bad("disks", format!("{} given; at most {DISKS_MAX}", hardware.disks.len()));
    }
    for (at, disk) in hardware.disks.iter().enumerate() {
        let field = || format!("disks.{}", disk.name);
        if disk.size < ByteSize::mib(1) || !disk.size.as_bytes().is_multiple_of(512) {
            return bad(field(), format!("{} bytes given; at least 1 MiB, a multiple of 512", disk.size.as_bytes()));
        }
        let twice = |other: &DataDisk| other.name == disk.name || other.slot == disk.slot;
        if usize::from(disk.slot) >= DISKS_MAX || hardware.disks[..at].iter().any(twice) {
            return bad(field(), "its name or its slot is another disk's too");
        }
    }
    if hardware.bridges.len() > BRIDGES_MAX {
        return bad("bridges", format!("{} given; at most {BRIDGES_MAX}", hardware.bridges.len()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ids::Generation, vm::samples};

    fn name(text: &str) -> DiskName {
        DiskName::new(text).unwrap()
    }

    fn change(change: VmChange) -> Result<VmSpec, Reject> {
        change.applied(&samples::vm())
    }

    #[test]
    fn what_is_not_named_stays() {
        assert_eq!(change(VmChange::default()), Ok(samples::vm().spec));
        let spec = change(VmChange { cpus: Some(4), ..VmChange::default() }).unwrap();
        assert_eq!(spec, VmSpec { cpus: 4, ..samples::vm().spec });
    }

    #[test]
    fn disks_come_grow_and_go_and_keep_their_slots() {
        let disks = |list: &[(&str, Option<u64>)]| VmChange {
            disks: list.iter().map(|(n, gib)| (name(n), gib.map(ByteSize::gib))).collect(),
            ..VmChange::default()
        };
        let mut vm = samples::vm();
        let slots = |vm: &Vm| -> Vec<_> {
            vm.spec.hardware.disks.iter().map(|d| format!("{} {} {} {}", d.slot, d.name, d.size, d.born)).collect()
        };
        vm.spec = disks(&[("a", Some(1)), ("b", Some(2))]).applied(&vm).unwrap();
        assert_eq!(slots(&vm), ["0 a 1 GiB 2", "1 b 2 GiB 2"]);
        vm.spec = disks(&[("a", None), ("b", Some(3))]).applied(&vm).unwrap();
        assert_eq!(slots(&vm), ["1 b 3 GiB 2"]);
        vm.generation = Generation(4);
        vm.spec = disks(&[("c", Some(1))]).applied(&vm).unwrap();
        assert_eq!(slots(&vm), ["0 c 1 GiB 5", "1 b 3 GiB 2"]);
        for bad in [disks(&[("b", Some(1))]), disks(&[("x", None)])] {
            assert!(matches!(bad.applied(&vm), Err(Reject::BadSpec { .. })));
        }
        vm.spec.protected = true;
        assert_eq!(disks(&[("b", None)]).applied(&vm), Err(Reject::Protected(vm.id)));
    }

    #[test]
    fn limits_name_the_field() {
        let small = change(VmChange { disk: Some(ByteSize::gib(1)), ..VmChange::default() });
        assert!(matches!(small, Err(Reject::BadSpec { field, .. }) if field == "disk"));
        let less = change(VmChange { memory_max: Patch::Set(ByteSize::mib(64)), ..VmChange::default() });
        assert!(matches!(less, Err(Reject::BadSpec { field, .. }) if field == "memory_max"));
    }
}

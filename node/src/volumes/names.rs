//! What the files of disks are called, and what a file's name says. Pure.
//!
//! ```text
//!   <vm>.qcow2               the root disk of its first life
//!   <vm>.<life>.qcow2        that of another life
//!   <vm>.data<slot>-<name>.qcow2               a data disk that came with the VM
//!   <vm>.data<slot>-<name>.<generation>.qcow2  one that came with a later generation of its record
//! ```

use super::DataVolume;
use waifud_model::{
    hardware::DISKS_MAX,
    ids::{Generation, VmId},
};

/// How names of disks end.
pub(super) const SUFFIX: &str = ".qcow2";
/// How the middle of a data disk's name begins.
const DATA: &str = "data";

/// Which disk of a VM.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Which {
    /// The root disk of a life.
    Root(u32),
    /// A data disk.
    Data(DataVolume),
}

impl Which {
    /// The name of its file.
    pub(super) fn file(&self, vm: VmId) -> String {
        match self {
            Self::Root(1) => format!("{vm}{SUFFIX}"),
            Self::Root(life) => format!("{vm}.{life}{SUFFIX}"),
            Self::Data(DataVolume { slot, name, born: Generation::FIRST }) => {
                format!("{vm}.{DATA}{slot}-{name}{SUFFIX}")
            }
            Self::Data(DataVolume { slot, name, born }) => format!("{vm}.{DATA}{slot}-{name}.{born}{SUFFIX}"),
        }
    }

    /// Whose disk a file is, and which. None for every name that [`Self::file`] does not give.
    pub(super) fn of_file(file: &str) -> Option<(VmId, Self)> {
        let stem = file.strip_suffix(SUFFIX)?;
        let (vm, which) = match stem.split_once('.') {
            None => (stem, Self::Root(1)),
            Some((vm, middle)) => (vm, Self::of_middle(middle)?),
        };
        let vm = vm.parse().ok()?;
        (which.file(vm) == file).then_some((vm, which))
    }

    fn of_middle(middle: &str) -> Option<Self> {
        let Some(data) = middle.strip_prefix(DATA) else { return middle.parse().ok().map(Self::Root) };
        let (slot, name) = data.split_once('-')?;
        let (name, born) = match name.split_once('.') {
            None => (name, Generation::FIRST),
            Some((name, born)) => (name, born.parse().map(Generation).ok()?),
        };
        let (slot, name) = (slot.parse().ok()?, name.parse().ok()?);
        (usize::from(slot) < DISKS_MAX).then_some(Self::Data(DataVolume { slot, name, born }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_others_do_not() {
        let vm = VmId::from_random([1; 16]);
        let born = |slot, name: &str, born| {
            Which::Data(DataVolume { slot, name: name.parse().unwrap(), born: Generation(born) })
        };
        let data = |slot, name| born(slot, name, 1);
        for (which, file) in [
            (Which::Root(1), format!("{vm}.qcow2")),
            (Which::Root(12), format!("{vm}.12.qcow2")),
            (data(0, "db"), format!("{vm}.data0-db.qcow2")),
            (data(15, "1-2"), format!("{vm}.data15-1-2.qcow2")),
            (born(0, "db", 17), format!("{vm}.data0-db.17.qcow2")),
        ] {
            assert_eq!(which.file(vm), file);
            assert_eq!(Which::of_file(&file), Some((vm, which)));
        }
        for bad in [
            "1.qcow2",
            "01.qcow2",
            "data.qcow2",
            "data0.qcow2",
            "data16-a.qcow2",
            "data00-a.qcow2",
            "data0-A.qcow2",
            "data0-a.1.qcow2",
            "data0-a.07.qcow2",
            "data0-a.b.qcow2",
        ] {
            assert_eq!(Which::of_file(&format!("{vm}.{bad}")), None, "{bad}");
        }
        assert_eq!(Which::of_file("notes.qcow2"), None);
        assert_eq!(Which::of_file(&format!("{vm}.seed")), None);
    }
}

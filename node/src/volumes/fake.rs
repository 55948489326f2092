//! Disks that exist only in memory, for simulations and the tests of whoever uses [`Volumes`]. Follows the same rules as
//! the real ones; [`Faults`] says when it does not.

use super::{DataVolume, Disks, Volume, VolumeError, Volumes, names::Which};
use crate::faults::{Faults, lock};
use async_trait::async_trait;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Mutex,
};
use waifud_model::{ids::VmId, size::ByteSize, template::ImageFormat};

/// The operations that can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum VolumeOp {
    /// [`Volumes::ensure`].
    Ensure,
    /// [`Volumes::disks`].
    Disks,
    /// [`Volumes::find`].
    Find,
    /// [`Volumes::remove_old_lives`].
    RemoveOldLives,
    /// [`Volumes::ensure_data`].
    EnsureData,
    /// [`Volumes::find_data`].
    FindData,
    /// [`Volumes::remove_data`].
    RemoveData,
    /// [`Volumes::write_seed`].
    WriteSeed,
    /// [`Volumes::remove`].
    Remove,
    /// [`Volumes::list`].
    List,
}

/// What a disk stands on, and its size.
type Made = (Option<PathBuf>, ByteSize);

/// Disks in memory.
#[derive(Debug, Default)]
pub struct FakeVolumes {
    disks: Mutex<BTreeMap<(VmId, Which), Made>>,
    /// What goes wrong.
    pub faults: Faults<VolumeOp>,
}

fn volume(vm: VmId, which: &Which) -> Volume {
    Volume { path: PathBuf::from("/fake/volumes").join(which.file(vm)), format: ImageFormat::Qcow2 }
}

impl FakeVolumes {
    async fn meet(&self, operation: VolumeOp) -> Result<(), VolumeError> {
        let refuse = |source| VolumeError::Io { doing: "use", path: PathBuf::from("/fake/volumes"), source };
        self.faults.meet(operation).await.map_err(refuse)
    }

    /// The size of the root disk of its last life, if one is there.
    #[must_use]
    pub fn size(&self, vm: VmId) -> Option<ByteSize> {
        let disks = lock(&self.disks);
        let mut roots = disks.iter().filter(|((whose, which), _)| *whose == vm && matches!(which, Which::Root(_)));
        roots.next_back().map(|(_, (_, size))| *size)
    }

    /// True if any disk of it is there.
    #[must_use]
    pub fn has(&self, vm: VmId) -> bool {
        lock(&self.disks).keys().any(|(whose, _)| *whose == vm)
    }

    /// The size of a data disk, if it is there.
    #[must_use]
    pub fn data_size(&self, vm: VmId, disk: &DataVolume) -> Option<ByteSize> {
        lock(&self.disks).get(&(vm, Which::Data(disk.clone()))).map(|(_, size)| *size)
    }

    /// The size of the disk in that place, if one is there.
    pub(crate) fn size_at(&self, path: &Path) -> Option<ByteSize> {
        let disks = lock(&self.disks);
        disks.iter().find(|((vm, which), _)| volume(*vm, which).path == path).map(|(_, (_, size))| *size)
    }

    /// A guest's disk grew while the guest had it open.
    pub(crate) fn grow(&self, path: &Path, size: ByteSize) {
        for ((vm, which), (_, have)) in lock(&self.disks).iter_mut() {
            if volume(*vm, which).path == path {
                *have = size.max(*have);
            }
        }
    }

    fn ensure_one(&self, vm: VmId, which: Which, base: Option<&Path>, size: ByteSize) -> Result<Volume, VolumeError> {
        let made = volume(vm, &which);
        let mut disks = lock(&self.disks);
        let (have_base, have) = disks.entry((vm, which)).or_insert_with(|| (base.map(Path::to_owned), size));
        if have_base.as_deref() != base {
            let (have, wanted) = (have_base.clone(), base.map(Path::to_owned));
            return Err(VolumeError::OtherBase { vm, have, wanted });
        }
        if *have > size {
            return Err(VolumeError::Shrink { vm, have: *have, wanted: size });
        }
        *have = size;
        Ok(made)
    }

    fn find_one(&self, vm: VmId, which: Which) -> Option<Volume> {
        let found = volume(vm, &which);
        lock(&self.disks).contains_key(&(vm, which)).then_some(found)
    }
}

#[async_trait]
impl Volumes for FakeVolumes {
    async fn ensure(
        &self,
        vm: VmId,
        life: u32,
        base: Option<(&Path, ImageFormat)>,
        size: ByteSize,
    ) -> Result<Volume, VolumeError> {
        self.meet(VolumeOp::Ensure).await?;
        if let Some((base, ImageFormat::Iso)) = base {
            return Err(VolumeError::NotABase { vm, base: base.to_owned() });
        }
        self.ensure_one(vm, Which::Root(life), base.map(|(path, _)| path), size)
    }

    async fn find(&self, vm: VmId, life: u32) -> Result<Option<Volume>, VolumeError> {
        self.meet(VolumeOp::Find).await?;
        Ok(self.find_one(vm, Which::Root(life)))
    }

    async fn disks(&self, vm: VmId) -> Result<Disks, VolumeError> {
        self.meet(VolumeOp::Disks).await?;
        let disks = lock(&self.disks);
        let here = disks.keys().filter(|(whose, _)| *whose == vm);
        Ok(here.map(|(_, which)| (which.clone(), volume(vm, which).path)).collect())
    }

    async fn remove_old_lives(&self, vm: VmId, keep: u32) -> Result<(), VolumeError> {
        self.meet(VolumeOp::RemoveOldLives).await?;
        let old = |which: &Which| matches!(which, Which::Root(life) if *life < keep);
        lock(&self.disks).retain(|(whose, which), _| *whose != vm || !old(which));
        Ok(())
    }

    async fn ensure_data(&self, vm: VmId, disk: &DataVolume, size: ByteSize) -> Result<Volume, VolumeError> {
        self.meet(VolumeOp::EnsureData).await?;
        self.ensure_one(vm, Which::Data(disk.clone()), None, size)
    }

    async fn find_data(&self, vm: VmId, disk: &DataVolume) -> Result<Option<Volume>, VolumeError> {
        self.meet(VolumeOp::FindData).await?;
        Ok(self.find_one(vm, Which::Data(disk.clone())))
    }

    async fn remove_data(&self, vm: VmId, disk: &DataVolume) -> Result<(), VolumeError> {
        self.meet(VolumeOp::RemoveData).await?;
        lock(&self.disks).remove(&(vm, Which::Data(disk.clone())));
        Ok(())
    }

    async fn write_seed(&self, vm: VmId, _: Vec<u8>) -> Result<PathBuf, VolumeError> {
        self.meet(VolumeOp::WriteSeed).await?;
        Ok(PathBuf::from(format!("/fake/volumes/{vm}.seed")))
    }

    async fn remove(&self, vm: VmId) -> Result<(), VolumeError> {
        self.meet(VolumeOp::Remove).await?;
        lock(&self.disks).retain(|(whose, _), _| *whose != vm);
        Ok(())
    }

    async fn list(&self) -> Result<Vec<VmId>, VolumeError> {
        self.meet(VolumeOp::List).await?;
        let mut all: Vec<_> = lock(&self.disks).keys().map(|(vm, _)| *vm).collect();
        all.dedup();
        Ok(all)
    }
}

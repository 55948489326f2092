//! Disks that exist only in memory, for simulations and the tests of whoever uses [`Volumes`]. Follows the same rules as
//! the real ones; [`Faults`] says when it does not.

use super::{Volume, VolumeError, Volumes};
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
    /// [`Volumes::find`].
    Find,
    /// [`Volumes::write_seed`].
    WriteSeed,
    /// [`Volumes::remove`].
    Remove,
    /// [`Volumes::list`].
    List,
}

/// Disks in memory.
#[derive(Debug, Default)]
pub struct FakeVolumes {
    disks: Mutex<BTreeMap<VmId, (PathBuf, ByteSize)>>,
    /// What goes wrong.
    pub faults: Faults<VolumeOp>,
}

fn path(vm: VmId) -> PathBuf {
    PathBuf::from(format!("/fake/volumes/{vm}.qcow2"))
}

impl FakeVolumes {
    async fn meet(&self, operation: VolumeOp) -> Result<(), VolumeError> {
        let refuse = |source| VolumeError::Io { doing: "use", path: PathBuf::from("/fake/volumes"), source };
        self.faults.meet(operation).await.map_err(refuse)
    }

    /// The size of a disk, if it is there.
    #[must_use]
    pub fn size(&self, vm: VmId) -> Option<ByteSize> {
        lock(&self.disks).get(&vm).map(|(_, size)| *size)
    }
}

#[async_trait]
impl Volumes for FakeVolumes {
    async fn ensure(&self, vm: VmId, base: &Path, _: ImageFormat, size: ByteSize) -> Result<Volume, VolumeError> {
        self.meet(VolumeOp::Ensure).await?;
        let mut disks = lock(&self.disks);
        let (have_base, have) = disks.entry(vm).or_insert_with(|| (base.to_owned(), size));
        if have_base != base {
            return Err(VolumeError::OtherBase { vm, have: have_base.clone(), wanted: base.to_owned() });
        }
        if *have > size {
            return Err(VolumeError::Shrink { vm, have: *have, wanted: size });
        }
        *have = size;
        Ok(Volume { path: path(vm), format: ImageFormat::Qcow2 })
    }

    async fn find(&self, vm: VmId) -> Result<Option<Volume>, VolumeError> {
        self.meet(VolumeOp::Find).await?;
        let there = lock(&self.disks).contains_key(&vm);
        Ok(there.then(|| Volume { path: path(vm), format: ImageFormat::Qcow2 }))
    }

    async fn write_seed(&self, vm: VmId, _: Vec<u8>) -> Result<PathBuf, VolumeError> {
        self.meet(VolumeOp::WriteSeed).await?;
        Ok(PathBuf::from(format!("/fake/volumes/{vm}.seed")))
    }

    async fn remove(&self, vm: VmId) -> Result<(), VolumeError> {
        self.meet(VolumeOp::Remove).await?;
        lock(&self.disks).remove(&vm);
        Ok(())
    }

    async fn list(&self) -> Result<Vec<VmId>, VolumeError> {
        self.meet(VolumeOp::List).await?;
        Ok(lock(&self.disks).keys().copied().collect())
    }
}

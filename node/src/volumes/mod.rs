//! The disks of VMs: a root disk for each life of a VM, and data disks, which outlast lives. In: a VM, the read-only base it
//! starts from, a size; out: a path that a hypervisor can open. Every operation may be repeated at any time with the same
//! result.
//!
//! This room never decides whether a disk may be used: that a VM's disk is open on one node only is the affair of the
//! replicated state and of reconcile.
//!
//! ```text
//!   ImageStore (base, read-only) ──> Volumes::ensure ──> Volume { path, format } ──> Hypervisor
//! ```

mod dir;
pub mod fake;
mod names;

pub use dir::DirVolumes;

use async_trait::async_trait;
use names::Which;
use std::{
    collections::BTreeMap,
    fmt::Debug,
    io,
    path::{Path, PathBuf},
};
use waifud_model::{
    hardware::DataDisk,
    ids::{Generation, VmId},
    name::DiskName,
    size::ByteSize,
    template::ImageFormat,
};

/// A VM's disk, as a hypervisor has to be told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Where it is; absolute.
    pub path: PathBuf,
    /// How its bytes are to be read. Never left to a hypervisor's guess: a guest could write another header.
    pub format: ImageFormat,
}

/// A data disk that is here.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DataVolume {
    /// Its place.
    pub slot: u8,
    /// What people call it. What is in a place under another name is another disk.
    pub name: DiskName,
    /// The generation of the VM's record that it came with. So is what came with another one.
    pub born: Generation,
}

impl From<&DataDisk> for DataVolume {
    fn from(disk: &DataDisk) -> Self {
        Self { slot: disk.slot, name: disk.name.clone(), born: disk.born }
    }
}

/// The disks of a VM.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Disks {
    /// Where the root disks of its lives are.
    pub roots: BTreeMap<u32, PathBuf>,
    /// Where its data disks are.
    pub data: BTreeMap<DataVolume, PathBuf>,
}

impl Disks {
    /// Those of `vm` that `files` are by their names, wherever they lie and whether they are there.
    pub fn named<'a>(vm: VmId, files: impl IntoIterator<Item = &'a PathBuf>) -> Self {
        let disk = |path: &&PathBuf| Which::of_file(path.file_name()?.to_str()?).filter(|(whose, _)| *whose == vm);
        files.into_iter().filter_map(|path| Some((disk(&path)?.1, path.clone()))).collect()
    }
}

impl FromIterator<(Which, PathBuf)> for Disks {
    fn from_iter<T: IntoIterator<Item = (Which, PathBuf)>>(disks: T) -> Self {
        let mut sorted = Self::default();
        for (which, path) in disks {
            match which {
                Which::Root(life) => drop(sorted.roots.insert(life, path)),
                Which::Data(data) => drop(sorted.data.insert(data, path)),
            }
        }
        sorted
    }
}

/// Keeps the disks of this node's VMs.
#[async_trait]
pub trait Volumes: Send + Sync + Debug {
    /// Makes the root disk of a life of `vm` if it is not there: `size` bytes that begin as the bytes of `base`, or zeros if
    /// there is none. A disk that is there is kept with its contents, and grown if it is smaller than `size`; one that a running
    /// guest has open cannot be grown here.
    ///
    /// # Errors
    /// If the disk would have to shrink, stands on another base, or cannot be made for want of space. Then nothing was
    /// changed, and a disk that was not there is still not there.
    async fn ensure(
        &self,
        vm: VmId,
        life: u32,
        base: Option<(&Path, ImageFormat)>,
        size: ByteSize,
    ) -> Result<Volume, VolumeError>;

    /// The root disk of a life of `vm`, if there is one.
    ///
    /// # Errors
    /// If it cannot be told.
    async fn find(&self, vm: VmId, life: u32) -> Result<Option<Volume>, VolumeError>;

    /// All disks of `vm` that are here, seen in one look.
    ///
    /// # Errors
    /// If it cannot be told.
    async fn disks(&self, vm: VmId) -> Result<Disks, VolumeError>;

    /// Away with the root disks of all lives of `vm` before `keep`.
    ///
    /// # Errors
    /// If one may still be there.
    async fn remove_old_lives(&self, vm: VmId, keep: u32) -> Result<(), VolumeError>;

    /// Makes a data disk of `vm` if it is not there: `size` zeros. One that is there is treated as by [`Self::ensure`].
    ///
    /// # Errors
    /// As [`Self::ensure`].
    async fn ensure_data(&self, vm: VmId, disk: &DataVolume, size: ByteSize) -> Result<Volume, VolumeError>;

    /// A data disk of `vm`, if it is here.
    ///
    /// # Errors
    /// If it cannot be told.
    async fn find_data(&self, vm: VmId, disk: &DataVolume) -> Result<Option<Volume>, VolumeError>;

    /// Away with a data disk of `vm`; nothing happens if there is none.
    ///
    /// # Errors
    /// If it may still be there.
    async fn remove_data(&self, vm: VmId, disk: &DataVolume) -> Result<(), VolumeError>;

    /// Writes the small disk with what `vm`'s cloud-init has to know before it has a network, in the place of the last one. A
    /// guest that has that one open goes on reading it.
    ///
    /// # Errors
    /// If it cannot be written; the last one is then still there.
    async fn write_seed(&self, vm: VmId, contents: Vec<u8>) -> Result<PathBuf, VolumeError>;

    /// Away with every disk of `vm` and its seed; nothing happens if there is none.
    ///
    /// # Errors
    /// If one may still be there.
    async fn remove(&self, vm: VmId) -> Result<(), VolumeError>;

    /// All VMs that have a disk of any kind here, in the order of their ids.
    ///
    /// # Errors
    /// If it cannot be told.
    async fn list(&self) -> Result<Vec<VmId>, VolumeError>;
}

/// Why a disk could not be made, found or removed.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// Disks never shrink: what a guest wrote at the end would be lost.
    #[error("the disk of VM {vm} has {have} already; it cannot become {wanted}")]
    Shrink {
        /// Whose disk.
        vm: VmId,
        /// Its size, or that of its base.
        have: ByteSize,
        /// The size that was asked for.
        wanted: ByteSize,
    },
    /// The base is larger than the disk that was asked for.
    #[error("the image {base} makes a disk of {have}; VM {vm} cannot have one of {wanted}", base = base.display())]
    BelowBase {
        /// Whose disk.
        vm: VmId,
        /// The base.
        base: PathBuf,
        /// Its virtual size.
        have: ByteSize,
        /// The size that was asked for.
        wanted: ByteSize,
    },
    /// The base cannot be stood on.
    #[error("{base} is a CD image; VM {vm} needs an empty disk and the CD in its drive", base = base.display())]
    NotABase {
        /// Whose disk.
        vm: VmId,
        /// The base.
        base: PathBuf,
    },
    /// There is a disk, but it was made from something else.
    #[error("the disk of VM {vm} stands on {}, not on {}", base_name(have.as_deref()), base_name(wanted.as_deref()))]
    OtherBase {
        /// Whose disk.
        vm: VmId,
        /// What it stands on, if on anything.
        have: Option<PathBuf>,
        /// What was asked for.
        wanted: Option<PathBuf>,
    },
    /// Nothing is left to write on.
    #[error("no space is left in {dir} for the disk of VM {vm}; free some, or move the data directory", dir = dir.display())]
    NoSpace {
        /// Whose disk.
        vm: VmId,
        /// Where it should have been.
        dir: PathBuf,
    },
    /// The disk is open elsewhere on this machine, most likely by its running guest.
    #[error("the disk of VM {vm} is in use")]
    InUse {
        /// Whose disk.
        vm: VmId,
    },
    /// The file is there but is not a disk of ours.
    #[error("{path} is not a disk of this node: {why}", path = path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// `qemu-img` could not do it.
    #[error(transparent)]
    Tool(#[from] crate::images::qemu_img::ToolError),
    /// The file system refused.
    #[error("cannot {doing} {path}", path = path.display())]
    Io {
        /// What was tried: "create", "rename", "read".
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

fn base_name(base: Option<&Path>) -> String {
    base.map_or_else(|| "nothing".to_owned(), |base| base.display().to_string())
}

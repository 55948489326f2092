//! Disks as qcow2 overlays in a directory: only what a guest changes takes space, and making one takes no time. In: a base
//! that never changes, or none; out: `volumes/<vm>.qcow2`, which records the base's absolute path and format.
//!
//! A disk appears under its name only when it is complete: it is made under another name, synced, and renamed. What a crash
//! leaves under such names is removed at the next start.

use super::{
    DataVolume, Disks, Volume, VolumeError, Volumes,
    names::{SUFFIX, Which},
};
use crate::images::{
    LookError,
    qcow2::Header,
    qemu_img::{QemuImg, ToolError},
};
use async_trait::async_trait;
use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};
use tempfile::NamedTempFile;
use waifud_model::{ids::VmId, size::ByteSize, template::ImageFormat};

/// How names of unfinished disks begin.
const UNFINISHED: &str = ".new-";
/// How names of seeds end.
const SEED: &str = ".seed";
/// Disks are whole sectors.
const SECTOR: u64 = 512;

/// Disks in a directory.
#[derive(Debug)]
pub struct DirVolumes {
    dir: Dir,
    tool: QemuImg,
}

impl DirVolumes {
    /// Opens `dir`, makes it if need be, and removes what a crash left unfinished in it.
    ///
    /// # Errors
    /// If the directory cannot be used.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, VolumeError> {
        let dir = dir.into();
        // Others may enter but not list: the hypervisor's account opens disks by name.
        fs::DirBuilder::new().recursive(true).mode(0o711).create(&dir).map_err(at("create", &dir))?;
        let dir = Dir(dir.canonicalize().map_err(at("find", &dir))?);
        for name in dir.names()? {
            if name.starts_with(UNFINISHED) {
                dir.unlink(&dir.0.join(name))?;
            }
        }
        Ok(Self { dir, tool: QemuImg::default() })
    }

    /// Makes a disk that is not there.
    async fn create(&self, vm: VmId, which: Which, base: Option<&Base>, size: u64) -> Result<(), VolumeError> {
        let dir = self.dir.clone();
        let mut arguments = vec!["-q", "-f", "qcow2"];
        if let Some(base) = base {
            if base.size > size {
                let (have, wanted) = (ByteSize::bytes(base.size), ByteSize::bytes(size));
                return Err(VolumeError::BelowBase { vm, base: base.path.clone(), have, wanted });
            }
            arguments.extend(["-F", base.format, "-b", utf8(&base.path)?]);
        }
        let unfinished = on_thread(move || dir.unfinished(vm)).await?;
        let size = size.to_string();
        arguments.extend([utf8(unfinished.path())?, &size]);
        self.tool.succeed("create", &arguments).await.map_err(|e| self.tool_error(vm, e))?;
        let dir = self.dir.clone();
        on_thread(move || dir.finish(vm, &which, unfinished)).await
    }

    /// Sees to it that a disk that is there is what was asked for.
    async fn adapt(&self, vm: VmId, which: &Which, base: Option<&Base>, size: u64) -> Result<(), VolumeError> {
        let path = self.dir.disk(vm, which);
        let header = header(&path)?;
        let (have, wanted) = (header.backing.map(PathBuf::from), base.map(|base| base.path.clone()));
        if have != wanted {
            return Err(VolumeError::OtherBase { vm, have, wanted });
        }
        if header.virtual_size > size {
            let (have, wanted) = (ByteSize::bytes(header.virtual_size), ByteSize::bytes(size));
            return Err(VolumeError::Shrink { vm, have, wanted });
        }
        if header.virtual_size < size {
            let arguments = ["-q", "-f", "qcow2", utf8(&path)?, &size.to_string()];
            self.tool.succeed("resize", &arguments).await.map_err(|e| self.tool_error(vm, e))?;
        }
        Ok(())
    }

    async fn ensure_one(
        &self,
        vm: VmId,
        which: Which,
        base: Option<Base>,
        size: ByteSize,
    ) -> Result<Volume, VolumeError> {
        let size = size.as_bytes().checked_next_multiple_of(SECTOR).unwrap_or(u64::MAX - SECTOR + 1);
        if self.find_one(vm, which.clone()).await?.is_none() {
            self.create(vm, which.clone(), base.as_ref(), size).await?;
        }
        // Also after making it: true even if another made it first.
        self.adapt(vm, &which, base.as_ref(), size).await?;
        Ok(Volume { path: self.dir.disk(vm, &which), format: ImageFormat::Qcow2 })
    }

    async fn find_one(&self, vm: VmId, which: Which) -> Result<Option<Volume>, VolumeError> {
        let dir = self.dir.clone();
        on_thread(move || dir.find(vm, &which)).await
    }

    /// `qemu-img` says why it failed in words only; two of its reasons are worth knowing apart.
    fn tool_error(&self, vm: VmId, error: ToolError) -> VolumeError {
        match &error {
            ToolError::Failed { said, .. } if said.contains("No space left on device") => {
                VolumeError::NoSpace { vm, dir: self.dir.0.clone() }
            }
            ToolError::Failed { said, .. } if said.contains("Failed to get") && said.contains("lock") => {
                VolumeError::InUse { vm }
            }
            _ => error.into(),
        }
    }
}

/// The directory: everything that blocks.
#[derive(Debug, Clone)]
struct Dir(PathBuf);

impl Dir {
    fn disk(&self, vm: VmId, which: &Which) -> PathBuf {
        self.0.join(which.file(vm))
    }

    /// The disks that are here of VMs that `is_meant` means, in order.
    fn disks(&self, is_meant: impl Fn(VmId) -> bool) -> Result<Vec<(VmId, Which)>, VolumeError> {
        let mut found: Vec<_> = self.names()?.iter().filter_map(|name| Which::of_file(name)).collect();
        found.retain(|(vm, _)| is_meant(*vm));
        found.sort_unstable();
        Ok(found)
    }

    /// Away with those disks of a VM that `goes` means; the root disk of the last life last: while it is there, the VM is
    /// known to have left something here.
    fn remove(&self, vm: VmId, goes: impl Fn(&Which) -> bool) -> Result<(), VolumeError> {
        let (roots, data): (Vec<_>, Vec<_>) =
            self.disks(|whose| whose == vm)?.into_iter().partition(|(_, which)| matches!(which, Which::Root(_)));
        for (_, which) in data.into_iter().chain(roots).filter(|(_, which)| goes(which)) {
            self.unlink(&self.disk(vm, &which))?;
        }
        Ok(())
    }

    /// A file under a name of no meaning. It is gone when it is dropped.
    fn unfinished(&self, vm: VmId) -> Result<NamedTempFile, VolumeError> {
        let named = tempfile::Builder::new().prefix(UNFINISHED).suffix(SUFFIX).tempfile_in(&self.0);
        named.map_err(|e| self.write_error(vm, "create a file in", &self.0, e))
    }

    /// Gives a complete disk its name, for good.
    fn finish(&self, vm: VmId, which: &Which, unfinished: NamedTempFile) -> Result<(), VolumeError> {
        unfinished.as_file().sync_all().map_err(|e| self.write_error(vm, "write", unfinished.path(), e))?;
        let path = self.disk(vm, which);
        // Never over a disk: if two make one at the same time, the second finds the first's.
        match unfinished.persist_noclobber(&path) {
            Ok(_) => self.sync(),
            Err(e) if e.error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(e) => Err(self.write_error(vm, "rename", &path, e.error)),
        }
    }

    fn seed(&self, vm: VmId) -> PathBuf {
        self.0.join(format!("{vm}{SEED}"))
    }

    /// Complete or not at all, and another file than the one a guest may have open.
    fn write_seed(&self, vm: VmId, contents: &[u8]) -> Result<PathBuf, VolumeError> {
        let path = self.seed(vm);
        if fs::read(&path).is_ok_and(|there| there == contents) {
            return Ok(path);
        }
        let mut unfinished = self.unfinished(vm)?;
        let written = unfinished.write_all(contents).and_then(|()| unfinished.as_file().sync_all());
        written.map_err(|e| self.write_error(vm, "write", unfinished.path(), e))?;
        unfinished.persist(&path).map_err(|e| self.write_error(vm, "rename", &path, e.error))?;
        self.sync()?;
        Ok(path)
    }

    fn find(&self, vm: VmId, which: &Which) -> Result<Option<Volume>, VolumeError> {
        let path = self.disk(vm, which);
        // Not followed: a link in this directory is not ours.
        match fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_file() => Ok(Some(Volume { path, format: ImageFormat::Qcow2 })),
            Ok(_) => Err(VolumeError::Foreign { path, why: "it is not a file".to_owned() }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(at("find", &path)(e)),
        }
    }

    fn names(&self) -> Result<Vec<String>, VolumeError> {
        let entries = fs::read_dir(&self.0).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let entries = entries.map_err(at("list", &self.0))?;
        Ok(entries.iter().filter_map(|entry| entry.file_name().into_string().ok()).collect())
    }

    fn unlink(&self, path: &Path) -> Result<(), VolumeError> {
        match fs::remove_file(path) {
            Ok(()) => self.sync(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(at("remove", path)(e)),
        }
    }

    /// Makes names durable.
    fn sync(&self) -> Result<(), VolumeError> {
        File::open(&self.0).and_then(|dir| dir.sync_all()).map_err(at("write", &self.0))
    }

    fn write_error(&self, vm: VmId, doing: &'static str, path: &Path, source: io::Error) -> VolumeError {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                VolumeError::NoSpace { vm, dir: self.0.clone() }
            }
            _ => VolumeError::Io { doing, path: path.to_owned(), source },
        }
    }
}

/// Runs `work` where it may wait for a disk.
async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, VolumeError> + Send + 'static,
) -> Result<T, VolumeError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(e) => Err(VolumeError::Io { doing: "work on", path: "volumes".into(), source: e.into() }),
    }
}

/// What a disk stands on.
struct Base {
    path: PathBuf,
    /// What QEMU calls it.
    format: &'static str,
    /// Of the disk it makes, in bytes.
    size: u64,
}

impl Base {
    fn open(vm: VmId, path: PathBuf, format: ImageFormat) -> Result<Self, VolumeError> {
        let (format, size) = match format {
            ImageFormat::Qcow2 => ("qcow2", header(&path)?.virtual_size),
            ImageFormat::Raw => ("raw", fs::metadata(&path).map_err(at("open", &path))?.len()),
            ImageFormat::Iso => return Err(VolumeError::NotABase { vm, base: path }),
        };
        Ok(Self { path, format, size })
    }
}

fn header(path: &Path) -> Result<Header, VolumeError> {
    let file = File::open(path).map_err(at("open", path))?;
    Header::read(&file).map_err(|e| match e {
        LookError::Read(source) => at("read", path)(source),
        LookError::Refused(refusal) => VolumeError::Foreign { path: path.to_owned(), why: refusal.to_string() },
    })
}

fn utf8(path: &Path) -> Result<&str, VolumeError> {
    path.to_str().ok_or_else(|| VolumeError::Foreign { path: path.to_owned(), why: "its path is not UTF-8".to_owned() })
}

fn at<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> VolumeError + 'a {
    move |source| VolumeError::Io { doing, path: path.to_owned(), source }
}

#[async_trait]
impl Volumes for DirVolumes {
    async fn ensure(
        &self,
        vm: VmId,
        life: u32,
        base: Option<(&Path, ImageFormat)>,
        size: ByteSize,
    ) -> Result<Volume, VolumeError> {
        let base = match base.map(|(path, format)| (path.to_owned(), format)) {
            Some((path, format)) => Some(on_thread(move || Base::open(vm, path, format)).await?),
            None => None,
        };
        self.ensure_one(vm, Which::Root(life), base, size).await
    }

    async fn find(&self, vm: VmId, life: u32) -> Result<Option<Volume>, VolumeError> {
        self.find_one(vm, Which::Root(life)).await
    }

    async fn disks(&self, vm: VmId) -> Result<Disks, VolumeError> {
        let dir = self.dir.clone();
        on_thread(move || {
            let here = dir.disks(|whose| whose == vm)?.into_iter();
            Ok(here.map(|(_, which)| (which.clone(), dir.disk(vm, &which))).collect())
        })
        .await
    }

    async fn remove_old_lives(&self, vm: VmId, keep: u32) -> Result<(), VolumeError> {
        let dir = self.dir.clone();
        on_thread(move || dir.remove(vm, |which| matches!(which, Which::Root(life) if *life < keep))).await
    }

    async fn ensure_data(&self, vm: VmId, disk: &DataVolume, size: ByteSize) -> Result<Volume, VolumeError> {
        self.ensure_one(vm, Which::Data(disk.clone()), None, size).await
    }

    async fn find_data(&self, vm: VmId, disk: &DataVolume) -> Result<Option<Volume>, VolumeError> {
        self.find_one(vm, Which::Data(disk.clone())).await
    }

    async fn remove_data(&self, vm: VmId, disk: &DataVolume) -> Result<(), VolumeError> {
        let (dir, which) = (self.dir.clone(), Which::Data(disk.clone()));
        on_thread(move || dir.unlink(&dir.disk(vm, &which))).await
    }

    async fn write_seed(&self, vm: VmId, contents: Vec<u8>) -> Result<PathBuf, VolumeError> {
        let dir = self.dir.clone();
        on_thread(move || dir.write_seed(vm, &contents)).await
    }

    async fn remove(&self, vm: VmId) -> Result<(), VolumeError> {
        let dir = self.dir.clone();
        on_thread(move || dir.unlink(&dir.seed(vm)).and_then(|()| dir.remove(vm, |_| true))).await
    }

    async fn list(&self) -> Result<Vec<VmId>, VolumeError> {
        let dir = self.dir.clone();
        let mut found: Vec<_> = on_thread(move || dir.disks(|_| true)).await?.into_iter().map(|(vm, _)| vm).collect();
        found.dedup();
        Ok(found)
    }
}

#[cfg(test)]
mod tests;

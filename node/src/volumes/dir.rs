//! Disks as qcow2 overlays in a directory: only what a guest changes takes space, and making one takes no time. In: a base
//! that never changes; out: `volumes/<vm>.qcow2`, which records the base's absolute path and format.
//!
//! A disk appears under its name only when it is complete: it is made under another name, synced, and renamed. What a crash
//! leaves under such names is removed at the next start.

use super::{Volume, VolumeError, Volumes};
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
/// How names of disks end.
const SUFFIX: &str = ".qcow2";
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
    async fn create(&self, vm: VmId, base: &Base, size: u64) -> Result<(), VolumeError> {
        if base.size > size {
            let (have, wanted) = (ByteSize::bytes(base.size), ByteSize::bytes(size));
            return Err(VolumeError::BelowBase { vm, base: base.path.clone(), have, wanted });
        }
        let dir = self.dir.clone();
        let unfinished = on_thread(move || dir.unfinished(vm)).await?;
        let format = match base.format {
            ImageFormat::Qcow2 => "qcow2",
            ImageFormat::Raw | ImageFormat::Iso => "raw",
        };
        let (target, backing) = (utf8(unfinished.path())?, utf8(&base.path)?);
        self.tool
            .succeed("create", &["-q", "-f", "qcow2", "-F", format, "-b", backing, target, &size.to_string()])
            .await
            .map_err(|e| self.tool_error(vm, e))?;
        let dir = self.dir.clone();
        on_thread(move || dir.finish(vm, unfinished)).await
    }

    /// Sees to it that a disk that is there is what was asked for.
    async fn adapt(&self, vm: VmId, base: &Base, size: u64) -> Result<(), VolumeError> {
        let path = self.dir.disk(vm);
        let header = header(&path)?;
        let stands_on = PathBuf::from(header.backing.unwrap_or_default());
        if stands_on != base.path {
            return Err(VolumeError::OtherBase { vm, have: stands_on, wanted: base.path.clone() });
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
    fn disk(&self, vm: VmId) -> PathBuf {
        self.0.join(format!("{vm}{SUFFIX}"))
    }

    /// A file under a name of no meaning. It is gone when it is dropped.
    fn unfinished(&self, vm: VmId) -> Result<NamedTempFile, VolumeError> {
        let named = tempfile::Builder::new().prefix(UNFINISHED).suffix(SUFFIX).tempfile_in(&self.0);
        named.map_err(|e| self.write_error(vm, "create a file in", &self.0, e))
    }

    /// Gives a complete disk its name, for good.
    fn finish(&self, vm: VmId, unfinished: NamedTempFile) -> Result<(), VolumeError> {
        unfinished.as_file().sync_all().map_err(|e| self.write_error(vm, "write", unfinished.path(), e))?;
        let path = self.disk(vm);
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

    fn find(&self, vm: VmId) -> Result<Option<Volume>, VolumeError> {
        let path = self.disk(vm);
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
    format: ImageFormat,
    /// Of the disk it makes, in bytes.
    size: u64,
}

impl Base {
    fn open(path: PathBuf, format: ImageFormat) -> Result<Self, VolumeError> {
        let size = match format {
            ImageFormat::Qcow2 => header(&path)?.virtual_size,
            ImageFormat::Raw | ImageFormat::Iso => fs::metadata(&path).map_err(at("open", &path))?.len(),
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
        base: &Path,
        base_format: ImageFormat,
        size: ByteSize,
    ) -> Result<Volume, VolumeError> {
        let path = base.to_owned();
        let base = on_thread(move || Base::open(path, base_format)).await?;
        let size = size.as_bytes().checked_next_multiple_of(SECTOR).unwrap_or(u64::MAX - SECTOR + 1);
        if self.find(vm).await?.is_none() {
            self.create(vm, &base, size).await?;
        }
        // Also after making it: true even if another made it first.
        self.adapt(vm, &base, size).await?;
        Ok(Volume { path: self.dir.disk(vm), format: ImageFormat::Qcow2 })
    }

    async fn find(&self, vm: VmId) -> Result<Option<Volume>, VolumeError> {
        let dir = self.dir.clone();
        on_thread(move || dir.find(vm)).await
    }

    async fn write_seed(&self, vm: VmId, contents: Vec<u8>) -> Result<PathBuf, VolumeError> {
        let dir = self.dir.clone();
        on_thread(move || dir.write_seed(vm, &contents)).await
    }

    async fn remove(&self, vm: VmId) -> Result<(), VolumeError> {
        let dir = self.dir.clone();
        // The disk last: while it is there, the VM is known to have left something here.
        on_thread(move || dir.unlink(&dir.seed(vm)).and_then(|()| dir.unlink(&dir.disk(vm)))).await
    }

    async fn list(&self) -> Result<Vec<VmId>, VolumeError> {
        let dir = self.dir.clone();
        let names = on_thread(move || dir.names()).await?;
        let mut found: Vec<_> = names.iter().filter_map(|name| name.strip_suffix(SUFFIX)?.parse().ok()).collect();
        found.sort_unstable();
        Ok(found)
    }
}

#[cfg(test)]
mod tests;

//! Where images lie in the data directory, and the only ways by which a file gets or loses its place.
//!
//! ```text
//!   images/<blake3>.qcow2   .raw   .iso            whole, verified, 0444, never written to again
//!   images/<blake3>.obao                           its BLAKE3 tree in groups of 16 KiB: what peers are served with
//!   images/.<blake3>.part   .<blake3>.part.obao    being fetched: what is in it is verified again before it is gone on with
//!   images/.import-*                               being imported: of no use after a crash, removed at the next start
//! ```

use super::ImageError;
use nix::sys::statvfs::statvfs;
use std::{
    fs::{self, File, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};
use tempfile::NamedTempFile;
use waifud_model::{digest::Blake3, size::ByteSize, template::ImageFormat};

/// How temporary names of imports begin.
const IMPORT: &str = ".import-";
/// How temporary names of fetches end.
const PART: &str = ".part";
/// Suffix of a BLAKE3 tree.
const TREE: &str = ".obao";
/// Images are never written to again. Readable by all: the hypervisor runs under an account of its own.
const MODE: u32 = 0o444;

/// What an image can be.
const FORMATS: [ImageFormat; 3] = [ImageFormat::Qcow2, ImageFormat::Raw, ImageFormat::Iso];

const fn suffix(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Qcow2 => "qcow2",
        ImageFormat::Raw => "raw",
        ImageFormat::Iso => "iso",
    }
}

/// The directory of images.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    dir: PathBuf,
}

impl Layout {
    /// Opens `dir`, makes it if need be, and removes what interrupted imports left.
    pub(super) fn open(dir: PathBuf) -> Result<Self, ImageError> {
        // Others may enter but not list: the hypervisor's account opens images by name.
        fs::DirBuilder::new().recursive(true).mode(0o711).create(&dir).map_err(ImageError::io("create", &dir))?;
        let dir = dir.canonicalize().map_err(ImageError::io("find", &dir))?;
        let layout = Self { dir };
        for name in layout.names()? {
            if name.starts_with(IMPORT) {
                layout.unlink(&layout.dir.join(name))?;
            }
        }
        Ok(layout)
    }

    /// Where a version is, if it is here.
    pub(super) fn find(&self, version: Blake3) -> Option<(PathBuf, ImageFormat)> {
        FORMATS.into_iter().map(|format| (self.image(version, format), format)).find(|(path, _)| path.is_file())
    }

    /// All versions that are here, in order.
    pub(super) fn list(&self) -> Result<Vec<Blake3>, ImageError> {
        let mut found: Vec<_> = self.names()?.iter().filter_map(|name| version_of(name)).collect();
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// Where a version goes.
    pub(super) fn image(&self, version: Blake3, format: ImageFormat) -> PathBuf {
        self.dir.join(format!("{version}.{}", suffix(format)))
    }

    /// Where a version's tree goes.
    pub(super) fn tree(&self, version: Blake3) -> PathBuf {
        self.dir.join(format!("{version}{TREE}"))
    }

    /// Where a version's bytes and tree are while they are being fetched.
    pub(super) fn part(&self, version: Blake3) -> (PathBuf, PathBuf) {
        (self.dir.join(format!(".{version}{PART}")), self.dir.join(format!(".{version}{PART}{TREE}")))
    }

    /// A new temporary file. It is gone when it is dropped, or at the next start.
    pub(super) fn temporary(&self) -> Result<NamedTempFile, ImageError> {
        tempfile::Builder::new()
            .prefix(IMPORT)
            .tempfile_in(&self.dir)
            .map_err(ImageError::io("create a file in", &self.dir))
    }

    /// Gives verified bytes and their tree their final names. The image's own comes last: where it is, all is.
    pub(super) fn publish(
        &self,
        version: Blake3,
        format: ImageFormat,
        image: &Path,
        tree: &Path,
    ) -> Result<PathBuf, ImageError> {
        let to = self.image(version, format);
        for (from, to) in [(tree, &self.tree(version)), (image, &to)] {
            let file = File::open(from).map_err(ImageError::io("open", from))?;
            file.set_permissions(Permissions::from_mode(MODE)).map_err(ImageError::io("protect", from))?;
            file.sync_all().map_err(ImageError::io("write", from))?;
            fs::rename(from, to).map_err(ImageError::io("rename", from))?;
            self.sync()?;
        }
        Ok(to)
    }

    /// Removes a version, the image first, so that a tree without an image is all a crash can leave.
    pub(super) fn remove(&self, version: Blake3) -> Result<(), ImageError> {
        let (part, part_tree) = self.part(version);
        let formats = FORMATS.map(|format| self.image(version, format));
        for path in formats.into_iter().chain([self.tree(version), part, part_tree]) {
            self.unlink(&path)?;
        }
        self.sync()
    }

    /// Versions of which a part was fetched.
    pub(super) fn parts(&self) -> Result<Vec<Blake3>, ImageError> {
        let part = |name: &String| name.strip_prefix('.')?.strip_suffix(PART)?.parse().ok();
        let mut found: Vec<_> = self.names()?.iter().filter_map(part).collect();
        found.sort_unstable();
        Ok(found)
    }

    /// Fails if `needed` more bytes do not fit.
    pub(super) fn require(&self, needed: ByteSize) -> Result<(), ImageError> {
        let free = self.free()?;
        if needed > free { Err(ImageError::NoSpace { dir: self.dir.clone(), needed, free }) } else { Ok(()) }
    }

    /// An error of writing, told as what it is when the disk is full. `needed` is how much there is to write.
    pub(super) fn write_error(&self, path: &Path, needed: ByteSize, source: io::Error) -> ImageError {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                ImageError::NoSpace { dir: self.dir.clone(), needed, free: self.free().unwrap_or(ByteSize::ZERO) }
            }
            _ => ImageError::Io { doing: "write", path: path.to_owned(), source },
        }
    }

    fn free(&self) -> Result<ByteSize, ImageError> {
        let stat = statvfs(&self.dir).map_err(|e| ImageError::io("measure", &self.dir)(e.into()))?;
        // The types are those of the C library and differ between machines.
        #[allow(clippy::useless_conversion, clippy::unnecessary_cast)]
        Ok(ByteSize::bytes((stat.blocks_available() as u64).saturating_mul(stat.fragment_size() as u64)))
    }

    fn names(&self) -> Result<Vec<String>, ImageError> {
        let entries = fs::read_dir(&self.dir).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let entries = entries.map_err(ImageError::io("list", &self.dir))?;
        Ok(entries.iter().filter_map(|entry| entry.file_name().into_string().ok()).collect())
    }

    fn unlink(&self, path: &Path) -> Result<(), ImageError> {
        match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(ImageError::io("remove", path)(e)),
            _ => Ok(()),
        }
    }

    /// Makes names durable.
    fn sync(&self) -> Result<(), ImageError> {
        File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(ImageError::io("write", &self.dir))
    }
}

fn version_of(name: &str) -> Option<Blake3> {
    let (version, format) = name.split_once('.')?;
    FORMATS.iter().any(|known| suffix(*known) == format).then(|| version.parse().ok()).flatten()
}

//! One snapshot file and what is known of it.

use crate::{
    database::DatabaseError,
    raft::{applied, types::SnapshotMeta},
};
use rusqlite::{Connection, OpenFlags};
use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use waifud_model::digest::Blake3;

/// A snapshot on disk. The last handle of one that was replaced removes the file.
#[derive(Debug, Clone)]
pub(crate) struct SnapshotFile(Arc<Held>);

#[derive(Debug)]
struct Held {
    path: PathBuf,
    meta: SnapshotMeta,
    digest: Blake3,
    bytes: u64,
    retired: AtomicBool,
}

impl SnapshotFile {
    /// Takes a file whose bytes have this digest.
    pub(super) fn open(path: PathBuf, digest: Blake3) -> Result<Self, DatabaseError> {
        let bytes = fs::metadata(&path).map_err(DatabaseError::io("look at a snapshot"))?.len();
        let progress = applied::progress(&read_only(&path)?)?;
        let meta = SnapshotMeta { last_log_id: progress.last, last_membership: progress.membership };
        Ok(Self(Arc::new(Held { path, meta, digest, bytes, retired: AtomicBool::new(false) })))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0.path
    }

    /// How far it goes.
    pub(crate) fn meta(&self) -> &SnapshotMeta {
        &self.0.meta
    }

    /// BLAKE3 of the file.
    pub(crate) fn digest(&self) -> Blake3 {
        self.0.digest
    }

    /// Its size.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.bytes
    }

    /// Whether the bytes are still those that were written.
    pub(crate) fn verify(&self) -> Result<(), DatabaseError> {
        let found = digest_of(&self.0.path).map_err(DatabaseError::io("read a snapshot"))?;
        if found == self.0.digest {
            Ok(())
        } else {
            Err(DatabaseError::Corrupt(format!("snapshot {} does not match its digest", self.0.path.display())))
        }
    }

    /// The file goes when nobody holds it any more.
    pub(super) fn retire(&self) {
        self.0.retired.store(true, Ordering::Release);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if *self.retired.get_mut()
            && let Err(error) = fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            // The next start clears it away.
            tracing::warn!(path = %self.path.display(), %error, "an old snapshot could not be removed");
        }
    }
}

/// Opens a snapshot that nobody changes: no lock, no journal, no write-ahead log beside it.
pub(super) fn read_only(path: &Path) -> Result<Connection, DatabaseError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    Connection::open_with_flags(immutable_uri(path), flags).map_err(DatabaseError::sqlite("open a snapshot"))
}

/// `file:` URI of a path, for SQLite (<https://sqlite.org/uri.html>): three characters have a meaning there.
pub(super) fn immutable_uri(path: &Path) -> String {
    let path = path.to_string_lossy().replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    format!("file:{path}?immutable=1")
}

/// BLAKE3 of a whole file.
pub(super) fn digest_of(path: &Path) -> io::Result<Blake3> {
    let mut hasher = blake3::Hasher::new();
    io::copy(&mut File::open(path)?, &mut hasher)?;
    Ok(Blake3(*hasher.finalize().as_bytes()))
}

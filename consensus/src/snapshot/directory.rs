//! The directory of snapshots: which is the current one, and how a new one takes its place.

use super::file::{SnapshotFile, digest_of};
use crate::{config::Storage, database::DatabaseError};
use rusqlite::Connection;
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};
use waifud_model::digest::Blake3;

/// Suffix of a file that is complete and synced. Its name is the digest of its bytes.
const COMPLETE: &str = "snapshot";
/// Suffix of a file that is being written.
const PARTIAL: &str = "partial";

/// The snapshots of this node. Cloning it gives another handle on the same directory.
#[derive(Debug, Clone)]
pub(crate) struct Snapshots {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    storage: Storage,
    current: Mutex<Option<SnapshotFile>>,
    partials: AtomicU64,
    built: AtomicU64,
    received: AtomicU64,
}

impl Snapshots {
    /// Opens the directory, or makes it; finds the newest snapshot and removes everything else.
    pub(crate) fn open(dir: PathBuf, storage: Storage) -> Result<Self, DatabaseError> {
        fs::create_dir_all(&dir).map_err(DatabaseError::io("make the snapshot directory"))?;
        let current = newest(&dir)?;
        clear(&dir, current.as_ref())?;
        Ok(Self {
            shared: Arc::new(Shared {
                dir,
                storage,
                current: Mutex::new(current),
                partials: AtomicU64::new(0),
                built: AtomicU64::new(0),
                received: AtomicU64::new(0),
            }),
        })
    }

    /// The newest snapshot.
    pub(crate) fn current(&self) -> Option<SnapshotFile> {
        self.shared.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many were built here, and how many were received, since the start.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.shared.built.load(Ordering::Relaxed), self.shared.received.load(Ordering::Relaxed))
    }

    /// Builds a snapshot through a reader of the state and makes it the current one. Writers go on meanwhile.
    pub(crate) fn build(&self, reader: &Connection, state: &Path) -> Result<SnapshotFile, DatabaseError> {
        let partial = self.partial();
        // One statement is one read transaction: the copy is of one moment, and the write-ahead log lets writers go on.
        reader
            .execute("VACUUM INTO ?1", [partial.to_string_lossy()])
            .map_err(DatabaseError::sqlite("copy the state into a snapshot"))?;
        let digest = digest_of(&partial).map_err(DatabaseError::io("read the new snapshot"))?;
        sync(&partial)?;
        let snapshot = SnapshotFile::open(partial, digest)?;
        // Under its own name the file stays; if it does not come to that, it goes.
        snapshot.retire();
        let snapshot = self.keep(snapshot)?;
        checkpoint(state)?;
        self.shared.built.fetch_add(1, Ordering::Relaxed);
        Ok(snapshot)
    }

    /// Makes a complete and synced file the current snapshot, and retires the one before.
    pub(crate) fn keep(&self, snapshot: SnapshotFile) -> Result<SnapshotFile, DatabaseError> {
        let path = self.shared.dir.join(format!("{}.{COMPLETE}", snapshot.digest()));
        let kept = if snapshot.path() == path {
            snapshot
        } else {
            fs::rename(snapshot.path(), &path).map_err(DatabaseError::io("name a snapshot"))?;
            sync(&self.shared.dir)?;
            SnapshotFile::open(path, snapshot.digest())?
        };
        let before = self.shared.current.lock().unwrap_or_else(PoisonError::into_inner).replace(kept.clone());
        if let Some(before) = before
            && before.path() != kept.path()
        {
            before.retire();
        }
        Ok(kept)
    }

    /// Who does the waiting for the disk.
    pub(super) fn storage(&self) -> Storage {
        self.shared.storage
    }

    /// A name for a file to be written.
    pub(super) fn partial(&self) -> PathBuf {
        let number = self.shared.partials.fetch_add(1, Ordering::Relaxed);
        self.shared.dir.join(format!("{number}.{PARTIAL}"))
    }

    /// One more came from another node.
    pub(super) fn count_received(&self) {
        self.shared.received.fetch_add(1, Ordering::Relaxed);
    }
}

/// The newest complete snapshot, if there is one.
fn newest(dir: &Path) -> Result<Option<SnapshotFile>, DatabaseError> {
    let mut newest: Option<SnapshotFile> = None;
    for path in files(dir)? {
        let digest = path
            .file_name()
            .and_then(|name| name.to_str()?.strip_suffix(COMPLETE)?.strip_suffix('.')?.parse::<Blake3>().ok());
        let Some(digest) = digest else { continue };
        let snapshot = SnapshotFile::open(path, digest)?;
        if newest.as_ref().is_none_or(|newest| snapshot.meta().last_log_id > newest.meta().last_log_id) {
            newest = Some(snapshot);
        }
    }
    Ok(newest)
}

/// Removes what a crash left behind, and snapshots that are not the current one.
fn clear(dir: &Path, keep: Option<&SnapshotFile>) -> Result<(), DatabaseError> {
    for path in files(dir)? {
        if keep.is_none_or(|keep| keep.path() != path) {
            fs::remove_file(&path).map_err(DatabaseError::io("remove an old snapshot"))?;
        }
    }
    Ok(())
}

fn files(dir: &Path) -> Result<Vec<PathBuf>, DatabaseError> {
    let list = || fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>();
    list().map_err(DatabaseError::io("list the snapshots"))
}

/// Makes a file, or the names in a directory, survive a power cut.
fn sync(path: &Path) -> Result<(), DatabaseError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(DatabaseError::io("sync a snapshot"))
}

/// Moves the state's write-ahead log into its file, and syncs both: with the log purged, they are what a restart stands on.
/// PASSIVE waits for nobody and makes nobody wait; what it leaves is covered by the snapshot that was just made.
fn checkpoint(state: &Path) -> Result<(), DatabaseError> {
    let run = || {
        let db = Connection::open(state)?;
        db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
    };
    run().map_err(DatabaseError::sqlite("checkpoint the state"))
}

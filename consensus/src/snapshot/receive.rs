//! A snapshot on its way between nodes: a header, then the bytes of the file.

use super::{directory::Snapshots, file::SnapshotFile};
use crate::{
    config::Storage,
    database::DatabaseError,
    raft::types::{SnapshotMeta, Vote},
};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::PathBuf,
};
use tokio::io::{AsyncRead, AsyncReadExt};
use waifud_model::digest::Blake3;

/// Bytes read at once. Writing so many into the page cache takes some ten microseconds, so it is done right here; only the
/// fsync at the end may take long.
const CHUNK: usize = 64 << 10;

/// What goes before the bytes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SnapshotHeader {
    /// The leader's vote: it proves that the sender leads.
    pub(crate) vote: Vote,
    /// How far the snapshot goes.
    pub(crate) meta: SnapshotMeta,
    /// How many bytes follow.
    pub(crate) bytes: u64,
    /// What they hash to.
    pub(crate) digest: Blake3,
}

/// Why a snapshot was not taken. The node goes on; the leader tries again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReceiveError {
    /// The bytes could not be read or written.
    #[error("the snapshot could not be received")]
    Io(#[from] io::Error),
    /// The bytes are not those that were announced.
    #[error("the snapshot does not match its header")]
    Mismatch,
    /// The file does not read as a snapshot.
    #[error("the snapshot does not read")]
    Unreadable(#[source] DatabaseError),
}

impl Snapshots {
    /// Writes what comes from `reader` to a file of its own. Nothing relies on it until it is
    /// [kept](Snapshots::keep); dropped before that, it is removed.
    pub(crate) async fn receive(
        &self,
        header: &SnapshotHeader,
        reader: impl AsyncRead + Unpin,
    ) -> Result<SnapshotFile, ReceiveError> {
        let mut partial = Partial { path: self.partial(), armed: true };
        let mut file = File::create(&partial.path)?;
        let digest = write(&mut file, header.bytes, reader).await?;
        if digest != header.digest {
            return Err(ReceiveError::Mismatch);
        }
        match self.storage() {
            Storage::Inline { .. } => file.sync_all()?,
            Storage::Threads => {
                tokio::task::spawn_blocking(move || file.sync_all()).await.map_err(io::Error::other)??
            }
        }
        let snapshot = SnapshotFile::open(partial.path.clone(), digest).map_err(ReceiveError::Unreadable)?;
        // From here on the handle looks after the file; under another name it stays.
        partial.armed = false;
        snapshot.retire();
        if *snapshot.meta() != header.meta {
            return Err(ReceiveError::Mismatch);
        }
        self.count_received();
        Ok(snapshot)
    }
}

async fn write(file: &mut File, bytes: u64, reader: impl AsyncRead + Unpin) -> Result<Blake3, ReceiveError> {
    let mut hasher = blake3::Hasher::new();
    let mut left = bytes;
    let mut reader = reader.take(bytes);
    let mut chunk = vec![0; CHUNK];
    while left > 0 {
        let read = reader.read(&mut chunk).await?;
        if read == 0 {
            return Err(ReceiveError::Mismatch);
        }
        hasher.update(&chunk[..read]);
        file.write_all(&chunk[..read])?;
        left -= read as u64;
    }
    Ok(Blake3(*hasher.finalize().as_bytes()))
}

/// A file that is removed unless somebody else takes it over: the sender may stop in the middle.
struct Partial {
    path: PathBuf,
    armed: bool,
}

impl Drop for Partial {
    fn drop(&mut self) {
        if self.armed
            && let Err(error) = fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.path.display(), %error, "a partial snapshot could not be removed");
        }
    }
}

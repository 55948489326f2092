//! `state.db` as Raft sees it: batches of committed entries in, and how far they were applied noted in the same transaction.
//!
//! In: entries in log order. Out: an [`Outcome`] for each. A power cut may take the last transactions away; what they held
//! is applied again from the log, because the note of how far it got went with them.

use super::{
    stored::{self, MembersAt, Position},
    types::{Entry, LogId, Logged, Outcome, StoredMembership},
};
use crate::{
    config::Storage,
    database::{Counters, DatabaseError, Halted, Readers, Writer},
    snapshot::{self, SnapshotFile, Snapshots},
    state::{self, Ledger, View},
};
use openraft::{EntryPayload, entry::RaftEntry};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    fs::File,
    io, mem,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::watch;
use waifud_model::time::Timestamp;

/// How far the local replica is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Applied {
    /// The index of the last entry applied; zero before the first.
    pub index: u64,
    /// The log time of the last accepted command.
    pub at: Timestamp,
}

/// How far the state is, and the membership that goes with it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Progress {
    pub(crate) last: Option<LogId>,
    pub(crate) membership: StoredMembership,
}

/// The applied state on disk. Cloning it gives another handle on the same one.
#[derive(Debug, Clone)]
pub(crate) struct AppliedState {
    path: PathBuf,
    writer: Writer,
    readers: Readers,
    progress: Arc<Mutex<Progress>>,
    /// What the writer's connection remembers. Taken while it works, so that what fails leaves none behind.
    ledger: Arc<Mutex<Ledger>>,
    applied: watch::Sender<Applied>,
}

impl AppliedState {
    /// Opens `state.db` in `dir`, or makes it.
    pub(crate) fn open(dir: &Path, storage: Storage, halted: Halted) -> Result<Self, DatabaseError> {
        let path = dir.join("state.db");
        let db = state::open(&path).map_err(|error| DatabaseError::Corrupt(crate::database::chain(&error)))?;
        if storage == (Storage::Inline { durable: false }) {
            db.pragma_update(None, "synchronous", "OFF").map_err(DatabaseError::sqlite("prepare the state"))?;
        }
        let verdict: String = db
            .pragma_query_value(None, "quick_check", |row| row.get(0))
            .map_err(DatabaseError::sqlite("check the state"))?;
        if verdict != "ok" {
            return Err(DatabaseError::Corrupt(format!("state.db: {verdict}")));
        }
        let progress = progress(&db)?;
        let applied = applied(&db, &progress)?;
        let reader_path = path.clone();
        Ok(Self {
            path,
            writer: Writer::start("state", db, storage, halted)?,
            readers: Readers::new(storage, move || {
                state::open_reader(&reader_path).map_err(|error| DatabaseError::Corrupt(crate::database::chain(&error)))
            }),
            progress: Arc::new(Mutex::new(progress)),
            ledger: Arc::default(),
            applied: watch::Sender::new(applied),
        })
    }

    /// How many transactions and entries were applied.
    pub(crate) fn counters(&self) -> &Counters {
        self.writer.counters()
    }

    /// Connections for readers.
    pub(crate) const fn readers(&self) -> &Readers {
        &self.readers
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Announces every batch.
    pub(crate) fn watch(&self) -> watch::Receiver<Applied> {
        self.applied.subscribe()
    }

    /// How far it is.
    pub(crate) fn progress(&self) -> Progress {
        lock(&self.progress).clone()
    }

    /// Finishes what is queued and closes the file.
    pub(crate) async fn close(&self) {
        self.readers.close();
        self.writer.close().await;
    }

    /// Applies entries in one transaction.
    pub(crate) async fn apply(&self, entries: Vec<Entry>) -> Result<Vec<Outcome>, Arc<DatabaseError>> {
        let before = self.progress();
        let ledger = self.ledger.clone();
        let (outcomes, progress, applied) = self
            .writer
            .alone(move |db| {
                let mut taken = mem::take(&mut *lock(&ledger));
                let done = batch(db, &mut taken, &entries, before)?;
                *lock(&ledger) = taken;
                Ok(done)
            })
            .await?;
        self.moved(progress, applied);
        Ok(outcomes)
    }

    /// Replaces everything by what a snapshot holds, after making sure that the file is there to stay.
    pub(crate) async fn install(&self, snapshots: Snapshots, file: SnapshotFile) -> Result<(), Arc<DatabaseError>> {
        let ledger = self.ledger.clone();
        let (progress, applied) = self
            .writer
            .alone(move |db| {
                // It is about what goes.
                *lock(&ledger) = Ledger::default();
                file.verify()?;
                let kept = snapshots.keep(file)?;
                snapshot::install(db, kept.path())?;
                let progress = progress(db)?;
                let applied = applied(db, &progress)?;
                Ok((progress, applied))
            })
            .await?;
        self.moved(progress, applied);
        Ok(())
    }

    /// Makes what was applied until now survive a power cut, without waiting for a snapshot.
    ///
    /// What is not in the database file yet is in its write-ahead log, and that is the file to sync. The database file
    /// itself must not be opened beside SQLite: closing it again would drop SQLite's locks (POSIX: they belong to the
    /// process, not to the descriptor).
    pub(crate) fn sync(&self) -> io::Result<()> {
        let mut log = self.path.clone().into_os_string();
        log.push("-wal");
        match File::open(log) {
            Ok(log) => log.sync_all()?,
            // All of it is in the database file, which SQLite synced when it moved it there.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        self.path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
    }

    fn moved(&self, progress: Progress, applied: Applied) {
        *lock(&self.progress) = progress;
        self.applied.send_replace(applied);
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a snapshot or a state says of itself.
pub(crate) fn progress(db: &Connection) -> Result<Progress, DatabaseError> {
    Ok(Progress {
        last: get::<Position>(db, "last_applied")?.map(LogId::from),
        membership: get::<MembersAt>(db, "membership")?.map(StoredMembership::from).unwrap_or_default(),
    })
}

fn applied(db: &Connection, progress: &Progress) -> Result<Applied, DatabaseError> {
    let index = progress.last.map_or(0, |id| id.index());
    let at = View::new(db).log_time().map_err(|error| DatabaseError::Apply { index, source: error.into() })?;
    Ok(Applied { index, at })
}

fn batch(
    db: &mut Connection,
    ledger: &mut Ledger,
    entries: &[Entry],
    before: Progress,
) -> Result<(Vec<Outcome>, Progress, Applied), DatabaseError> {
    let tx = db
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(DatabaseError::sqlite("begin to apply entries"))?;
    let mut progress = before;
    let mut outcomes = Vec::with_capacity(entries.len());
    for entry in entries {
        outcomes.push(match &entry.payload {
            EntryPayload::Blank => Outcome::Nothing,
            EntryPayload::Normal(logged) => command(&tx, ledger, entry.index(), logged)?,
            EntryPayload::Membership(membership) => {
                progress.membership = StoredMembership::new(Some(entry.log_id()), membership.clone());
                put(&tx, "membership", &MembersAt::from(&progress.membership))?;
                Outcome::Nothing
            }
        });
        progress.last = Some(entry.log_id());
    }
    if let Some(last) = progress.last {
        put(&tx, "last_applied", &Position::from(last))?;
    }
    let index = progress.last.map_or(0, |id| id.index());
    let at = ledger.log_time(&tx).map_err(|error| DatabaseError::Apply { index, source: error.into() })?;
    tx.commit().map_err(DatabaseError::sqlite("commit applied entries"))?;
    Ok((outcomes, progress, Applied { index, at }))
}

fn command(tx: &Transaction<'_>, ledger: &mut Ledger, index: u64, logged: &Logged) -> Result<Outcome, DatabaseError> {
    let halt = |source: Box<dyn std::error::Error + Send + Sync>| DatabaseError::Apply { index, source };
    // A command that does not read is a newer build's. Skipping it would make this state differ from the others'.
    let envelope = logged.decode().map_err(|error| halt(error.into()))?;
    match state::apply(tx, ledger, index, &envelope).map_err(|error| halt(error.into()))? {
        Ok(accepted) => Ok(Outcome::Accepted { reply: accepted.reply, replayed: accepted.replayed }),
        Err(reject) => Ok(Outcome::Rejected(reject)),
    }
}

fn put<T: Serialize>(tx: &Transaction<'_>, key: &str, value: &T) -> Result<(), DatabaseError> {
    let value =
        stored::encode(value).map_err(|error| DatabaseError::Corrupt(format!("{key} cannot be encoded: {error}")))?;
    tx.prepare_cached(
        "INSERT INTO raft (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
    )
    .and_then(|mut insert| insert.execute(params![key, value]))
    .map(drop)
    .map_err(DatabaseError::sqlite("note how far the state is"))
}

fn get<T: DeserializeOwned>(db: &Connection, key: &str) -> Result<Option<T>, DatabaseError> {
    let value: Option<Vec<u8>> = db
        .query_row("SELECT value FROM raft WHERE key = ?1", [key], |row| row.get(0))
        .optional()
        .map_err(DatabaseError::sqlite("read how far the state is"))?;
    value
        .map(|bytes| {
            stored::decode(&bytes).map_err(|error| DatabaseError::Corrupt(format!("{key} does not read: {error}")))
        })
        .transpose()
}

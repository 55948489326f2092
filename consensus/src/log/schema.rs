//! Opening `log.db`: its tables and its connections' settings.

use crate::{config::Storage, database::DatabaseError};
use rusqlite::{Connection, OpenFlags};
use std::{path::Path, time::Duration};

/// The layout this build reads and writes, in `PRAGMA user_version`.
const LAYOUT: i64 = 1;

/// SQLite moves the write-ahead log into the file when it has this many pages (16 MiB): four times the default, because a
/// checkpoint at FULL costs two more fsyncs and every command waits behind it.
const CHECKPOINT_PAGES: i64 = 4096;

/// Readers wait this long for the moment in which SQLite recovers or restarts the write-ahead log.
const BUSY: Duration = Duration::from_secs(5);

const TABLES: &str = "
    -- One row an entry. The sum is over all other columns: SQLite has no checksums of its own, and a flipped bit in a
    -- command must be found, not applied.
    CREATE TABLE entries (
        idx    INTEGER NOT NULL PRIMARY KEY CHECK (idx >= 0),
        term   INTEGER NOT NULL,
        leader INTEGER NOT NULL,
        -- 0 blank, 1 command, 2 membership
        kind   INTEGER NOT NULL CHECK (kind BETWEEN 0 AND 2),
        body   BLOB    NOT NULL,
        sum    BLOB    NOT NULL CHECK (length(sum) = 8)
    ) STRICT;
    CREATE TABLE notes (
        -- 'vote' or 'purged'
        key   TEXT NOT NULL PRIMARY KEY,
        value BLOB NOT NULL,
        sum   BLOB NOT NULL CHECK (length(sum) = 8)
    ) STRICT, WITHOUT ROWID;
";

/// Opens `log.db` for writing, makes its tables if they are not there, and looks through the file for damage.
pub(super) fn open(path: &Path, storage: Storage) -> Result<Connection, DatabaseError> {
    let mut db = Connection::open(path).map_err(DatabaseError::sqlite("open the log"))?;
    configure(&mut db, storage).map_err(DatabaseError::sqlite("prepare the log"))?;
    let found: i64 = db
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(DatabaseError::sqlite("read the layout"))?;
    if found != LAYOUT {
        return Err(DatabaseError::Corrupt(format!("log.db has layout {found}, this build knows {LAYOUT}")));
    }
    let verdict: String =
        db.pragma_query_value(None, "quick_check", |row| row.get(0)).map_err(DatabaseError::sqlite("check the log"))?;
    if verdict != "ok" {
        return Err(DatabaseError::Corrupt(format!("log.db: {verdict}")));
    }
    Ok(db)
}

fn configure(db: &mut Connection, storage: Storage) -> rusqlite::Result<()> {
    db.busy_timeout(BUSY)?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    // FULL, not WAL's usual NORMAL: that loses acknowledged votes and entries when the power goes.
    let durable = matches!(storage, Storage::Threads | Storage::Inline { durable: true });
    db.pragma_update(None, "synchronous", if durable { "FULL" } else { "OFF" })?;
    db.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    let tx = db.transaction()?;
    if tx.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))? == 0 {
        tx.execute_batch(TABLES)?;
        tx.pragma_update(None, "user_version", LAYOUT)?;
    }
    tx.commit()
}

/// Opens `log.db` for reading only.
pub(super) fn open_reader(path: &Path) -> Result<Connection, DatabaseError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || {
        let db = Connection::open_with_flags(path, flags)?;
        db.busy_timeout(BUSY)?;
        Ok(db)
    };
    open().map_err(DatabaseError::sqlite("open the log for reading"))
}

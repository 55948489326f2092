//! Opening `state.db`: its schema and its connections' settings. It must not look into the rows.

use rusqlite::{Connection, OpenFlags, TransactionBehavior, config::DbConfig};
use std::{path::Path, time::Duration};

/// The newest layout of tables that this build knows; kept in SQLite's `user_version`.
const LAYOUT: i64 = 1;

/// Every statement of apply and of [`View`](super::View) stays prepared; SQLite's default of 16 would evict them in turn.
const STATEMENTS: usize = 128;

/// The pages that new VMs, events and remembered requests fall on, in a cluster of some thousand VMs. Filled as needed.
const WRITER_CACHE_KIB: i64 = 16 << 10;

/// SQLite moves the write-ahead log into the file when it has this many pages (32 MiB), eight times the default. Apply waits
/// meanwhile, for two syncs and for each changed page once: under load a quarter of its time, with the default.
const CHECKPOINT_PAGES: i64 = 8192;

/// How long a reader waits while SQLite recovers or restarts the write-ahead log. Writers and readers never block each other otherwise.
const BUSY: Duration = Duration::from_secs(5);

/// Why `state.db` could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// SQLite failed.
    #[error("the state database cannot be opened")]
    Sqlite(#[from] rusqlite::Error),
    /// The file is of a newer build.
    #[error("the state database has layout {found}, this build knows {known}: a newer waifud wrote it")]
    Newer {
        /// What the file says.
        found: i64,
        /// The newest this build knows.
        known: i64,
    },
}

/// Opens `state.db` for writing, and makes it and its tables if they are not there. There must be one writer only.
///
/// `synchronous` is `NORMAL`: a tail lost in a power cut is applied again from the log, because the index of the last
/// applied entry is lost with it.
///
/// # Errors
/// If SQLite fails, or if the file is of a newer build.
pub fn open(path: &Path) -> Result<Connection, OpenError> {
    let mut db = Connection::open(path)?;
    db.busy_timeout(BUSY)?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "NORMAL")?;
    db.pragma_update(None, "foreign_keys", true)?;
    // A command's savepoint keeps the pages it changes; beyond 64 KiB that would become a file, for every create.
    db.pragma_update(None, "temp_store", "MEMORY")?;
    db.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
    db.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    settle(&db)?;
    create(&mut db)?;
    Ok(db)
}

/// Opens `state.db` for reading only.
///
/// # Errors
/// If the file is not there, or if SQLite fails.
pub fn open_reader(path: &Path) -> Result<Connection, OpenError> {
    // A reader belongs to one thread at a time, so SQLite's own mutex would only cost.
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(BUSY)?;
    settle(&db)?;
    Ok(db)
}

/// A statement is compiled once, whatever is bound to it. SQLite would else look for a better plan at each new value,
/// which takes a third of a command's time; here every plan is the only one.
fn settle(db: &Connection) -> Result<(), OpenError> {
    db.set_prepared_statement_cache_capacity(STATEMENTS);
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

fn create(db: &mut Connection) -> Result<(), OpenError> {
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    match tx.pragma_query_value(None, "user_version", |row| row.get(0))? {
        0 => {
            tx.execute_batch(include_str!("schema.sql"))?;
            tx.pragma_update(None, "user_version", LAYOUT)?;
        }
        LAYOUT => complete(&tx)?,
        found => return Err(OpenError::Newer { found, known: LAYOUT }),
    }
    tx.commit()?;
    Ok(())
}

/// Adds the columns that the layout has got since a file of it was written. They come last, so that a file that grew and one
/// that was made whole give the same digest.
pub(crate) fn complete(db: &Connection) -> rusqlite::Result<()> {
    if !db.column_exists(None, "api_tokens", "scope")? {
        db.execute_batch("ALTER TABLE api_tokens ADD COLUMN scope BLOB")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_layout_is_refused_and_the_same_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        drop(open(&path).unwrap());
        let db = open(&path).unwrap();
        db.pragma_update(None, "user_version", LAYOUT + 1).unwrap();
        drop(db);
        assert!(matches!(open(&path), Err(OpenError::Newer { found: 2, known: 1 })));
    }

    #[test]
    fn a_file_of_before_a_column_gets_it_and_is_as_if_it_had_always_been_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        let db = open(&path).unwrap();
        let whole = crate::state::View::new(&db).digest().unwrap();
        db.execute_batch("ALTER TABLE api_tokens DROP COLUMN scope").unwrap();
        assert!(!db.column_exists(None, "api_tokens", "scope").unwrap());
        drop(db);
        let db = open(&path).unwrap();
        assert_eq!(crate::state::View::new(&db).digest().unwrap(), whole);
    }

    #[test]
    fn a_reader_cannot_write() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        assert!(open_reader(&path).is_err(), "a reader must not make the file");
        drop(open(&path).unwrap());
        assert!(open_reader(&path).unwrap().execute("DELETE FROM raft", []).is_err());
    }
}

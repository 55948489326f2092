//! Read-only connections, kept open and lent out one at a time.

use super::DatabaseError;
use crate::config::Storage;
use rusqlite::Connection;
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

/// At most this many idle connections stay open: more readers than that at once are rare, and each costs a page cache.
const IDLE: usize = 8;

type Open = dyn Fn() -> Result<Connection, DatabaseError> + Send + Sync;

/// Lends read-only connections of one file.
#[derive(Clone)]
pub(crate) struct Readers {
    shared: Arc<Shared>,
}

struct Shared {
    open: Box<Open>,
    idle: Mutex<Vec<Connection>>,
    storage: Storage,
}

impl Readers {
    /// Connections are made by `open` when they are first needed.
    pub(crate) fn new(
        storage: Storage,
        open: impl Fn() -> Result<Connection, DatabaseError> + Send + Sync + 'static,
    ) -> Self {
        Self { shared: Arc::new(Shared { open: Box::new(open), idle: Mutex::default(), storage }) }
    }

    /// Closes the idle connections: SQLite tidies the write-ahead log away only when the writer is the last to leave.
    pub(crate) fn close(&self) {
        self.shared.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Runs `read` on a connection: on a blocking thread, or right here if storage is inline.
    ///
    /// # Errors
    /// If no connection can be opened, or `read` fails.
    pub(crate) async fn run<T, E>(
        &self,
        read: impl FnOnce(&mut Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DatabaseError> + Send + 'static,
    {
        let shared = self.shared.clone();
        match self.shared.storage {
            Storage::Inline { .. } => shared.lend(read),
            Storage::Threads => tokio::task::spawn_blocking(move || shared.lend(read))
                .await
                .unwrap_or_else(|error| Err(DatabaseError::Stopped { name: "reading", why: error.to_string() }.into())),
        }
    }
}

impl Shared {
    fn lend<T, E: From<DatabaseError>>(&self, read: impl FnOnce(&mut Connection) -> Result<T, E>) -> Result<T, E> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => (self.open)()?,
        };
        let result = read(&mut connection);
        // After an error the connection might be the broken thing, and an open transaction must never go back.
        if result.is_ok() && connection.is_autocommit() {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < IDLE {
                idle.push(connection);
            }
        }
        result
    }
}

impl fmt::Debug for Readers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readers").field("storage", &self.shared.storage).finish_non_exhaustive()
    }
}

//! What can go wrong with a database file, and the mark that it did.

use std::{
    error::Error,
    fmt::Write as _,
    io,
    sync::{Arc, OnceLock},
};

/// A database failed. The node must not go on: what it would do next builds on what was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DatabaseError {
    /// SQLite failed: the disk is full, unreadable, or the file is damaged.
    #[error("SQLite failed while it was to {doing}")]
    Sqlite {
        /// What was tried.
        doing: &'static str,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// A file could not be written, synced or moved.
    #[error("the file system failed while it was to {doing}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The file holds something that was never written there.
    #[error("the data on disk is damaged: {0}")]
    Corrupt(String),
    /// Apply cannot go on.
    #[error("the entry at index {index} cannot be applied")]
    Apply {
        /// Which entry.
        index: u64,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The writer stopped before, and takes no more work.
    #[error("the {name} database takes no more work: {why}")]
    Stopped {
        /// Which.
        name: &'static str,
        /// Why it stopped.
        why: String,
    },
}

impl DatabaseError {
    /// For `map_err`: SQLite failed while it was to do this.
    pub(crate) fn sqlite(doing: &'static str) -> impl FnOnce(rusqlite::Error) -> Self {
        move |source| Self::Sqlite { doing, source }
    }

    /// For `map_err`: the file system failed while it was to do this.
    pub(crate) fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }
}

impl From<DatabaseError> for io::Error {
    /// openraft speaks `io::Error` and prints only its text, so the whole chain goes in.
    fn from(error: DatabaseError) -> Self {
        Self::other(chain(&error))
    }
}

/// An error and all its causes in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Writing to a string cannot fail.
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}

/// The first reason why this node stopped taking part; set once, shared by everything that can fail.
#[derive(Debug, Clone, Default)]
pub(crate) struct Halted(Arc<OnceLock<String>>);

impl Halted {
    /// Notes the reason, unless there is one already.
    pub(crate) fn set(&self, error: &dyn Error) {
        let text = chain(error);
        if self.0.set(text.clone()).is_ok() {
            tracing::error!(reason = %text, "consensus halted on this node");
        }
    }

    /// The reason, if there is one.
    pub(crate) fn get(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_stays_and_tells_its_causes() {
        let halted = Halted::default();
        assert_eq!(halted.get(), None);
        halted.set(&DatabaseError::Io { doing: "sync a file", source: io::Error::other("no space") });
        halted.set(&DatabaseError::Corrupt("later".into()));
        assert_eq!(halted.get(), Some("the file system failed while it was to sync a file: no space"));
    }
}

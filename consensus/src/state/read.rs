//! Why the state could not be read.

/// The state cannot be read. Neither kind goes away by trying again.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// SQLite failed.
    #[error("the state database failed")]
    Sqlite(#[from] rusqlite::Error),
    /// A row holds something that apply never wrote: the file is damaged, or of a newer build.
    #[error("table {table} holds a value that does not read")]
    Corrupt {
        /// Where.
        table: &'static str,
        /// What is wrong with the value.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A value that its column's rules let in, but no type of the model.
#[derive(Debug, thiserror::Error)]
#[error("{what} is out of its range")]
pub(super) struct OutOfRange {
    pub(super) what: &'static str,
}

/// Marks a value's own error with the table it was read from.
pub(super) fn corrupt<E>(table: &'static str) -> impl FnOnce(E) -> ReadError
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    move |source| ReadError::Corrupt { table, source: source.into() }
}

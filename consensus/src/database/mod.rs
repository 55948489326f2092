//! Who runs work on a SQLite file: one [`Writer`] with group commit, and [`Readers`] that never block it.
//!
//! In: closures over a connection. Out: their results, or a [`DatabaseError`] after which the writer takes no more work.
//! [`Storage`](crate::config::Storage) decides whether the closures run on a thread or on the caller; nothing here knows
//! what the tables mean.
//!
//! ```text
//!   submit ──> queue ──> [ writer thread: one transaction for all that is queued ] ──> commit ──> every job's `done`
//!   submit ──> ───────── [ inline: a transaction for this one, on the caller     ] ──> commit ──> `done`
//! ```

mod error;
mod lock;
mod readers;
mod writer;

pub(crate) use error::{DatabaseError, Halted, chain};
pub(crate) use lock::DirLock;
pub use lock::LockError;
pub(crate) use readers::Readers;
pub(crate) use writer::{Counters, Writer};

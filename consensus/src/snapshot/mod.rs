//! Snapshots: the whole state in one SQLite file, built without stopping writers, sent as it is, installed in one transaction.
//!
//! In: the state's file, or the bytes another node sends. Out: a file in `snapshots/` that is there for good before anybody
//! relies on it. The newest is kept; a file that is being sent stays until that is over.
//!
//! ```text
//!   build:    VACUUM INTO tmp ──> digest, fsync ──> rename, fsync dir ──> checkpoint state.db ──> the log may be purged
//!   receive:  bytes ──> tmp, digest compared, fsync ──> rename, fsync dir ──> install ──> the log may be purged
//! ```

mod directory;
mod file;
mod install;
mod receive;

pub(crate) use directory::Snapshots;
pub(crate) use file::SnapshotFile;
pub(crate) use install::install;
pub(crate) use receive::SnapshotHeader;

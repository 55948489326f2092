//! One process at a time on a directory: a lock that dies with the process.

use std::{
    fs::{File, TryLockError},
    io,
    path::Path,
};

/// Why the directory could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else has it.
    #[error("another process uses this directory")]
    Taken,
    /// The lock file could not be made or locked.
    #[error("the lock file cannot be used")]
    Io(#[from] io::Error),
}

/// Held for as long as the databases in the directory may be open.
#[derive(Debug)]
pub(crate) struct DirLock {
    /// The kernel releases the lock when this is closed.
    _file: File,
}

impl DirLock {
    /// Locks `dir`.
    pub(crate) fn take(dir: &Path) -> Result<Self, LockError> {
        let file = File::options().create(true).truncate(false).write(true).open(dir.join("lock"))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(LockError::Taken),
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_owner_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let lock = DirLock::take(dir.path()).unwrap();
        assert!(matches!(DirLock::take(dir.path()), Err(LockError::Taken)));
        drop(lock);
        DirLock::take(dir.path()).unwrap();
    }
}

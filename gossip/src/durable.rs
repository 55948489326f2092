//! Small files that survive a power cut: either the old content is there or the new, never a part.
//!
//! Blocking, for a few hundred bytes at start and at renewal; not for data on a hot path.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

/// Only the daemon's own user may enter directories with keys.
const DIR_MODE: u32 = 0o700;
/// Only the daemon's own user may read keys.
const FILE_MODE: u32 = 0o600;

/// Makes `dir` with mode 0700, and takes other people's rights away if it was there already.
pub(crate) fn private_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(DIR_MODE).create(dir)?;
    fs::set_permissions(dir, fs::Permissions::from_mode(DIR_MODE))
}

/// Replaces `path` by `content` with mode 0600: written beside it, fsynced, renamed, and the directory fsynced.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let Some((dir, name)) = path.parent().zip(path.file_name()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a file name is needed"));
    };
    let mut temporary = name.to_owned();
    temporary.push(".new");
    let temporary = dir.join(temporary);
    // What a crash left behind may carry other rights: the mode below holds for new files only.
    remove(&temporary)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(dir)?.sync_all()
}

/// Renames `from` to `to` in the same directory, durably.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    to.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

/// The content of `path`; none if there is no such file.
pub(crate) fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Removes `path` if it is there.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

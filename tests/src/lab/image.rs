//! What guests are started from, built once and kept: see `tests/lab/tiny-image.sh` and `tests/lab/debian-image.sh`.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use super::checked;

/// Where the image is, built first if it is not there yet. It boots in three seconds without KVM, writes
/// `READY <uptime> <name> <address>` to its serial port, and greets with both on port 80.
///
/// # Errors
/// When a tool is missing that `tests/lab/install.sh` installs.
pub fn tiny_image() -> Result<PathBuf> {
    let path = checked(&mut Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/lab/tiny-image.sh")))?;
    Ok(PathBuf::from(path.trim()))
}

/// Where Debian 12 with its own cloud-init is, built first if it is not there yet, which takes a minute or two. It finds its
/// datasource as stock images do, and its cloud-init ends with `Cloud-init … finished` on the serial port.
///
/// # Errors
/// When not run as root, when a tool is missing that `tests/lab/install.sh --for test` installs, or apt cannot download.
pub fn debian_image() -> Result<PathBuf> {
    let path = checked(&mut Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/lab/debian-image.sh")))?;
    Ok(PathBuf::from(path.trim()))
}

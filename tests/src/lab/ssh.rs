//! A key of an operator's, and `ssh` with it from a host into a guest.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::{Host, checked};

/// Where a host has the private key: a directory that it has for itself.
const IDENTITY: &str = "/var/lib/libvirt/id_lab";

/// A pair of keys, made for one test.
#[derive(Debug)]
pub struct SshKey {
    private: String,
    public: String,
}

impl SshKey {
    /// Makes one, in a directory that nobody else writes to.
    ///
    /// # Errors
    /// When `ssh-keygen` is missing or fails.
    pub fn make(directory: &Path) -> Result<Self> {
        let file = directory.join("id_lab");
        checked(std::process::Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&file))?;
        let public = fs::read_to_string(file.with_extension("pub")).context("no public key was made")?;
        Ok(Self { private: fs::read_to_string(&file)?, public: public.trim().to_owned() })
    }

    /// As it stands in `authorized_keys`.
    pub fn public(&self) -> &str {
        &self.public
    }

    /// Lays the private key down in `host`, and says where that is to its programs.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn lay(&self, host: &Host) -> Result<&'static str> {
        let file = host.path(IDENTITY);
        fs::write(&file, &self.private)?;
        // ssh refuses a key that others can read.
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        Ok(IDENTITY)
    }

    /// Runs a command in a guest, reached from `host`, and gives what it printed. Who the guest is is not checked: its key
    /// is new.
    ///
    /// # Errors
    /// When the guest cannot be reached, does not know the key, or the command fails.
    pub fn run(&self, host: &Host, user: &str, address: &str, command: &str) -> Result<String> {
        let to = format!("{user}@{address}");
        let mut words = vec!["-i", self.lay(host)?];
        for option in [
            "BatchMode=yes",
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
            "ConnectTimeout=10",
        ] {
            words.extend(["-o", option]);
        }
        words.extend([to.as_str(), command]);
        host.exec("ssh", words)
    }
}

//! A Redis server on a host, real and easily broken.

use std::time::Duration;

use anyhow::Result;

use super::{Host, Process, eventually};

/// A running `redis-server` that keeps nothing on disk; it ends when this is dropped.
#[derive(Debug)]
pub struct Redis {
    process: Process,
}

impl Redis {
    /// Where it listens, on every address of its host.
    pub const PORT: u16 = 6379;

    /// Starts one and waits until it answers.
    ///
    /// # Errors
    /// When it cannot be started, or does not answer within 20 s.
    pub fn start(host: &Host) -> Result<Self> {
        let process = host.spawn(
            "redis-server",
            [
                "--bind",
                "0.0.0.0",
                "--protected-mode",
                "no",
                "--save",
                "",
                "--appendonly",
                "no",
                "--dir",
                "/var/lib/libvirt",
            ],
        )?;
        let redis = Self { process };
        eventually("redis", Duration::from_secs(20), || Self::ask(host, &["ping"]).ok().filter(|said| said == "PONG"))?;
        Ok(redis)
    }

    /// What the server on `host` answers to a command.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn ask(host: &Host, command: &[&str]) -> Result<String> {
        let said = host.exec("timeout", [&["5", "redis-cli"], command].concat())?;
        Ok(said.trim().to_owned())
    }

    /// Its process, to be killed or frozen.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

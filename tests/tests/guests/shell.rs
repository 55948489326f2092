//! The shell that the tiny guest offers on its serial port, typed at from the host. What comes back is told from the echo of
//! what was typed by words that are typed in halves.

use super::guest::Guest;
use anyhow::{Context, Result};
use nix::fcntl::OFlag;
use std::{
    fs::File,
    io::{ErrorKind, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    time::Duration,
};
use waifud_tests::{cluster::Cluster, lab::eventually};

/// For the longest command, on an emulated CPU that is shared with other tests.
const PATIENCE: Duration = Duration::from_secs(60);

/// A shell in a guest.
#[derive(Debug)]
pub(crate) struct Shell {
    terminal: File,
    heard: String,
    commands: u32,
}

/// How a command in the guest ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: i32,
    pub(crate) output: String,
}

impl Said {
    pub(crate) fn succeeded(&self) -> bool {
        self.status == 0
    }
}

impl Shell {
    /// Opens it. The guest must have come up.
    pub(crate) fn open(cluster: &Cluster, guest: &Guest) -> Result<Self> {
        // The hosts share the machine's pseudo terminals.
        let path = guest.virsh(cluster, &["ttyconsole", &guest.id])?;
        let terminal = File::options()
            .read(true)
            .write(true)
            .custom_flags((OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits())
            .open(path.trim())
            .with_context(|| format!("cannot open {}", path.trim()))?;
        let mut shell = Self { terminal, heard: String::new(), commands: 0 };
        // The first line only wakes it.
        shell.type_line("")?;
        shell.run("true")?;
        Ok(shell)
    }

    /// Runs a command to its end.
    pub(crate) fn run(&mut self, command: &str) -> Result<Said> {
        self.commands += 1;
        let (begin, end) = (format!("BEGIN-{}", self.commands), format!("END-{}:", self.commands));
        self.heard.clear();
        let halves = |word: &str| format!("{}''{}", &word[..2], &word[2..]);
        self.type_line(&format!("echo {}; {command}; echo {}$?", halves(&begin), halves(&end)))?;
        let said = eventually(&format!("the end of {command:?} in the guest"), PATIENCE, || {
            self.listen();
            let (_, rest) = self.heard.split_once(&begin)?;
            let (output, rest) = rest.split_once(&end)?;
            let (status, _) = rest.split_once('\n')?;
            Some((status.trim().parse::<i32>(), output.replace('\r', "")))
        });
        let (status, output) = said.with_context(|| format!("it said: {}", self.heard))?;
        Ok(Said { status: status?, output: output.trim().to_owned() })
    }

    fn type_line(&mut self, line: &str) -> Result<()> {
        self.terminal.write_all(format!("{line}\n").as_bytes()).context("cannot type at the guest")
    }

    /// Takes in what has been said until now. Nothing more yet is no error, nor is a terminal that says so in other words:
    /// what is waited for does not come then.
    fn listen(&mut self) {
        let mut buffer = [0; 4096];
        loop {
            match self.terminal.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => self.heard += &String::from_utf8_lossy(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }
}

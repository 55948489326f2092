//! Several hosts on one machine, for tests that run real daemons.
//!
//! In: how many hosts, with or without a libvirtd each. Out: hosts to run programs on, and a wire between them that can be
//! cut, pulled and made lossy. `tests/lab/hosts.sh` makes the hosts from namespaces and says how they are joined; this is
//! its Rust face, so that there is one way to make a host, for people and for tests.
//!
//! ```text
//! Lab ── stdin ──▶ hosts.sh run ──▶ a first process for each host ──▶ libvirtd, waifud, QEMU …
//!                  ends with its      ends with hosts.sh               end with their host
//!                  standard input
//! ```
//!
//! So whatever becomes of a test, a panic or a `kill -9`, no process, mount or interface of its hosts outlives it. What
//! must not be here: anything that knows waifud.

mod deadline;
mod host;
mod image;
mod process;
mod redis;
mod ssh;
mod tmux;
mod wire;

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};

pub use deadline::eventually;
pub use host::Host;
pub use image::{debian_image, tiny_image};
pub use process::{Process, program};
pub use redis::Redis;
pub use ssh::SshKey;
pub use tmux::Tmux;
pub use wire::Wire;

const HOSTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/lab/hosts.sh");
const RUNNING: &str = "/run/waifud-lab";

/// Some hosts and the wire between them, gone when dropped.
///
/// Labs do not see each other: tests that run at once have the same addresses in different networks.
#[derive(Debug)]
pub struct Lab {
    name: String,
    hosts: Vec<Host>,
    wire: Wire,
    supervisor: Child,
    /// The supervisor ends when this is closed, by us or by the end of this process.
    stdin: Option<ChildStdin>,
}

impl Lab {
    /// `count` hosts with a libvirtd each, which answers when this returns.
    ///
    /// # Errors
    /// When not run as root, or when the machine lacks what `tests/lab/install.sh` installs.
    pub fn new(count: usize) -> Result<Self> {
        Self::start(count, &[])
    }

    /// `count` hosts without libvirtd: enough for daemons on `test:///default`, and five times as fast.
    ///
    /// # Errors
    /// When not run as root.
    pub fn plain(count: usize) -> Result<Self> {
        Self::start(count, &["--plain"])
    }

    fn start(count: usize, options: &[&str]) -> Result<Self> {
        if !nix::unistd::geteuid().is_root() {
            bail!("hosts are made of namespaces, which needs root: run tests/lab/test.sh");
        }
        sweep();
        let name = fresh_name();
        let mut supervisor = Command::new(HOSTS)
            .args(["run", &count.to_string(), "--name", &name])
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {HOSTS}"))?;
        let stdin = supervisor.stdin.take();
        let mut first_line = String::new();
        if let Some(stdout) = supervisor.stdout.take() {
            BufReader::new(stdout).read_line(&mut first_line)?;
        }
        if first_line.trim_end() != "ready" {
            let mut reason = String::new();
            if let Some(mut stderr) = supervisor.stderr.take() {
                stderr.read_to_string(&mut reason)?;
            }
            bail!("the hosts did not start ({}): {reason}", supervisor.wait()?);
        }
        let directory = Path::new(RUNNING).join(&name);
        let hosts = (1..=count).map(|index| Host::open(&directory, index)).collect::<Result<_>>()?;
        let wire = Wire::open(&directory)?;
        Ok(Self { name, hosts, wire, supervisor, stdin })
    }

    /// The host called `n<index>`, counted from 1 as its name and address are.
    ///
    /// # Panics
    /// When there is no such host.
    pub fn host(&self, index: usize) -> &Host {
        &self.hosts[index - 1]
    }

    /// All hosts, n1 first.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// What joins the hosts.
    pub fn wire(&self) -> &Wire {
        &self.wire
    }

    fn stop(&mut self) -> Result<()> {
        drop(self.stdin.take());
        if eventually("the end of the hosts", Duration::from_secs(15), || self.supervisor.try_wait().ok()?).is_err() {
            self.supervisor.kill()?;
            self.supervisor.wait()?;
            down(&self.name)?;
        }
        Ok(())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let mut said = String::new();
        if std::thread::panicking() {
            said = self.hosts.iter().map(Host::last_words).collect();
        }
        if let Err(error) = self.stop() {
            said += &format!("the lab {} could not be taken down: {error:#}\n", self.name);
        }
        report(&said);
    }
}

/// Shows what a person who looks into a failed test needs, through the channel that the test runner captures.
#[allow(clippy::print_stderr, reason = "the standard error of a test is its report")]
fn report(text: &str) {
    if !text.is_empty() {
        eprint!("{text}");
    }
}

/// A name that says whose lab it is, so that `sweep` can tell which have lost their test.
fn fresh_name() -> String {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    format!("t{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed))
}

/// Removes the files of labs whose tests were killed together with their supervisors. Best effort: one that cannot be
/// removed costs disk space, and is no reason to fail this test.
fn sweep() {
    let Ok(entries) = std::fs::read_dir(RUNNING) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix('t').and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            let _left_for_the_next_test = down(&name);
        }
    }
}

fn down(name: &str) -> Result<()> {
    checked(Command::new(HOSTS).args(["down", "--name", name])).map(drop)
}

/// Runs a command to its end and gives what it printed, or fails with what it complained about.
fn checked(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {command:?}"))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?} failed ({}): {}{}", output.status, stdout.trim(), stderr.trim());
    }
    Ok(stdout)
}

/// Reads the process that holds the namespaces of a host or of the wire.
fn holder(directory: &Path) -> Result<String> {
    let path: PathBuf = directory.join("holder");
    Ok(std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?.trim().to_owned())
}

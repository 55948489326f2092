//! A program that runs on a host until the test ends it, and where to find those of this workspace.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::eventually;

/// A running program, killed when dropped.
///
/// Two processes stand between us and the program: `nsenter`, for a process cannot move into another process namespace but
/// only have children there, and a shell, for nsenter freezes together with its child and would miss its end. Both end
/// when the program does, the shell saying how: its status, or 128 and the signal.
#[derive(Debug)]
pub struct Process {
    nsenter: Child,
    program: Pid,
    log: PathBuf,
}

impl Process {
    pub(super) fn start(mut command: Command, log: PathBuf) -> Result<Self> {
        let file = fs::File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut nsenter = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot run {command:?}"))?;
        let found = eventually("the program's process", Duration::from_secs(5), || {
            if let Some(status) = nsenter.try_wait().transpose() {
                return Some(Err(anyhow!("{command:?} ended at once ({status:?}): {}", read(&log))));
            }
            let shell = first_child(i32::try_from(nsenter.id()).ok()?)?;
            first_child(shell).map(Ok)
        })?;
        Ok(Self { nsenter, program: Pid::from_raw(found?), log })
    }

    /// The program's number as this process sees it, for `/proc`.
    pub fn pid(&self) -> i32 {
        self.program.as_raw()
    }

    /// What it has printed until now, standard error included.
    pub fn log(&self) -> String {
        read(&self.log)
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        matches!(self.nsenter.try_wait(), Ok(None))
    }

    /// Sends it a signal: `SIGSTOP` freezes it, `SIGCONT` lets it go on.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        // Its number belongs to it until the shell has reaped it, and the shell ends then.
        if !self.is_running() {
            bail!("the program ended before {signal}: {}", self.log());
        }
        kill(self.program, signal).with_context(|| format!("cannot send {signal}"))
    }

    /// Kills it as a crash or the kernel's memory killer would, and waits until it is gone.
    ///
    /// # Errors
    /// When it had ended by itself before: a test that kills expects it alive.
    pub fn kill9(&mut self) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        let status = self.wait(Duration::from_secs(10))?;
        if status.code() != Some(128 + Signal::SIGKILL as i32) {
            bail!("the program ended by itself ({status}): {}", self.log());
        }
        Ok(())
    }

    /// Asks it to end, as a service manager would, and waits.
    ///
    /// # Errors
    /// When it had ended before, or does not end within `limit`.
    pub fn terminate(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        self.wait(limit)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it does not end within `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        eventually("the end of the program", limit, || self.nsenter.try_wait().transpose())?
            .context("cannot wait for the program")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_running() && kill(self.program, Signal::SIGKILL).is_ok() {
            // The process is dead already; this only lets the kernel forget it.
            let _reaped = self.nsenter.wait();
        }
    }
}

/// Where a program of this workspace is, for [`super::Host::spawn`]. It is looked for beside the test that runs.
///
/// # Errors
/// When it has not been built: cargo builds for a test only the programs of the test's own crate.
pub fn program(name: &str) -> Result<PathBuf> {
    let test = std::env::current_exe().context("this program has no path")?;
    let beside = test.ancestors().skip(1).take(2).map(|directory| directory.join(name));
    let found = beside.into_iter().find(|path| path.is_file());
    found.with_context(|| format!("{name} is not beside {}: run tests/lab/build.sh", test.display()))
}

fn first_child(pid: i32) -> Option<i32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

fn read(log: &Path) -> String {
    String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned()
}

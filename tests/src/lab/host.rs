//! One host: programs run on it, files of it seen from outside, its libvirtd and its cable.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use std::{fs, io};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use super::{Process, checked, eventually, holder};

/// Where libvirtd says which process it is. Not its default, which is outside of the directories that a host has for
/// itself.
const LIBVIRTD_PID: &str = "/run/libvirt/libvirtd.pid";
/// What libvirtd says, seen from outside.
const LIBVIRTD_LOG: &str = "/var/log/libvirt/libvirtd.log";
/// libvirtd waits for its own threads for 30 s when it is told to end (`virNetDaemonRun`), and then ends without them.
const LIBVIRTD_GRACE: Duration = Duration::from_secs(45);
/// For the kernel to take away what has been killed, on a busy machine.
const DEATH: Duration = Duration::from_secs(20);
/// Where the threads of process `$0` are, by the kernel and, where there is a debugger, by the program itself.
const WHEREABOUTS: &str = r#"
for task in /proc/$0/task/*; do echo "$(cat "$task/comm"): $(cat "$task/wchan")"; done
! command -v gdb > /dev/null || timeout 30 gdb -p "$0" -batch -ex 'thread apply all backtrace' 2> /dev/null"#;

/// A host of a [`super::Lab`].
#[derive(Debug)]
pub struct Host {
    name: String,
    address: Ipv4Addr,
    /// What the host keeps for itself, and the logs of what ran on it.
    directory: PathBuf,
    holder: String,
    started: AtomicU32,
}

impl Host {
    pub(super) fn open(lab: &Path, index: usize) -> Result<Self> {
        let name = format!("n{index}");
        let directory = lab.join(&name);
        let last = u8::try_from(index).context("a lab has at most 99 hosts")?;
        fs::create_dir_all(directory.join("log"))?;
        let holder = holder(&directory)?;
        Ok(Self { name, address: Ipv4Addr::new(192, 0, 2, last), directory, holder, started: AtomicU32::new(0) })
    }

    /// `n1`, which is also what `hostname` says on it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address on the wire.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Where a file is that the host sees as `path`, for paths under the directories that it has for itself: those of
    /// waifud and libvirt in `/etc`, `/run`, `/var/lib`, and of libvirt in `/var/log` and `/var/cache`.
    pub fn path(&self, path: &str) -> PathBuf {
        self.directory.join(path.trim_start_matches('/'))
    }

    /// A command that will run on this host, in its root directory, not yet started.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.holder, "--net", "--mount", "--uts", "--wd=/"])
            .arg(format!("--pid=/proc/{}/ns/pid_for_children", self.holder))
            .arg("--")
            .arg(program);
        command
    }

    /// Runs a program to its end and returns what it printed.
    ///
    /// # Errors
    /// When it cannot be run or fails; the message has what it printed and complained about.
    pub fn exec<A: AsRef<OsStr>>(
        &self,
        program: impl AsRef<OsStr>,
        args: impl IntoIterator<Item = A>,
    ) -> Result<String> {
        checked(self.command(program).args(args))
    }

    /// Starts a program that runs on until it is stopped or the handle is dropped. What it prints goes to a log file.
    ///
    /// # Errors
    /// When it cannot be started, or ends at once.
    pub fn spawn<A: AsRef<OsStr>>(
        &self,
        program: impl AsRef<OsStr>,
        args: impl IntoIterator<Item = A>,
    ) -> Result<Process> {
        let program = program.as_ref();
        let base = Path::new(program).file_name().unwrap_or(program).to_string_lossy();
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let log = self.directory.join("log").join(format!("{number:03}-{base}"));
        let mut command = self.command("sh");
        command.args(["-c", r#""$@"; exit $?"#, "sh"]).arg(program).args(args);
        Process::start(command, log)
    }

    /// The addresses that a name server has for a name, asked from this host; none if there are none.
    ///
    /// # Errors
    /// When the server does not answer.
    pub fn resolve(&self, name: &str, server: &str) -> Result<Vec<String>> {
        let said = self.exec("drill", [&format!("@{server}"), name, "A"])?;
        // Lines of the answer are `name. TTL IN A address`, all others are comments.
        let records = said.lines().filter(|line| !line.starts_with(';')).map(str::split_whitespace);
        Ok(records.filter_map(|mut words| (words.nth(3)? == "A").then(|| words.next())?).map(str::to_owned).collect())
    }

    /// Pulls the cable: the host sees its interface without a carrier.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn link_down(&self) -> Result<()> {
        self.link("down")
    }

    /// Plugs the cable in again.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn link_up(&self) -> Result<()> {
        self.link("up")
    }

    fn link(&self, state: &str) -> Result<()> {
        let wire = self.directory.with_file_name("lan");
        super::wire::on_the_wire(&holder(&wire)?, ["ip", "link", "set", &self.name, state])
    }

    /// Kills libvirtd as a crash would. Its guests run on.
    ///
    /// # Errors
    /// When there was none, or it does not end.
    pub fn libvirtd_kill(&self) -> Result<()> {
        self.stop_libvirtd(Signal::SIGKILL)
    }

    /// Starts libvirtd and waits until it answers.
    ///
    /// # Errors
    /// When it does not answer within 20 s.
    pub fn libvirtd_start(&self) -> Result<()> {
        self.exec("libvirtd", ["--daemon", "--pid-file", LIBVIRTD_PID])?;
        eventually(&format!("libvirtd of {}", self.name), Duration::from_secs(20), || {
            self.exec("virsh", ["--quiet", "--connect", "qemu:///system", "version"]).ok()
        })?;
        Ok(())
    }

    /// Stops libvirtd as an upgrade would, and starts it again. As a service manager does, it is killed if it does not end
    /// when told to; that, and where it stood, is written to standard error even if the test succeeds.
    ///
    /// # Errors
    /// As for stopping and starting.
    pub fn libvirtd_restart(&self) -> Result<()> {
        self.stop_libvirtd(Signal::SIGTERM)?;
        self.libvirtd_start()
    }

    fn stop_libvirtd(&self, signal: Signal) -> Result<()> {
        let pid = fs::read_to_string(self.path(LIBVIRTD_PID)).context("no libvirtd runs")?;
        let pid = pid.trim();
        // The shell's own: a small machine has no other.
        let send = |signal: Signal| {
            let name = signal.as_str().trim_start_matches("SIG");
            self.exec("sh", ["-c", &format!("kill -s {name} {pid}")])
        };
        let ends_within = |limit| {
            eventually(&format!("the end of libvirtd of {}", self.name), limit, || {
                self.exec("test", ["!", "-d", &format!("/proc/{pid}")]).ok()
            })
        };
        send(signal)?;
        if signal != Signal::SIGKILL && ends_within(LIBVIRTD_GRACE).is_err() {
            let threads = self.exec("sh", ["-c", WHEREABOUTS, pid]).unwrap_or_else(|error| format!("{error:#}"));
            let log = tail(&self.path(LIBVIRTD_LOG));
            // Past the test runner, which shows what it captured only of tests that fail.
            writeln!(
                io::stderr(),
                "libvirtd of {} was told to end, and is killed after {LIBVIRTD_GRACE:?}. It stood here:\n{threads}\n\
                 and said:\n{log}",
                self.name
            )?;
            send(Signal::SIGKILL)?;
        }
        ends_within(DEATH).map(drop)
    }

    /// The ends of all logs, for the report of a failed test.
    pub(super) fn last_words(&self) -> String {
        let mut words = String::new();
        let Ok(logs) = fs::read_dir(self.directory.join("log")) else { return words };
        let mut logs: Vec<PathBuf> = logs.flatten().map(|entry| entry.path()).collect();
        logs.sort();
        logs.push(self.path(LIBVIRTD_LOG));
        for log in logs.into_iter().filter(|log| log.exists()) {
            let file = log.file_name().unwrap_or_default().to_string_lossy();
            let _into_a_string = writeln!(words, "--- {} {file}, last lines ---\n{}", self.name, tail(&log));
        }
        words
    }
}

/// The last lines of a log.
fn tail(log: &Path) -> String {
    let text = String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

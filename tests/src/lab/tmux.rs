//! A terminal that a program can look at and type on: tmux, with a server of its own.
//!
//! In: a shell's command line. Out: what its screen shows, and keys for it. Programs that paint, ask for the terminal's size
//! or put it into raw mode are to be tried on the real thing.

use super::{checked, eventually};
use anyhow::{Context, Result};
use std::{path::PathBuf, process::Command, time::Duration};

/// For whatever shows itself at once on an idle machine.
const SOON: Duration = Duration::from_secs(30);

/// A terminal of 80 by 24 that runs a shell; gone when dropped.
#[derive(Debug)]
pub struct Tmux {
    socket: PathBuf,
    _dir: tempfile::TempDir,
}

impl Tmux {
    /// With a shell that has shown its prompt, and these in its environment.
    ///
    /// # Errors
    /// When tmux cannot be run; `tests/lab/install.sh --for test` installs it.
    pub fn start(environment: &[(&str, &str)]) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let tmux = Self { socket: dir.path().join("s"), _dir: dir };
        let mut command = tmux.command();
        command.env_clear().env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin").env("TERM", "xterm");
        command.envs(environment.iter().copied());
        // Without anybody's configuration.
        command.args(["-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", "/bin/sh"]);
        checked(&mut command).context("a terminal")?;
        eventually("a shell's prompt", SOON, || tmux.screen().ok().filter(|screen| !screen.is_empty()))?;
        Ok(tmux)
    }

    fn command(&self) -> Command {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(&self.socket);
        command
    }

    /// Types this and presses Enter.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn line(&self, text: &str) -> Result<()> {
        checked(self.command().args(["send-keys", "-l", "--", text]))?;
        self.key("Enter")
    }

    /// Presses a key, by tmux's name of it: `C-]`.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn key(&self, key: &str) -> Result<()> {
        checked(self.command().args(["send-keys", "--", key])).map(drop)
    }

    /// Makes it another size.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn resize(&self, columns: u16, lines: u16) -> Result<()> {
        let (columns, lines) = (columns.to_string(), lines.to_string());
        checked(self.command().args(["resize-window", "-x", &columns, "-y", &lines])).map(drop)
    }

    /// What it shows, without the empty end of each line and of the screen.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn screen(&self) -> Result<String> {
        let shown = checked(self.command().args(["capture-pane", "-p"]))?;
        let lines: Vec<&str> = shown.lines().map(str::trim_end).collect();
        Ok(lines.join("\n").trim_end().to_owned())
    }

    /// Waits until it shows this somewhere, and gives the screen.
    ///
    /// # Errors
    /// When it does not; the message has what it shows.
    pub fn shows(&self, text: &str) -> Result<String> {
        let shown = eventually("the terminal", SOON, || self.screen().ok().filter(|screen| screen.contains(text)));
        shown.with_context(|| format!("{text:?} is not on {:?}", self.screen().unwrap_or_default()))
    }

    /// The terminal's settings, as stty says them.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn settings(&self) -> Result<String> {
        let terminal = self.says("#{pane_tty}")?;
        checked(Command::new("stty").args(["-g", "-F", &terminal]))
    }

    /// The program that the shell runs.
    ///
    /// # Errors
    /// When there is none.
    pub fn child(&self) -> Result<i32> {
        let shell = self.says("#{pane_pid}")?;
        let children = std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children"))?;
        children.split_whitespace().next().context("the shell runs nothing")?.parse().context("a process")
    }

    /// What its terminal says to this format of tmux's: `#{alternate_on}`.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn says(&self, format: &str) -> Result<String> {
        Ok(checked(self.command().args(["display-message", "-p", format]))?.trim().to_owned())
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        // One that ended by itself is what was wanted.
        let _gone = checked(self.command().arg("kill-server"));
    }
}

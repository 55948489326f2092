//! Calls of `qemu-img`, in a cage: limited memory, CPU time and wall time, no inherited environment, bounded output. The
//! images it is shown come from strangers. In: a sub-command with its arguments; out: its standard output, or an error that
//! carries what it said. Knows nothing of images' meaning.

use std::{
    io,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::Command,
};

/// Most bytes of output that are read; a longer report is cut. `info` and `check` of honest images stay below 10 KiB.
const OUTPUT_MAX: u64 = 1 << 20;
/// Address space of the process. `check` of a full 2 TiB image needs about 100 MiB of reference counts.
const MEMORY: u64 = 2 << 30;
/// CPU seconds of the process; `check` of a full 2 TiB image takes a few.
const CPU_SECONDS: u32 = 120;
/// How long it may take in all: reading metadata of a large image from a slow disk takes minutes, never longer.
const PATIENCE: Duration = Duration::from_secs(600);

/// Why a call gave no result.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// The program could not be run.
    #[error("cannot run {program}; is it installed?")]
    Start {
        /// The program.
        program: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// It took too long and was killed.
    #[error("{program} {command} did not end within {after:?}")]
    Timeout {
        /// The program.
        program: &'static str,
        /// Its sub-command.
        command: String,
        /// How long it was given.
        after: Duration,
    },
    /// It ended with an error.
    #[error("{program} {command} failed ({status}): {said}")]
    Failed {
        /// The program.
        program: &'static str,
        /// Its sub-command.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// Its standard error, on one line.
        said: String,
    },
    /// Its output could not be understood.
    #[error("{program} {command} gave an answer that cannot be read")]
    Answer {
        /// The program.
        program: &'static str,
        /// Its sub-command.
        command: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// How a call ended, and what it printed.
#[derive(Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error, on one line.
    pub said: String,
}

/// The program and what may be changed about its cage.
#[derive(Debug, Clone)]
pub struct QemuImg {
    program: PathBuf,
    patience: Duration,
}

impl Default for QemuImg {
    fn default() -> Self {
        Self { program: PathBuf::from("qemu-img"), patience: PATIENCE }
    }
}

const NAME: &str = "qemu-img";

impl QemuImg {
    /// Another program in its place, with less patience: for tests of what happens when it misbehaves.
    #[cfg(test)]
    pub(crate) fn replaced(program: impl Into<PathBuf>, patience: Duration) -> Self {
        Self { program: program.into(), patience }
    }

    /// Runs a sub-command and gives its output, however it ended.
    ///
    /// # Errors
    /// If it could not be started, or did not end in time; then it is killed.
    pub async fn run(&self, command: &str, arguments: &[&str]) -> Result<Output, ToolError> {
        let start = |source| ToolError::Start { program: NAME, source };
        // prlimit sets the limits between fork and exec for us; the alternative is unsafe code of our own.
        let mut child = Command::new("prlimit")
            .args([format!("--as={MEMORY}"), format!("--cpu={CPU_SECONDS}"), "--core=0".to_owned()])
            .arg(&self.program)
            .arg(command)
            .args(arguments)
            .env_clear()
            .envs(std::env::vars_os().filter(|(name, _)| name == "PATH"))
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(start)?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let whole = async { tokio::join!(child.wait(), drain(stdout), drain(stderr)) };
        let (status, stdout, stderr) = tokio::time::timeout(self.patience, whole)
            .await
            .map_err(|_| ToolError::Timeout { program: NAME, command: command.to_owned(), after: self.patience })?;
        let said = String::from_utf8_lossy(&stderr.map_err(start)?).split_whitespace().collect::<Vec<_>>().join(" ");
        let status = status.map_err(start)?;
        if matches!(status.code(), Some(126 | 127)) {
            // prlimit's word that it could not execute the program; qemu-img itself ends with at most 63.
            return Err(start(io::Error::new(io::ErrorKind::NotFound, said)));
        }
        Ok(Output { status, stdout: stdout.map_err(start)?, said })
    }

    /// Runs a sub-command that has to succeed.
    ///
    /// # Errors
    /// If it did not.
    pub async fn succeed(&self, command: &str, arguments: &[&str]) -> Result<Vec<u8>, ToolError> {
        let output = self.run(command, arguments).await?;
        if output.status.success() { Ok(output.stdout) } else { Err(output.failed(command)) }
    }
}

impl Output {
    /// This output as an error.
    #[must_use]
    pub fn failed(self, command: &str) -> ToolError {
        ToolError::Failed { program: NAME, command: command.to_owned(), status: self.status, said: self.said }
    }

    /// The standard output as JSON.
    ///
    /// # Errors
    /// If it is something else.
    pub fn json<T: serde::de::DeserializeOwned>(&self, command: &str) -> Result<T, ToolError> {
        serde_json::from_slice(&self.stdout).map_err(|source| ToolError::Answer {
            program: NAME,
            command: command.to_owned(),
            source,
        })
    }
}

/// Reads a pipe to its end, so that the process never blocks on it, and keeps the beginning.
async fn drain(pipe: Option<impl AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    if let Some(mut pipe) = pipe {
        (&mut pipe).take(OUTPUT_MAX).read_to_end(&mut kept).await?;
        tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await?;
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failure_carries_what_was_said() {
        let error = QemuImg::default().succeed("info", &["/nonexistent/x"]).await.unwrap_err();
        assert!(error.to_string().contains("No such file or directory"), "{error}");
    }

    #[tokio::test]
    async fn a_missing_program_is_named() {
        let error = QemuImg::replaced("/nonexistent/qemu-img", PATIENCE).run("info", &[]).await.unwrap_err();
        assert!(matches!(error, ToolError::Start { .. }), "{error}");
    }

    #[tokio::test]
    async fn what_hangs_is_killed() {
        let error = QemuImg::replaced("sleep", Duration::from_millis(50)).run("1000", &[]).await.unwrap_err();
        assert!(matches!(error, ToolError::Timeout { .. }), "{error}");
    }

    #[tokio::test]
    async fn the_limits_are_in_force() {
        let script = "ulimit -v; ulimit -t; ulimit -c";
        let output = QemuImg::replaced("sh", PATIENCE).run("-c", &[script]).await.unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{}\n{CPU_SECONDS}\n0\n", MEMORY >> 10));
    }

    #[tokio::test]
    async fn endless_output_is_cut() {
        let output = QemuImg::replaced("head", PATIENCE).run("-c", &["3000000", "/dev/zero"]).await.unwrap();
        assert_eq!(output.stdout.len() as u64, OUTPUT_MAX);
    }
}

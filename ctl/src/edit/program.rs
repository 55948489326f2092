//! The editor: which one, and running it on a file.
//!
//! It is what `VISUAL` or `EDITOR` says, as the shell reads it (`code --wait`), else the first of a few that is installed.

use crate::{exit::Failure, output::Terminal};
use std::{
    env,
    path::Path,
    process::{ExitStatus, Stdio},
};
use tokio::process::Command;
use waifud_api::exit::Exit;

/// Editors that are tried where the environment names none: Debian's choice of the user's, then the friendliest, then the one
/// that POSIX promises.
const FALLBACKS: [&str; 3] = ["sensible-editor", "nano", "vi"];

/// A program that lets a person change a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Editor(String);

impl Editor {
    /// The one this person uses.
    pub(super) fn find() -> Result<Self, Failure> {
        let named = |name| env::var(name).ok().filter(|value| !value.trim().is_empty());
        let path = env::var_os("PATH").unwrap_or_default();
        let installed = |name: &&str| env::split_paths(&path).any(|dir| dir.join(name).is_file());
        named("VISUAL")
            .or_else(|| named("EDITOR"))
            .or_else(|| FALLBACKS.iter().copied().find(installed).map(str::to_owned))
            .map(Self)
            .ok_or_else(|| {
                let tried = FALLBACKS.join(", ");
                Failure::ended(Exit::Failed, format!("there is no editor ({tried})"), "set EDITOR, or give --file")
            })
    }

    /// Lets the person change the file, until they are done.
    pub(super) async fn open(&self, path: &Path, terminal: Terminal) -> Result<(), Failure> {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(format!("{} \"$@\"", self.0)).arg("editor").arg(path);
        if !terminal.out {
            // Results may go elsewhere; the person looks at the terminal.
            command.stdout(Stdio::from(std::io::stderr()));
        }
        let fault = |source| Failure::Io { what: "the editor", source };
        let mut child = command.spawn().map_err(fault)?;
        let status = loop {
            tokio::select! {
                status = child.wait() => break status.map_err(fault)?,
                // A Ctrl-C is the editor's while it runs: many take it for a command of theirs.
                _ = tokio::signal::ctrl_c() => {}
            }
        };
        if status.success() { Ok(()) } else { Err(self.ended(status)) }
    }

    fn ended(&self, status: ExitStatus) -> Failure {
        let why = status.code().map_or_else(|| "by a signal".to_owned(), |code| format!("with status {code}"));
        Failure::Ended {
            exit: Exit::Failed,
            message: format!("the editor ({}) ended {why}; nothing was changed", self.0),
            hint: None,
        }
    }
}

//! What packages ship beside the program: completions and manual pages, made from the command line itself.
//!
//! In: the shell, or a directory. Out: a script on stdout, pages of section 8 in the directory. Nothing is read.

use super::args;
use clap::{ArgMatches, Command};
use clap_mangen::Man;
use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

/// The manual's section for what administrators run.
const SECTION: &str = "8";

/// Why something was not written.
#[derive(Debug, thiserror::Error)]
pub(super) enum DocumentError {
    /// A page or its directory refuses.
    #[error("{path} cannot be written")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Standard output refuses.
    #[error("the script cannot be printed")]
    Stdout(#[from] io::Error),
}

/// Writes what was asked for; None if that was something else.
pub(super) fn write(matches: &ArgMatches) -> Option<Result<(), DocumentError>> {
    match matches.subcommand()? {
        ("completions", of) => of.get_one("shell").copied().map(completions),
        ("manpage", of) => of.get_one::<PathBuf>("dir").map(|dir| manpage(dir)),
        _ => None,
    }
}

fn completions(shell: clap_complete::Shell) -> Result<(), DocumentError> {
    Ok(io::stdout().write_all(&script(shell))?)
}

fn script(shell: clap_complete::Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut args::command(), "waifud", &mut script);
    script
}

/// One page for the program, and one for each command.
fn manpage(dir: &Path) -> Result<(), DocumentError> {
    let failed = |path: &Path, source| DocumentError::File { path: path.to_owned(), source };
    fs::create_dir_all(dir).map_err(|e| failed(dir, e))?;
    let mut program = args::command().disable_help_subcommand(true);
    program.build();
    let commands = program.get_subcommands().map(|command| {
        let name = format!("waifud-{}", command.get_name());
        command.clone().display_name(name)
    });
    for page in std::iter::once(program.clone()).chain(commands) {
        let path = dir.join(file_name(&page));
        render(page).and_then(|text| fs::write(&path, text)).map_err(|e| failed(&path, e))?;
    }
    Ok(())
}

fn file_name(page: &Command) -> String {
    format!("{}.{SECTION}", page.get_display_name().unwrap_or(page.get_name()))
}

fn render(page: Command) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    Man::new(page).section(SECTION).render(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap_complete::Shell;

    #[test]
    fn every_command_has_a_completion_and_a_page() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = String::from_utf8(script(shell)).unwrap();
            assert!(["token-file", "stop-guests", "data-dir"].iter().all(|word| script.contains(word)), "{shell}");
        }
        let dir = tempfile::tempdir().unwrap();
        manpage(&dir.path().join("man")).unwrap();
        let page = |name: &str| fs::read_to_string(dir.path().join("man").join(name)).unwrap();
        assert!(page("waifud.8").contains(r"waifud\-join(8)"), "{}", page("waifud.8"));
        assert!(page("waifud-join.8").contains("token\\-file"));
        assert!(page("waifud-stop-guests.8").contains(".TH waifud-stop-guests 8"), "{}", page("waifud-stop-guests.8"));
    }
}

//! What needs no cluster: completions, manual pages, version, help.

use super::topics;
use crate::{
    cli::Cli,
    complete,
    exit::Failure,
    output::{Cell, Column, Look, Out, Row, stdout},
    suggest,
};
use clap::CommandFactory as _;
use serde::Serialize;
use std::path::Path;
use waifud_api::exit::Exit;

pub(super) fn completions(shell: clap_complete::Shell) -> Result<(), Failure> {
    let script = complete::script(shell).map_err(|source| Failure::Io { what: "the script", source })?;
    stdout(&String::from_utf8_lossy(&script))
}

pub(super) fn manpage(dir: &Path) -> Result<(), Failure> {
    let fault = |source| Failure::File { path: dir.display().to_string(), source };
    std::fs::create_dir_all(dir).map_err(fault)?;
    clap_mangen::generate_to(Cli::command(), dir).map_err(fault)
}

/// The program's version, for programs that ask for a structure.
#[derive(Debug, Serialize)]
struct Version {
    version: &'static str,
}

impl Row for Version {
    const COLUMNS: &'static [Column] = &[Column::text("VERSION")];

    fn cells(&self, _: &Look) -> Vec<Cell> {
        vec![self.version.into()]
    }

    fn name(&self) -> String {
        self.version.to_owned()
    }
}

pub(super) fn version(out: &Out) -> Result<(), Failure> {
    let version = Version { version: env!("CARGO_PKG_VERSION") };
    if out.has_format() {
        out.word(&version, version.version)
    } else {
        stdout(&format!("waifuctl {}\n", version.version))
    }
}

/// Explains a topic or a command; without either, everything.
pub(super) fn help(topic: &[String]) -> Result<(), Failure> {
    if let [name] = topic
        && let Some(topic) = topics::ALL.iter().find(|topic| topic.name == name)
    {
        return stdout(&(topic.text)());
    }
    let mut command = crate::help::command();
    let mut found = &mut command;
    for word in topic {
        let known: Vec<_> = found.get_subcommands().map(|command| command.get_name().to_owned()).collect();
        let first = topic.len() == 1;
        found = found.find_subcommand_mut(word).ok_or_else(|| {
            let more = topics::ALL.iter().map(|topic| topic.name).filter(|_| first);
            let near = suggest::nearest(word, known.iter().map(String::as_str).chain(more));
            let near = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
            let message = format!("there is no help for {word:?}{near}");
            Failure::ended(Exit::Usage, message, "waifuctl help, which lists all commands and topics")
        })?;
    }
    stdout(&found.render_long_help().to_string())?;
    if topic.is_empty() { stdout(&format!("\nTopics:\n{}", topics::list())) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect_file;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_reads_well() {
        let mut command = crate::help::command().term_width(100);
        expect_file!["../../tests/goldens/help.txt"].assert_eq(&command.render_long_help().to_string());
        let create = command.find_subcommand_mut("create").unwrap();
        expect_file!["../../tests/goldens/help-create.txt"].assert_eq(&create.clone().render_long_help().to_string());
        for (path, file) in [
            (&["edit"][..], "../../tests/goldens/help-edit.txt"),
            (&["net", "peer", "add"], "../../tests/goldens/help-net-peer-add.txt"),
            (&["cluster", "cloud-init", "edit"], "../../tests/goldens/help-cluster-cloud-init-edit.txt"),
        ] {
            let found = path.iter().fold(&mut command, |command, word| command.find_subcommand_mut(word).unwrap());
            expect_file![file].assert_eq(&found.clone().render_long_help().to_string());
        }
        expect_file!["../../tests/goldens/help-exit-codes.txt"].assert_eq(&topics::exit_codes());
    }

    #[test]
    fn topics_read_well() {
        for topic in &topics::ALL {
            let text = (topic.text)();
            assert!(text.lines().all(|line| line.chars().count() <= 130), "{}", topic.name);
            assert!(text.ends_with('\n') && help(&[topic.name.to_owned()]).is_ok(), "{}", topic.name);
        }
        let wrong = help(&["exit-code".to_owned()]).unwrap_err().to_string();
        assert!(wrong.contains("did you mean exit-codes?"), "{wrong}");
    }

    /// Every command shows first how it is used.
    #[test]
    fn examples_come_first() {
        fn check(command: &clap::Command, path: &str) {
            if command.has_subcommands() {
                for sub in command.get_subcommands() {
                    check(sub, &format!("{path} {}", sub.get_name()));
                }
            } else {
                let help = command.clone().render_long_help().to_string();
                assert!(help.starts_with("Examples:\n"), "{path} shows no examples");
            }
        }
        check(&Cli::command(), "waifuctl");
    }

    #[test]
    fn every_command_has_a_completion_and_a_page() {
        for (line, wanted) in [
            (&["nod"][..], "node"),
            (&["node", "unc"], "uncordon"),
            (&["create", "--datasource", "open"], "open_stack"),
        ] {
            let words = ["waifuctl"].iter().chain(line).map(Into::into).collect();
            let found = clap_complete::engine::complete(&mut Cli::command(), words, line.len(), None).unwrap();
            let values: Vec<_> = found.iter().map(|one| one.get_value().to_string_lossy().into_owned()).collect();
            assert!(values.iter().any(|value| value == wanted), "{line:?} {values:?}");
        }
        for shell in [clap_complete::Shell::Bash, clap_complete::Shell::Zsh, clap_complete::Shell::Fish] {
            let script = String::from_utf8(complete::script(shell).unwrap()).unwrap();
            assert!(script.contains("WAIFUCTL_COMPLETE"), "{shell}");
        }
        let dir = tempfile::tempdir().unwrap();
        manpage(&dir.path().join("man")).unwrap();
        for page in
            ["create", "edit", "net-peer-add", "cluster-cloud-init-edit", "context-use", "login", "doctor", "ssh"]
        {
            assert!(dir.path().join(format!("man/waifuctl-{page}.1")).exists(), "{page}");
        }
    }
}

//! How the command line explains itself: the commands by what they are for, the global options once, and for what cannot be
//! right what was probably meant.

use crate::cli::Cli;
use clap::{
    Arg, Command, CommandFactory as _,
    builder::StyledStr,
    error::{ContextKind, ContextValue, ErrorKind},
};
use std::fmt::Write as _;

/// The commands, in the order in which somebody needs them. Every one is in one of these.
const GROUPS: [(&str, &[&str]); 7] = [
    (
        "VMs",
        &["list", "create", "show", "ip", "start", "stop", "reboot", "pause", "resume", "wait", "reinit", "delete"],
    ),
    ("Change a VM", &["edit", "resize", "set", "label", "rename", "protect", "unprotect", "disk", "cd"]),
    ("Into a VM", &["ssh", "console", "vnc", "logs"]),
    ("All of it as files", &["apply", "export"]),
    ("The cluster", &["template", "node", "net", "cluster", "token", "panel"]),
    ("What happened, what is wrong", &["events", "history", "audit", "doctor"]),
    ("This program", &["help", "login", "context", "config", "completions", "manpage", "version"]),
];

/// What stands below the help of each command in place of the global options, which are the same everywhere.
const EVERYWHERE: &str = "Everywhere: --output, --columns, --no-wait, --timeout, --quiet, --yes, --host, --context, \
                          --token-file, --ca-file, --consistency: see waifuctl help";

/// The command line with its help.
pub(crate) fn command() -> Command {
    let mut command = Cli::command();
    command.build();
    let commands = grouped(&command);
    command
        .help_template(format!(
            "{{before-help}}{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{commands}Options:\n{{options}}{{after-help}}"
        ))
        .mut_subcommands(short)
}

/// Without the global options in its help.
fn short(command: Command) -> Command {
    let after = command.get_after_help().map(|text| format!("{text}\n\n")).unwrap_or_default();
    let hide = |arg: Arg| if arg.is_global_set() { arg.hide_short_help(true).hide_long_help(true) } else { arg };
    command.mut_args(hide).after_help(after + EVERYWHERE).mut_subcommands(short)
}

fn grouped(command: &Command) -> String {
    let width = command.get_subcommands().map(|sub| sub.get_name().len()).max().unwrap_or(0);
    let mut text = String::new();
    for (title, names) in GROUPS {
        let _ = writeln!(text, "{title}:");
        for sub in names.iter().filter_map(|name| command.find_subcommand(name)) {
            let about = sub.get_about().map(ToString::to_string).unwrap_or_default();
            let aliases: Vec<_> = sub.get_visible_aliases().collect();
            let aliases = if aliases.is_empty() { String::new() } else { format!(" [alias: {}]", aliases.join(", ")) };
            let _ = writeln!(text, "  {:width$}  {about}{aliases}", sub.get_name());
        }
        text.push('\n');
    }
    text
}

/// Options by which a VM is changed, and the command that has them.
const ELSEWHERE: [(&str, &str); 15] = [
    ("--protect", "protect"),
    ("--unprotect", "unprotect"),
    ("--memory", "resize"),
    ("--cpus", "resize"),
    ("--disk", "resize"),
    ("--label", "label"),
    ("--name", "rename"),
    ("--description", "set"),
    ("--autostart", "set"),
    ("--restart", "set"),
    ("--firmware", "set"),
    ("--cpu-model", "set"),
    ("--bridge", "set"),
    ("--user-data", "edit"),
    ("--ssh-key", "edit"),
];

/// Adds to an error what was probably meant by the words that were typed after the program's name.
pub(crate) fn advise(error: &mut clap::Error, words: &[String]) {
    let Some(tip) = tip(error, words) else { return };
    // What looks alike is not what was meant.
    for kind in [ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand, ContextKind::Usage] {
        error.remove(kind);
    }
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![StyledStr::from(tip)]));
}

fn tip(error: &clap::Error, words: &[String]) -> Option<String> {
    let path = path(words);
    let path: Vec<_> = path.iter().map(String::as_str).collect();
    let wrong = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    match (error.kind(), path.as_slice()) {
        (ErrorKind::MissingRequiredArgument, ["create"]) => {
            Some("'waifuctl template list' shows the templates; one is chosen with --template".to_owned())
        }
        (ErrorKind::UnknownArgument, [command]) => {
            let typed = wrong(ContextKind::InvalidArg)?;
            let option = typed.split('=').next()?;
            if typed.starts_with('-') {
                let changes = ELSEWHERE.iter().any(|(_, other)| other == command);
                let (_, other) = ELSEWHERE.iter().find(|(known, _)| changes && *known == option)?;
                return Some(format!("'waifuctl {other}' does that"));
            }
            match *command {
                "create" => Some(format!("a template is chosen with --template {typed}, a name given with --name")),
                "events" | "audit" => Some(format!("'waifuctl history {typed}' is about one VM")),
                _ => None,
            }
        }
        (ErrorKind::InvalidSubcommand, ["disk", ..]) => match wrong(ContextKind::InvalidSubcommand)? {
            "list" | "ls" | "show" => Some("'waifuctl show NAME' lists a VM's disks".to_owned()),
            _ => None,
        },
        (ErrorKind::InvalidSubcommand, ["cluster", ..]) => match wrong(ContextKind::InvalidSubcommand)? {
            "show" | "info" => Some("'waifuctl cluster status'".to_owned()),
            _ => None,
        },
        (ErrorKind::InvalidSubcommand, ["context", ..]) => match wrong(ContextKind::InvalidSubcommand)? {
            "show" | "current" => Some("'waifuctl context list' says which is in use".to_owned()),
            _ => None,
        },
        _ => None,
    }
}

/// The names of the commands among the words, as far as they are some.
fn path(words: &[String]) -> Vec<String> {
    let root = Cli::command();
    let (mut at, mut names) = (&root, Vec::new());
    for word in words {
        if let Some(found) = at.find_subcommand(word) {
            names.push(found.get_name().to_owned());
            at = found;
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_command_is_in_one_group() {
        let named: Vec<_> = GROUPS.iter().flat_map(|(_, names)| names.iter().map(|name| (*name).to_owned())).collect();
        let known: BTreeSet<_> = Cli::command().get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
        assert_eq!(named.len(), known.len());
        assert_eq!(named.into_iter().collect::<BTreeSet<_>>(), known);
    }

    #[test]
    fn options_that_are_elsewhere_are_there() {
        for (option, command) in ELSEWHERE {
            // These are told by a word of their own.
            if matches!(command, "protect" | "unprotect" | "label" | "rename") || option == "--user-data" {
                continue;
            }
            let root = Cli::command();
            let found = root.find_subcommand(command).unwrap();
            let mut options = found.get_arguments().filter_map(Arg::get_long);
            assert!(options.any(|long| format!("--{long}") == option), "{command} {option}");
        }
    }

    fn said(line: &str) -> String {
        let words: Vec<_> = line.split(' ').map(str::to_owned).collect();
        let mut error = command().try_get_matches_from(&words).unwrap_err();
        advise(&mut error, &words[1..]);
        error.to_string()
    }

    #[test]
    fn what_was_meant_is_told() {
        for (line, wanted) in [
            ("waifuctl set web-1 --protect", "tip: 'waifuctl protect' does that"),
            ("waifuctl set --memory=4G web-1", "tip: 'waifuctl resize' does that"),
            ("waifuctl resize web-1 --label a=b", "tip: 'waifuctl label' does that"),
            ("waifuctl create", "tip: 'waifuctl template list' shows the templates"),
            ("waifuctl create debian-12", "tip: a template is chosen with --template debian-12"),
            ("waifuctl events web-1", "tip: 'waifuctl history web-1' is about one VM"),
            ("waifuctl disk ls web-1", "tip: 'waifuctl show NAME' lists a VM's disks"),
            ("waifuctl context show", "tip: 'waifuctl context list'"),
            ("waifuctl cluster show", "tip: 'waifuctl cluster status'"),
        ] {
            let said = said(line);
            assert!(said.contains(wanted) && !said.contains("similar"), "{line}: {said}");
        }
        assert!(said("waifuctl lst").contains("similar"), "what needs no words of ours keeps clap's");
    }
}

//! The arguments: the commands, and a flag for every setting there is, made from the same table as the file's reader.

use clap::{Arg, ArgMatches, Command, parser::ValueSource, value_parser};
use std::path::PathBuf;
use waifud_node::config::{Config, DEFAULT_FILE, Given, KEYS, LoadError, Place, load};

/// What the arguments ask for.
#[derive(Debug)]
pub(super) struct Invocation<'a> {
    /// The command.
    pub(super) name: &'a str,
    /// Its own arguments.
    pub(super) matches: &'a ArgMatches,
    /// The configuration, with file, variables and flags taken together.
    pub(super) config: Config,
}

/// The arguments parse, and what they lead to is wrong.
#[derive(Debug, thiserror::Error)]
pub(super) enum ArgsError {
    /// No command: clap does not let this happen.
    #[error("no command was given; see waifud --help")]
    NoCommand,
    /// The configuration is wrong.
    #[error(transparent)]
    Config(LoadError),
}

/// The whole command line.
pub(super) fn command() -> Command {
    Command::new("waifud")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Manages virtual machines on a handful of hosts, without a controller")
        .long_about(
            "Every machine of the cluster runs this daemon. Make a cluster with `waifud init`, let machines in with \
             `waifud join`, serve with `waifud run`; everything else is done with `waifuctl` on any of them.",
        )
        .subcommand_required(true)
        .arg_required_else_help(true)
        .arg(
            Arg::new("config")
                .long("config")
                .global(true)
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .env("WAIFUD_CONFIG")
                .help(format!("configuration file [default: {DEFAULT_FILE}, if it is there]")),
        )
        .args(KEYS.iter().map(|key| {
            Arg::new(key.flag())
                .long(key.flag())
                .global(true)
                .value_name(key.form)
                .help(key.help)
                .help_heading(format!("Settings of [{}]", key.section))
        }))
        .subcommand(
            Command::new("init")
                .about("Make a cluster of one; the first of its machines does this")
                .after_help("Example:\n  waifud init --name n1 --advertise 192.0.2.11:7443"),
        )
        .subcommand(
            Command::new("join")
                .about("Make this machine a member of an existing cluster")
                .arg(
                    Arg::new("token")
                        .value_name("TOKEN")
                        .help("from `waifuctl cluster token create` on a member; - reads it from standard input"),
                )
                .arg(
                    Arg::new("token-file")
                        .long("token-file")
                        .value_name("FILE")
                        .value_parser(value_parser!(PathBuf))
                        .conflicts_with("token")
                        .help("reads the token from a file, so that it shows in no process list"),
                )
                .after_help("Example:\n  waifud join --name n2 --token-file token"),
        )
        .subcommand(Command::new("run").about("Serve, until told to stop; guests run on"))
        .subcommand(Command::new("status").about("How this node and its cluster are, from the daemon that runs here"))
        .subcommand(
            Command::new("stop-guests").about("Shut this node's guests down before the host does").long_about(
                "Shuts this node's guests down, and switches off those that have not shut down after [hypervisor] \
                 shutdown_grace. For the host's shutdown, after the daemon has ended: what is wanted stays as it is, so \
                 the daemon starts the guests again at the next boot. To stop a VM for good: waifuctl stop.",
            ),
        )
        .subcommand(
            Command::new("completions").about("Print a completion script for a shell").arg(
                Arg::new("shell").required(true).value_parser(value_parser!(clap_complete::Shell)).help("the shell"),
            ),
        )
        .subcommand(
            Command::new("manpage").about("Write manual pages into a directory").arg(
                Arg::new("dir")
                    .required(true)
                    .value_parser(value_parser!(PathBuf))
                    .help("the directory; it is made if it is not there"),
            ),
        )
}

impl<'a> Invocation<'a> {
    /// Reads what was given, file and variables included.
    pub(super) fn read(matches: &'a ArgMatches) -> Result<Self, ArgsError> {
        let (name, matches) = matches.subcommand().ok_or(ArgsError::NoCommand)?;
        let variables = Given::from_variables(|name| std::env::var(name).ok());
        let file = matches.get_one::<PathBuf>("config").map(PathBuf::as_path);
        let config = load(file, variables, flags(matches))?;
        Ok(Self { name, matches, config })
    }
}

fn flags(matches: &ArgMatches) -> Vec<Given> {
    let given = |key: &'static waifud_node::config::Key| {
        let flag = key.flag();
        let typed = matches.value_source(&flag) == Some(ValueSource::CommandLine);
        let text = matches.get_one::<String>(&flag).filter(|_| typed)?.clone();
        Some(Given { key, place: Place::Flag(flag), text })
    };
    KEYS.iter().filter_map(given).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn a_setting_is_a_flag_of_every_command() {
        let matches = command().get_matches_from(["waifud", "run", "--data-dir", "/tmp/x", "--api-socket", "/tmp/s"]);
        let (_, matches) = matches.subcommand().unwrap();
        let given: Vec<_> = flags(matches).into_iter().map(|g| (g.key.path(), g.text)).collect();
        assert_eq!(given, [("[node] data_dir".into(), "/tmp/x".into()), ("[api] socket".into(), "/tmp/s".to_owned())]);
    }
}

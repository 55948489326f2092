//! What a shell is told when it asks for completions: names of VMs, nodes, templates, peers and contexts, ids of tokens, columns.
//!
//! A shell calls the program again with the line so far. Objects are asked of the cluster that the line, the environment or the
//! configuration names; within [`DEADLINE`], and silently: a completion that cannot be had is none, and never an error in the
//! middle of a line that somebody is typing.

use crate::{
    cli::Cli,
    endpoint::{Environment, Target},
    output::{Column, Row},
    settings::Settings,
};
use clap::{CommandFactory as _, Parser as _};
use clap_complete::{
    CompleteEnv,
    engine::{ArgValueCompleter, CompletionCandidate},
    env::Shells,
};
use std::{
    ffi::{OsStr, OsString},
    io,
    time::Duration,
};
use waifud_api::{
    client::{Client, ClientError},
    filter::Filter,
    node::Node,
    template::Template,
    vm::Vm,
};

/// What a person does not feel as waiting after a keystroke.
const DEADLINE: Duration = Duration::from_millis(300);
/// The variable by which the shell's script says that it asks.
const VARIABLE: &str = "WAIFUCTL_COMPLETE";

/// Answers a shell, if it is a shell that asks.
pub(crate) fn answer(args: impl IntoIterator<Item = OsString>) -> bool {
    let here = std::env::current_dir().ok();
    // Whatever is wrong with the question, nobody is there to read about it.
    CompleteEnv::with_factory(candidates).var(VARIABLE).try_complete(args, here.as_deref()).unwrap_or(true)
}

/// The command line as a shell is told of it: options only where one is begun, or where nothing else can follow.
fn candidates() -> clap::Command {
    let mut command = Cli::command();
    if word().starts_with('-') {
        return command;
    }
    command.build();
    without_options(command)
}

fn without_options(command: clap::Command) -> clap::Command {
    command
        .mut_args(|arg| {
            let option = !arg.is_positional();
            arg.hide(option)
        })
        .mut_subcommands(without_options)
}

/// The word that is being completed; bash and zsh say which it is, elsewhere it is the last.
fn word() -> String {
    let line = line();
    let index = std::env::var("_CLAP_COMPLETE_INDEX").ok().and_then(|index| index.parse::<usize>().ok());
    // The first word is the program's name, which is not in the line.
    let found = index.and_then(|index| index.checked_sub(1)).map_or_else(|| line.last(), |index| line.get(index));
    found.cloned().unwrap_or_default()
}

/// The commands and the topics that `help` explains.
pub(crate) fn topics() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &OsStr| {
        let command = Cli::command();
        let commands = command.get_subcommands().map(|command| command.get_name().to_owned());
        beginning(typed, commands.chain(crate::commands::topic_names().map(str::to_owned)))
    })
}

/// The script that makes `shell` ask.
pub(crate) fn script(shell: clap_complete::Shell) -> io::Result<Vec<u8>> {
    let mut script = Vec::new();
    let name = shell.to_string();
    let shells = Shells::builtins();
    let found = shells.completer(&name).ok_or_else(|| io::Error::other(format!("{name} cannot ask")))?;
    found.write_registration(VARIABLE, "waifuctl", "waifuctl", "waifuctl", &mut script)?;
    Ok(script)
}

/// Names of VMs.
pub(crate) fn vms() -> ArgValueCompleter {
    names(async |client| {
        let answer = client.vms(&Filter::default()).await?;
        Ok(answer.value.iter().map(Row::name).collect())
    })
}

/// Names of nodes.
pub(crate) fn nodes() -> ArgValueCompleter {
    names(async |client| Ok(client.nodes().await?.value.iter().map(Row::name).collect()))
}

/// Names of templates.
pub(crate) fn templates() -> ArgValueCompleter {
    names(async |client| Ok(client.templates().await?.value.iter().map(Row::name).collect()))
}

/// Names of machines that are no nodes and may reach the guests.
pub(crate) fn peers() -> ArgValueCompleter {
    names(async |client| Ok(client.net_peers().await?.value.iter().map(Row::name).collect()))
}

/// Ids of tokens for the API.
pub(crate) fn tokens() -> ArgValueCompleter {
    names(async |client| Ok(client.api_tokens().await?.value.iter().map(Row::name).collect()))
}

/// Ids of tokens with which machines join.
pub(crate) fn join_tokens() -> ArgValueCompleter {
    names(async |client| Ok(client.join_tokens().await?.value.iter().map(Row::name).collect()))
}

/// `vm/NAME`, `node/NAME`, `template/NAME`.
pub(crate) fn subjects() -> ArgValueCompleter {
    names(async |client| {
        let all = Filter::default();
        let (vms, nodes, templates) = tokio::try_join!(client.vms(&all), client.nodes(), client.templates())?;
        let vms = vms.value.into_iter().map(|vm| format!("vm/{}", vm.name));
        let nodes = nodes.value.into_iter().map(|node| format!("node/{}", node.name));
        let templates = templates.value.into_iter().map(|template| format!("template/{}", template.name));
        Ok(vms.chain(nodes).chain(templates).collect())
    })
}

/// `vm/NAME`, `node/NAME`, and the names of VMs alone.
pub(crate) fn exportable() -> ArgValueCompleter {
    names(async |client| {
        let all = Filter::default();
        let (vms, nodes) = tokio::try_join!(client.vms(&all), client.nodes())?;
        let vms = vms.value.into_iter().flat_map(|vm| [vm.name.to_string(), format!("vm/{}", vm.name)]);
        Ok(vms.chain(nodes.value.into_iter().map(|node| format!("node/{}", node.name))).collect())
    })
}

/// Names of contexts.
pub(crate) fn contexts() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &OsStr| {
        let settings = Settings::load().unwrap_or_default();
        beginning(typed, settings.contexts.keys().map(ToString::to_string))
    })
}

/// Columns of the list that the line asks for, after the last comma.
pub(crate) fn columns() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &OsStr| {
        let typed = typed.to_string_lossy();
        let (before, last) = typed.rsplit_once(',').map_or(("", &*typed), |(before, last)| (before, last));
        let before = if before.is_empty() { String::new() } else { format!("{before},") };
        let known = columns_of(&line()).iter().map(|column| column.head.to_lowercase());
        known
            .filter(|name| name.starts_with(last))
            .map(|name| CompletionCandidate::new(before.clone() + &name))
            .collect()
    })
}

fn columns_of(line: &[String]) -> &'static [Column] {
    let has = |words: &[&str]| line.iter().any(|word| words.contains(&word.as_str()));
    if has(&["node"]) {
        Node::COLUMNS
    } else if has(&["template"]) {
        Template::COLUMNS
    } else if has(&["events", "history", "audit"]) {
        waifud_api::event::Event::COLUMNS
    } else {
        Vm::COLUMNS
    }
}

type Names = Result<Vec<String>, ClientError>;

fn names(ask: impl AsyncFn(Client) -> Names + Send + Sync + 'static) -> ArgValueCompleter {
    ArgValueCompleter::new(move |typed: &OsStr| {
        let found = client(&line()).and_then(|client| in_time(ask(client))).unwrap_or_default();
        beginning(typed, found)
    })
}

fn beginning(typed: &OsStr, words: impl IntoIterator<Item = String>) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy();
    words.into_iter().filter(|word| word.starts_with(&*typed)).map(CompletionCandidate::new).collect()
}

fn in_time(asked: impl Future<Output = Names>) -> Option<Vec<String>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let found = runtime.block_on(async { tokio::time::timeout(DEADLINE, asked).await });
    // A name that is being looked up in DNS must not hold the shell up.
    runtime.shutdown_background();
    found.ok()?.ok()
}

/// The line that is being completed: the shell passes it after `--`.
fn line() -> Vec<String> {
    let words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    words.skip_while(|word| word != "--").skip(2).collect()
}

/// The client for the cluster that an unfinished line is about.
fn client(line: &[String]) -> Option<Client> {
    let cli = Cli::try_parse_from(whole(line)).ok()?;
    let environment = Environment::read();
    let target = Target::of(&cli.global, &environment, &Settings::load().ok()?).ok()?;
    target.client(&cli.global, &environment).ok()
}

/// A line that parses and says where the API is as the unfinished one does: its global options, before a command.
fn whole(line: &[String]) -> Vec<String> {
    const OPTIONS: [&str; 5] = ["-H", "--host", "--context", "--token-file", "--ca-file"];
    let mut words = vec!["waifuctl".to_owned()];
    let mut rest = line.iter();
    while let Some(word) = rest.next() {
        if OPTIONS.contains(&word.as_str()) {
            words.extend(rest.next().map(|value| [word.clone(), value.clone()]).into_iter().flatten());
        } else if OPTIONS.iter().any(|option| word.strip_prefix(option).is_some_and(|rest| rest.starts_with('='))) {
            words.push(word.clone());
        }
    }
    words.push("version".to_owned());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn an_unfinished_line_says_which_cluster() {
        let shown = |line: &str| whole(&words(line)).join(" ");
        assert_eq!(shown("show w"), "waifuctl version");
        assert_eq!(shown("-H https://n1 show --ca-file=x w"), "waifuctl -H https://n1 --ca-file=x version");
        assert_eq!(shown("show --context"), "waifuctl version", "the value is not there yet");
    }

    #[test]
    fn columns_are_those_of_the_list() {
        assert_eq!(columns_of(&words("node ls --columns"))[2].head, "ROLE");
        assert_eq!(columns_of(&words("ls --columns"))[1].head, "STATUS");
    }
}

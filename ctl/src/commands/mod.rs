//! What the commands do: one file a family. Each asks the API, waits if that is wanted, and shows the answer.

pub(crate) mod apply;
pub(crate) mod change;
mod change_args;
pub(crate) mod cloud_init;
pub(crate) mod cluster;
pub(crate) mod config;
pub(crate) mod console;
pub(crate) mod context;
pub(crate) mod create;
mod create_args;
pub(crate) mod delete;
pub(crate) mod doctor;
pub(crate) mod edit;
pub(crate) mod events;
pub(crate) mod export;
pub(crate) mod history;
pub(crate) mod list;
mod local;
pub(crate) mod login;
pub(crate) mod logs;
pub(crate) mod net;
pub(crate) mod node;
pub(crate) mod panel;
pub(crate) mod power;
pub(crate) mod show;
pub(crate) mod ssh;
pub(crate) mod template;
pub(crate) mod token;
mod topics;
pub(crate) mod vnc;
pub(crate) mod wait;

use crate::{
    cli::{Cli, Command},
    context::{Context, Terms},
    exit::Failure,
    output::{Out, Terminal},
    settings::Defaults,
};
use waifud_api::exit::Exit;

/// What `help` explains beside commands.
pub(crate) fn topic_names() -> impl Iterator<Item = &'static str> {
    topics::ALL.iter().map(|topic| topic.name)
}

/// Does what was typed.
pub(crate) async fn run(cli: Cli, terminal: Terminal) -> Result<Exit, Failure> {
    let context = || Context::new(&cli.global, terminal);
    let terms = || Terms::new(&cli.global, terminal);
    match cli.command {
        Command::List(args) => list::run(&context()?, &args).await,
        Command::Create(args) => create::run(&context()?, *args).await,
        Command::Show(args) => show::run(&context()?, &args).await,
        Command::Ip(args) => show::ip(&context()?, &args).await,
        Command::Edit(args) => edit::run(&context()?, &args).await,
        Command::Delete(args) => delete::run(&context()?, &args).await,
        Command::Start(args) => power::start(&context()?, &args).await,
        Command::Stop(args) => power::stop(&context()?, &args).await,
        Command::Reboot(args) => power::reboot(&context()?, &args).await,
        Command::Pause(args) => power::pause(&context()?, &args).await,
        Command::Resume(args) => power::resume(&context()?, &args).await,
        Command::Resize(args) => change::resize(&context()?, args).await,
        Command::Set(args) => change::set(&context()?, args).await,
        Command::Label(args) => change::label(&context()?, args).await,
        Command::Protect(args) => change::protect(&context()?, &args, true).await,
        Command::Unprotect(args) => change::protect(&context()?, &args, false).await,
        Command::Disk(command) => change::disk(&context()?, command).await,
        Command::Cd(command) => change::cd(&context()?, command).await,
        Command::Rename(args) => change::rename(&context()?, &args).await,
        Command::Reinit(args) => change::reinit(&context()?, &args).await,
        Command::Apply(args) if args.schema => apply::schema(),
        Command::Apply(args) => apply::run(&context()?, &args).await,
        Command::Export(args) => export::run(&context()?, &args).await,
        Command::Ssh(args) => ssh::run(&context()?, &args).await,
        Command::Console(args) => console::run(&context()?, args).await,
        Command::Vnc(args) => vnc::run(&context()?, args).await,
        Command::Logs(args) => logs::run(&context()?, args).await,
        Command::Wait(args) => wait::run(&context()?, &args).await,
        Command::Template(command) => template::run(&context()?, command).await,
        Command::Net(command) => net::run(&context()?, command).await,
        Command::Node(command) => node::run(&context()?, command).await,
        Command::Cluster(command) => cluster::run(&context()?, command).await,
        Command::Token(command) => token::run(&context()?, command).await,
        Command::Events(args) => events::run(&context()?, &args).await,
        Command::History(args) => history::run(&context()?, &args).await,
        Command::Audit(args) => history::audit(&context()?, &args).await,
        Command::Login(args) => login::run(&terms()?, args, cli.global.token_file, cli.global.ca_file).await,
        Command::Context(command) => {
            let files = context::Files { token: cli.global.token_file.clone(), ca: cli.global.ca_file.clone() };
            context::run(&terms()?, command, files)
        }
        Command::Config(command) => config::run(&terms()?, command),
        Command::Doctor(args) => doctor::run(&context()?, &cli.global, &args).await,
        Command::Panel(args) => panel::run(&context()?, &args).await,
        Command::Completions { shell } => local::completions(shell),
        Command::Manpage { dir } => local::manpage(&dir),
        Command::Version => local::version(&Out::new(&cli.global, &Defaults::default(), terminal)),
        Command::Help { topic } => local::help(&topic),
    }?;
    Ok(Exit::Done)
}

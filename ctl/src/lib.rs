//! The command line of waifud: reads what is wanted, asks a node's API for it, and shows the answer.
//!
//! In: arguments, a few environment variables, and the API through `waifud-api`'s client. Out: data on stdout, everything else
//! on stderr, and an exit status that scripts rely on. It knows nothing of Raft, libvirt or files of the daemon, and decides
//! nothing about the cluster: what is allowed, where a VM goes and what a mistyped name may have meant is the server's to say.
//!
//! ```text
//!   cli.rs       what can be typed            ──> commands/  one file a family: ask, wait, show
//!   endpoint.rs  where the API is, as whom    ──>     │
//!   settings.rs  contexts and defaults        ──>     │
//!   complete.rs  what a shell may complete            │
//!   help.rs      how it explains itself               │
//!                                                     ├── documents.rs  the user's files for guests
//!                                                     ├── apply/       the cluster as files describe it
//!                                                     ├── edit/        a text in an editor, and who changed it meanwhile
//!                                                     ├── peer/        keys and files for machines that are no nodes
//!                                                     ├── wait.rs      until a VM is as wanted
//!                                                     ├── watch.rs     again whenever it changes
//!                                                     ├── shell/       the way into a guest by ssh
//!                                                     ├── console/     a guest's serial port on this terminal
//!                                                     ├── progress.rs  phases on stderr
//!                                                     ├── views/       wire types as rows and details
//!                                                     ├── output/      tables, JSON, YAML, CSV, names on stdout
//!                                                     └── exit.rs      how it ended, in words and as a number
//! ```

mod apply;
mod cli;
mod commands;
mod complete;
mod confirm;
mod console;
mod context;
mod documents;
mod edit;
mod endpoint;
mod exit;
mod guest;
mod help;
mod output;
mod panel;
mod peer;
mod progress;
mod route;
mod secret;
mod settings;
mod shell;
mod suggest;
mod typed;
mod views;
mod wait;
mod watch;

use clap::FromArgMatches as _;
use std::{ffi::OsString, process::ExitCode};
use waifud_api::exit::Exit;

/// Does what the arguments say; the first one is the program's name.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<_> = args.into_iter().collect();
    if complete::answer(args.iter().cloned()) {
        return ExitCode::SUCCESS;
    }
    let words: Vec<_> = args.iter().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let mut command = help::command();
    let parsed = command.try_get_matches_from_mut(args).and_then(|matches| cli::Cli::from_arg_matches(&matches));
    let exit = match parsed {
        Ok(cli) => execute(cli),
        Err(mut error) => {
            help::advise(&mut error, &words);
            // Help goes to stdout and is a success; whatever else clap has to say is about the usage. There is nobody to be
            // told that it could not be written.
            let _ = error.print();
            if error.use_stderr() { Exit::Usage } else { Exit::Done }
        }
    };
    ExitCode::from(exit.code())
}

fn execute(cli: cli::Cli) -> Exit {
    let terminal = output::Terminal::detect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(commands::run(cli, terminal)),
        Err(error) => Err(exit::Failure::Io { what: "the runtime", source: error }),
    };
    match result {
        Ok(exit) => exit,
        Err(failure) => exit::report(&failure, terminal),
    }
}

//! `logs`: what a guest has written to its serial port.

use crate::{complete, context::Context, exit::Failure, output};
use futures::StreamExt as _;
use std::{pin::pin, time::Duration};
use tokio::time::sleep;
use waifud_api::{
    client::{ClientError, Logs},
    console::LogsQuery,
};
use waifud_model::name::VmName;

/// Between two tries to follow on.
const AGAIN: Duration = Duration::from_millis(500);

/// See the module.
#[derive(Debug, clap::Args)]
#[command(
    before_help = "Examples:
  waifuctl logs web-1
  waifuctl logs web-1 --follow --tail 20
  waifuctl logs web-1 --previous | less",
    after_help = "A guest's log begins with its last start; what it wrote before that is the previous one. The last 2 to 4 MiB are kept. \
                  The bytes are the guest's own, colours and all."
)]
pub(crate) struct Args {
    /// The VM
    #[arg(add = complete::vms())]
    name: VmName,
    /// Go on with what the guest writes from now on
    #[arg(short, long, conflicts_with = "previous")]
    follow: bool,
    /// Only so many of the last lines
    #[arg(short = 'n', long, alias = "lines", value_name = "LINES")]
    tail: Option<u32>,
    /// What the guest wrote before it was started the last time
    #[arg(long)]
    previous: bool,
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let Args { name, follow, tail, previous } = args;
    let logs = context.client.logs(&name, LogsQuery { follow, tail, previous, from: None }).await?;
    if !follow {
        return print(logs, &mut 0).await;
    }
    tokio::select! {
        end = keep_up(context, &name, logs) => end,
        // Following ends with Ctrl-C; that is how it is meant to end.
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

/// Prints to the end, and counts how far in the log that is.
async fn print(logs: Logs, at: &mut u64) -> Result<(), Failure> {
    *at = logs.offset;
    let mut bytes = pin!(logs.into_bytes());
    while let Some(chunk) = bytes.next().await {
        let chunk = chunk?;
        output::bytes(&chunk)?;
        *at += chunk.len() as u64;
    }
    Ok(())
}

/// Follows over the end of a connection: the next one begins where it broke off, on whichever node answers.
async fn keep_up(context: &Context, name: &VmName, mut logs: Logs) -> Result<(), Failure> {
    let mut at = 0;
    loop {
        match print(logs, &mut at).await {
            Ok(()) => {}
            Err(Failure::Client(ClientError::Unreachable(_))) => {}
            Err(failure) => return Err(failure),
        }
        let mut told = false;
        logs = loop {
            let query = LogsQuery { follow: true, from: Some(at), ..LogsQuery::default() };
            let error = match context.client.logs(name, query).await {
                Ok(logs) => break logs,
                Err(error) => error,
            };
            let passes = match &error {
                ClientError::Problem(problem) => problem.code.is_momentary() || problem.code.is_unreachable(),
                ClientError::Unreachable(_) | ClientError::Unanswered(_) => true,
                ClientError::Protocol { .. } | ClientError::File { .. } => false,
            };
            if !passes {
                return Err(error.into());
            }
            if !std::mem::replace(&mut told, true) {
                context.hint(&format!("{error}; following goes on as soon as that is over"));
            }
            sleep(AGAIN).await;
        };
    }
}

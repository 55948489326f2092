//! `start` and `stop`.

use crate::{
    context::Context,
    exit::Failure,
    wait::{self, Goal},
};
use waifud_model::name::VmName;

/// What to do.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Verb {
    /// On with it.
    Start,
    /// Off with it.
    Stop,
}

/// The arguments of `start` and `stop`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The VM
    name: VmName,
}

pub(crate) async fn run(context: &Context, args: &Args, verb: Verb) -> Result<(), Failure> {
    let answer = match verb {
        Verb::Start => wait::accepted(context.client.start_vm(&args.name)).await?,
        Verb::Stop => wait::accepted(context.client.stop_vm(&args.name, None)).await?,
    };
    let (goal, done) = match verb {
        Verb::Start => (Goal::Running, "runs"),
        Verb::Stop => (Goal::Stopped, "is stopped"),
    };
    let vm = context.fresh(answer);
    if !context.wait {
        context.hint(&goal.follow(&vm.name));
        return Ok(());
    }
    let clock = context.progress.phase(&format!("{} {}", goal.doing(), vm.name));
    let vm = wait::until(context, vm, goal, |_| ()).await?;
    clock.done(&format!("{} {done}", vm.name), &vm.ip.to_string());
    Ok(())
}

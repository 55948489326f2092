//! `start` and `stop`.

use crate::{
    context::Context,
    exit::Failure,
    wait::{self, Goal},
};
use waifud_model::{name::VmName, vm::Desired};

/// The arguments of `start` and `stop`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The VM
    name: VmName,
}

pub(crate) async fn run(context: &Context, args: &Args, desired: Desired) -> Result<(), Failure> {
    let answer = match desired {
        Desired::Running => wait::accepted(context.client.start_vm(&args.name)).await?,
        Desired::Stopped => wait::accepted(context.client.stop_vm(&args.name)).await?,
    };
    let (goal, done) = match desired {
        Desired::Running => (Goal::Running, "runs"),
        Desired::Stopped => (Goal::Stopped, "is stopped"),
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

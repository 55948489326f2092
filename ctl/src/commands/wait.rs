//! `wait`: for scripts.

use super::show::met;
use crate::{
    context::Context,
    exit::Failure,
    wait::{self, Goal},
};
use waifud_model::name::VmName;

/// See the module.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  waifuctl wait web-1 --for ip
  waifuctl wait web-1 --for stopped --timeout 10m")]
pub(crate) struct Args {
    /// The VM
    name: VmName,
    /// What to wait for
    #[arg(long = "for", value_name = "WHAT", value_enum)]
    what: What,
}

/// What can be waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// It runs and has answered at its address, which is then printed
    Ip,
    /// It runs
    Running,
    /// It is stopped
    Stopped,
    /// It is deleted
    Gone,
}

pub(crate) async fn run(context: &Context, args: &Args) -> Result<(), Failure> {
    let goal = match args.what {
        What::Ip => Goal::Met,
        What::Running => Goal::Running,
        What::Stopped => Goal::Stopped,
        What::Gone => Goal::Gone,
    };
    let vm = match context.client.vm(&args.name).await {
        Ok(answer) => context.fresh(answer),
        Err(error) if goal == Goal::Gone && wait::is_missing(&error) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if goal == Goal::Met {
        let vm = met(context, vm).await?;
        return crate::output::stdout(&format!("{}\n", vm.ip));
    }
    let clock = context.progress.phase(&format!("waiting for {}", vm.name));
    wait::until(context, vm, goal, |_| ()).await?;
    drop(clock);
    Ok(())
}

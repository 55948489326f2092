//! `show` and `ip`: one VM.

use crate::{
    context::Context,
    exit::Failure,
    output,
    views::vm::details,
    wait::{self, Goal},
};
use waifud_model::name::VmName;

/// The arguments of `show`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The VM
    name: VmName,
}

/// The arguments of `ip`.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  waifuctl ip web-1
  ssh debian@$(waifuctl ip --wait web-1)")]
pub(crate) struct IpArgs {
    /// The VM
    name: VmName,
    /// Wait until the VM runs
    #[arg(long)]
    wait: bool,
}

pub(crate) async fn run(context: &Context, args: &Args) -> Result<(), Failure> {
    let vm = context.fresh(context.client.vm(&args.name).await?);
    context.out.one(&vm, |look| details(&vm, look))
}

pub(crate) async fn ip(context: &Context, args: &IpArgs) -> Result<(), Failure> {
    let mut vm = context.fresh(context.client.vm(&args.name).await?);
    if args.wait {
        vm = wait::until(context, vm, Goal::Running, |_| ()).await?;
    }
    output::stdout(&format!("{}\n", vm.ip))
}

//! `show` and `ip`: one VM.

use crate::{
    context::Context,
    exit::Failure,
    output,
    views::vm::details,
    wait::{self, Goal},
};
use waifud_api::vm::Vm;
use waifud_model::{name::VmName, observed::VmState};

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
    /// Wait until the VM runs and has answered at its address: by a lease, on the link, or by asking for its metadata
    #[arg(long)]
    wait: bool,
}

pub(crate) async fn run(context: &Context, args: &Args) -> Result<(), Failure> {
    let vm = context.fresh(context.client.vm(&args.name).await?);
    context.out.one(&vm, |look| details(&vm, look))
}

/// Waits until the guest has answered, and tells on a terminal how far it is.
pub(super) async fn met(context: &Context, vm: Vm) -> Result<Vm, Failure> {
    let phase = context.progress.phase(&format!("waiting for {}", vm.name));
    wait::until(context, vm, Goal::Met, |vm| {
        let state = vm.status.state;
        let silent = if state == VmState::Running { ", its guest has not answered yet" } else { "" };
        phase.doing(&format!("waiting for {}: {state}{silent}", vm.name));
    })
    .await
}

pub(crate) async fn ip(context: &Context, args: &IpArgs) -> Result<(), Failure> {
    let mut vm = context.fresh(context.client.vm(&args.name).await?);
    if args.wait {
        vm = met(context, vm).await?;
    }
    output::stdout(&format!("{}\n", vm.ip))
}

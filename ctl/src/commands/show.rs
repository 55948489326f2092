//! `show` and `ip`: one VM.

use crate::{
    complete,
    context::Context,
    exit::Failure,
    output::{Cell, Column, Look, Row},
    views::vm::details,
    wait::{self, Goal},
    watch::{self, Seen},
};
use serde::Serialize;
use std::net::Ipv4Addr;
use waifud_api::vm::Vm;
use waifud_model::{name::VmName, observed::VmState};

/// The arguments of `show`.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  waifuctl show web-1
  waifuctl show web-1 --watch
  waifuctl show web-1 -o json
  waifuctl show web-1 --columns ip,mac")]
pub(crate) struct Args {
    /// The VM
    #[arg(add = complete::vms())]
    name: VmName,
    /// Go on, and show what changes: in place on a terminal, else a line for each change
    #[arg(short, long)]
    watch: bool,
}

/// The arguments of `ip`.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  waifuctl ip web-1
  ssh debian@$(waifuctl ip --wait web-1)")]
pub(crate) struct IpArgs {
    /// The VM
    #[arg(add = complete::vms())]
    name: VmName,
    /// Wait until the VM runs and has answered at its address: by a lease, on the link, or by asking for its metadata
    #[arg(long)]
    wait: bool,
}

pub(crate) async fn run(context: &Context, args: &Args) -> Result<(), Failure> {
    context.out.check::<Vm>()?;
    let vm = context.fresh(context.client.vm(&args.name).await?);
    if !args.watch {
        return context.out.one(&vm, |look| details(&vm, look));
    }
    let id = vm.id;
    let look = async || match context.client.vm(&args.name).await {
        Ok(answer) if answer.value.id == id => {
            context.heed(&answer.freshness);
            let note = context.staleness(&answer.freshness);
            Ok(Seen { vms: vec![answer.value], note, last: false })
        }
        // The name may already be somebody else's.
        Ok(_) => Ok(gone(&args.name)),
        Err(error) if wait::is_missing(&error) => Ok(gone(&args.name)),
        Err(error) => Err(error.into()),
    };
    watch::vms(context, look, |out, vms| match vms {
        [vm, ..] => out.one_text(vm, |look| details(vm, look)),
        [] => Ok(String::new()),
    })
    .await
}

fn gone(name: &VmName) -> Seen {
    Seen { vms: Vec::new(), note: Some(format!("{name} is deleted")), last: true }
}

/// An address, with whose it is: what a program may want to have beside it.
#[derive(Debug, Serialize)]
pub(super) struct Address<'a> {
    pub(super) name: &'a VmName,
    pub(super) ip: Ipv4Addr,
}

impl Row for Address<'_> {
    const COLUMNS: &'static [Column] = &[Column::text("NAME"), Column::text("IP")];

    fn cells(&self, _: &Look) -> Vec<Cell> {
        vec![self.name.to_string().into(), self.ip.to_string().into()]
    }

    fn name(&self) -> String {
        self.ip.to_string()
    }
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
    context.out.check::<Address<'_>>()?;
    let mut vm = context.fresh(context.client.vm(&args.name).await?);
    if args.wait {
        vm = met(context, vm).await?;
    }
    context.out.word(&Address { name: &vm.name, ip: vm.ip }, &vm.ip.to_string())
}

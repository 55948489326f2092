//! `console`: a guest's serial port.

use crate::{
    complete,
    console::{self, Escape, Wishes},
    context::Context,
    exit::Failure,
    output::parse_span,
};
use std::time::Duration;
use waifud_model::name::VmName;

/// See the module.
#[derive(Debug, clap::Args)]
#[command(
    before_help = "Examples:
  waifuctl console web-1
  waifuctl console web-1 --force
  waifuctl console web-1 --read-only | tee boot.txt
  waifuctl console web-1 < script",
    after_help = "Several may look, one writes: who comes first, or takes it over with --force. Where the output is no terminal it \
                  is text, without colours and movements of the cursor. A script is typed as fast as the guest takes it; the \
                  console is left when the guest has been silent for a while after its end."
)]
pub(crate) struct Args {
    /// The VM
    #[arg(add = complete::vms())]
    name: VmName,
    /// Write although somebody else does, who then may not any more
    #[arg(long, conflicts_with = "read_only")]
    force: bool,
    /// Only look
    #[arg(long)]
    read_only: bool,
    /// The key that leaves it: Ctrl-A, ^A, or none
    #[arg(long, value_name = "KEY", default_value_t)]
    escape: Escape,
    /// For how long the guest has to be silent after the end of a script
    #[arg(long, value_name = "TIME", value_parser = parse_span, default_value = "2s")]
    linger: Duration,
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let Args { name, force, read_only, escape, linger } = args;
    console::run(context, &Wishes { vm: name, escape, read_only, take: force, linger }).await
}

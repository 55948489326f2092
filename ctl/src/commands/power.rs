//! `start`, `stop`, `reboot`, `pause`, `resume`: each for one VM or several.

use super::delete::ended;
use crate::{
    complete,
    context::Context,
    exit::{self, Failure},
    output::parse_span,
    wait::{self, Goal},
};
use std::time::Duration;
use waifud_api::{
    client::{Answer, ClientError},
    exit::Exit,
    vm::Vm,
};
use waifud_model::name::VmName;

/// The arguments of `start`, `pause` and `resume`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The VMs
    #[arg(required = true, add = complete::vms())]
    names: Vec<VmName>,
}

/// The arguments of `stop` and `reboot`.
#[derive(Debug, clap::Args)]
pub(crate) struct OffArgs {
    /// The VMs
    #[arg(required = true, add = complete::vms())]
    names: Vec<VmName>,
    /// Take the power away at once; what the guest had not written is lost
    #[arg(short, long, conflicts_with = "grace")]
    force: bool,
    /// How long the guest may take to go off before its power is taken away: 90s, 10m [default: 1m]
    #[arg(long, value_name = "TIME", value_parser = parse_span)]
    grace: Option<Duration>,
}

impl OffArgs {
    /// In seconds, as the API takes it. What is too long is refused there, with the limit.
    fn grace(&self) -> Option<u32> {
        if self.force {
            return Some(0);
        }
        self.grace.map(|time| u32::try_from(time.as_secs()).unwrap_or(u32::MAX))
    }
}

/// What to do.
#[derive(Debug, Clone, Copy)]
enum Verb {
    Start,
    Stop(Option<u32>),
    Reboot(Option<u32>),
    Pause,
    Resume,
}

impl Verb {
    async fn ask(self, context: &Context, name: &VmName) -> Result<Answer<Vm>, ClientError> {
        let client = &context.client;
        match self {
            Self::Start => client.start_vm(name).await,
            Self::Stop(grace) => client.stop_vm(name, grace).await,
            Self::Reboot(grace) => client.reboot_vm(name, grace).await,
            Self::Pause => client.pause_vm(name).await,
            Self::Resume => client.resume_vm(name).await,
        }
    }

    const fn goal(self) -> Goal {
        match self {
            Self::Start | Self::Reboot(_) | Self::Resume => Goal::Running,
            Self::Stop(_) => Goal::Stopped,
            Self::Pause => Goal::Paused,
        }
    }

    /// What is happening meanwhile, and what it comes to.
    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Start => ("starting", "runs"),
            Self::Stop(_) => ("stopping", "is stopped"),
            Self::Reboot(_) => ("rebooting", "runs again"),
            Self::Pause => ("pausing", "is held still"),
            Self::Resume => ("resuming", "goes on"),
        }
    }
}

pub(crate) async fn start(context: &Context, args: &Args) -> Result<(), Failure> {
    each(context, &args.names, Verb::Start).await
}

pub(crate) async fn stop(context: &Context, args: &OffArgs) -> Result<(), Failure> {
    each(context, &args.names, Verb::Stop(args.grace())).await
}

pub(crate) async fn reboot(context: &Context, args: &OffArgs) -> Result<(), Failure> {
    each(context, &args.names, Verb::Reboot(args.grace())).await
}

pub(crate) async fn pause(context: &Context, args: &Args) -> Result<(), Failure> {
    each(context, &args.names, Verb::Pause).await
}

pub(crate) async fn resume(context: &Context, args: &Args) -> Result<(), Failure> {
    each(context, &args.names, Verb::Resume).await
}

/// All are asked before the first is waited for, so that they go off or on together.
async fn each(context: &Context, names: &[VmName], verb: Verb) -> Result<(), Failure> {
    let mut ends = Vec::new();
    let mut asked = Vec::new();
    for name in names {
        match wait::accepted(verb.ask(context, name)).await {
            Ok(answer) => asked.push(context.fresh(answer)),
            Err(failure) if names.len() == 1 => return Err(failure),
            Err(failure) => ends.push(exit::report(&failure, context.terminal)),
        }
    }
    for vm in asked {
        ends.push(match settle(context, vm, verb).await {
            Ok(()) => Exit::Done,
            Err(failure) if names.len() == 1 => return Err(failure),
            Err(failure) => exit::report(&failure, context.terminal),
        });
    }
    ended(&ends)
}

async fn settle(context: &Context, vm: Vm, verb: Verb) -> Result<(), Failure> {
    let goal = verb.goal();
    if !context.wait {
        context.hint(&goal.follow(&vm.name));
        return Ok(());
    }
    let (doing, done) = verb.words();
    let clock = context.progress.phase(&format!("{doing} {}", vm.name));
    let vm = wait::until(context, vm, goal, |_| ()).await?;
    clock.done(&format!("{} {done}", vm.name), &vm.ip.to_string());
    Ok(())
}

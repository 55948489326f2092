//! `wait`: for scripts.

use super::show::{Address, met};
use crate::{
    complete,
    context::Context,
    exit::{Failure, without_number},
    output::short_span,
    progress::Phase,
    shell::{self, Door, Wishes, answers},
    wait::{self, Goal},
};
use std::{pin::pin, process::Stdio, time::Duration};
use tokio::{process::Command, time::Instant};
use waifud_api::{exit::Exit, vm::Vm};
use waifud_model::{
    cloud_init::{Datasource, Imds},
    name::VmName,
};

/// The pause between two knocks at a guest's door: a guest that boots takes seconds.
const PAUSE: Duration = Duration::from_millis(500);
/// What ssh itself ends with when it does not get in (ssh(1)).
const SSH_FAILED: i32 = 255;
/// What `cloud-init status` ends with when it is done with warnings (its documentation of exit codes, from 23.4 on).
const RECOVERABLE: i32 = 2;

/// See the module.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  waifuctl wait web-1 --for ip
  waifuctl wait web-1 --for ssh && ansible-playbook site.yml
  waifuctl wait web-1 --for cloud-init -i ~/.ssh/id_ed25519
  waifuctl wait web-1 --for stopped --timeout 10m")]
pub(crate) struct Args {
    /// The VM
    #[arg(add = complete::vms())]
    name: VmName,
    /// What to wait for
    #[arg(long = "for", value_name = "WHAT", value_enum)]
    what: What,
    #[command(flatten)]
    wishes: Wishes,
}

/// What can be waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum What {
    /// It runs and has answered at its address, which is then printed
    Ip,
    /// It runs and an SSH server answers in it; its address is printed
    Ssh,
    /// It runs and its cloud-init is done: told by the guest, or asked for through ssh
    CloudInit,
    /// It runs
    Running,
    /// It is stopped
    Stopped,
    /// It is held still
    Paused,
    /// It is as it was last asked to be; what needs a start may wait
    Settled,
    /// It is deleted
    Gone,
}

pub(crate) async fn run(context: &Context, args: &Args) -> Result<(), Failure> {
    let goal = match args.what {
        What::Ip | What::Ssh | What::CloudInit => Goal::Met,
        What::Running => Goal::Running,
        What::Stopped => Goal::Stopped,
        What::Paused => Goal::Paused,
        What::Settled => Goal::Settled,
        What::Gone => Goal::Gone,
    };
    let vm = match context.client.vm(&args.name).await {
        Ok(answer) => context.fresh(answer),
        Err(error) if goal == Goal::Gone && wait::is_missing(&error) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if goal != Goal::Met {
        let clock = context.progress.phase(&format!("waiting for {}", vm.name));
        wait::until(context, vm, goal, |_| ()).await?;
        drop(clock);
        return Ok(());
    }
    let patience = Patience::from_now(context);
    let vm = met(context, vm).await?;
    if args.what != What::Ip {
        let phase = context.progress.phase(&format!("waiting for {}", vm.name));
        if args.what == What::CloudInit && !args.wishes.are_said() {
            cloud_init_done(context, &phase, &vm, &args.wishes, patience).await?;
        } else {
            inside(context, &phase, &vm, &args.wishes, args.what, patience).await?;
        }
    }
    context.out.word(&Address { name: &vm.name, ip: vm.ip }, &vm.ip.to_string())
}

impl What {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::Ssh => "ssh",
            Self::CloudInit => "cloud-init",
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Paused => "paused",
            Self::Settled => "settled",
            Self::Gone => "gone",
        }
    }

    fn follow(self, name: &VmName) -> String {
        format!("waifuctl wait {name} --for {}", self.word())
    }
}

/// Why the guest's inside did not say what was asked of it.
enum Unasked {
    /// ssh does not get in, and why.
    NoEntry(Failure),
    /// Anything else.
    Ended(Failure),
}

impl From<Unasked> for Failure {
    fn from(unasked: Unasked) -> Self {
        match unasked {
            Unasked::NoEntry(failure) | Unasked::Ended(failure) => failure,
        }
    }
}

/// How long the whole wait may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    start: Instant,
    whole: Duration,
}

impl Patience {
    pub(super) fn from_now(context: &Context) -> Self {
        Self { start: Instant::now(), whole: wait::patience(context) }
    }

    fn end(self) -> Instant {
        self.start + self.whole
    }

    fn over(self, what: What, vm: &Vm, why: &str) -> Failure {
        let spent = short_span(self.whole);
        let message = match what {
            What::CloudInit => {
                format!("cloud-init of {} is not done after {spent} ({why}); its guest goes on", vm.name)
            }
            _ => format!("no SSH server answers in {} after {spent} ({why}); its guest goes on", vm.name),
        };
        Failure::ended(Exit::TimedOut, message, what.follow(&vm.name))
    }
}

/// Waits until the guest's cloud-init is done, by its own word to its node or through ssh, whichever comes first. Not every
/// guest tells, and not everybody gets into it by ssh: where a guest may still tell, ssh that does not get in ends nothing.
pub(super) async fn cloud_init_done(
    context: &Context,
    phase: &Phase,
    vm: &Vm,
    wishes: &Wishes,
    patience: Patience,
) -> Result<(), Failure> {
    let left = patience.end().saturating_duration_since(Instant::now());
    let mut told = pin!(wait::until_within(context, vm.clone(), Goal::CloudInit, left, |_| ()));
    let asked = async {
        let door = shell::find(context, vm, wishes).await.map_err(Unasked::Ended)?;
        ask(context, phase, vm, &door, What::CloudInit, patience).await
    };
    let asked = tokio::select! {
        biased;
        told = &mut told => return told.map(drop),
        asked = asked => asked,
    };
    match asked {
        Err(Unasked::NoEntry(failure)) if may_tell(vm) => {
            context.hint(&format!("{failure}; waiting for the guest's own word"));
            phase.doing(&format!("waiting for {}: its cloud-init", vm.name));
            told.await.map(drop)
        }
        ended => Ok(ended?),
    }
}

/// Can its guest have been asked to tell? The cluster's own vendor-data, which stands in the way too, is not known here.
const fn may_tell(vm: &Vm) -> bool {
    !matches!(vm.datasource, Datasource::Ec2) && matches!(vm.imds, Imds::Any) && vm.network_config.is_none()
}

/// Waits for what only the guest itself can tell, until it does, the time is over, or the user does not want to any more.
pub(super) async fn inside(
    context: &Context,
    phase: &Phase,
    vm: &Vm,
    wishes: &Wishes,
    what: What,
    patience: Patience,
) -> Result<(), Failure> {
    let door = shell::find(context, vm, wishes).await?;
    tokio::select! {
        end = ask(context, phase, vm, &door, what, patience) => Ok(end?),
        () = wait::interrupt() => Err(Failure::ended(
            Exit::TimedOut,
            format!("not waiting any longer; the guest of {} goes on", vm.name),
            what.follow(&vm.name),
        )),
    }
}

async fn ask(
    context: &Context,
    phase: &Phase,
    vm: &Vm,
    door: &Door,
    what: What,
    patience: Patience,
) -> Result<(), Unasked> {
    phase.doing(&format!("waiting for {}: its SSH server", vm.name));
    loop {
        let why = match answers(door).await {
            Ok(()) => break,
            Err(why) => without_number(&why).to_owned(),
        };
        phase.doing(&format!("waiting for {}: its SSH server ({why})", vm.name));
        if Instant::now() + PAUSE >= patience.end() {
            return Err(Unasked::Ended(patience.over(what, vm, &why)));
        }
        tokio::time::sleep(PAUSE).await;
    }
    if what == What::CloudInit {
        phase.doing(&format!("waiting for {}: its cloud-init", vm.name));
        let asked = cloud_init(context, vm, door);
        tokio::time::timeout_at(patience.end(), asked)
            .await
            .unwrap_or_else(|_| Err(Unasked::Ended(patience.over(what, vm, "its cloud-init is at work"))))?;
    }
    Ok(())
}

/// Asks cloud-init in the guest, which answers when it is done.
async fn cloud_init(context: &Context, vm: &Vm, door: &Door) -> Result<(), Unasked> {
    let words = ["cloud-init", "status", "--wait"].map(str::to_owned);
    let line = door.line(&["BatchMode=yes", "LogLevel=ERROR"], &words);
    let mut command = Command::new("ssh");
    command.args(&line[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let ended = command.output().await.map_err(|source| Unasked::NoEntry(Failure::Io { what: "ssh", source }))?;
    let said = String::from_utf8_lossy(&ended.stderr).trim().to_owned();
    match ended.status.code() {
        Some(0) => Ok(()),
        Some(RECOVERABLE) => {
            context.hint(&format!("warning: cloud-init of {} is done, with warnings of its own", vm.name));
            Ok(())
        }
        Some(SSH_FAILED) | None => {
            let message = format!("{} cannot be asked for its cloud-init through ssh: {said}", vm.name);
            let hint = format!("waifuctl ssh {}", vm.name);
            Err(Unasked::NoEntry(Failure::ended(Exit::Failed, message, hint)))
        }
        Some(_) => {
            let message = format!("cloud-init of {} failed: {said}", vm.name);
            let hint = format!("waifuctl ssh {} -- cloud-init status --long", vm.name);
            Err(Unasked::Ended(Failure::ended(Exit::Failed, message, hint)))
        }
    }
}

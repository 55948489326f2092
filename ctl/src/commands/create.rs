//! `create`: VMs from a template, somewhere or on a node.

pub(crate) use super::create_args::Args;

use super::{
    create_args::Until,
    delete::together,
    wait::{Patience, What, cloud_init_done, inside},
};
use crate::{
    context::Context,
    documents::Sources,
    exit::{self, Failure},
    output::{Out, short_span},
    progress::Phase,
    shell::Wishes,
    views::vm::preview,
    wait::{self, Goal},
};
use std::{
    path::PathBuf,
    time::{Duration, Instant},
};
use waifud_api::{
    client::IdempotencyKey,
    exit::Exit,
    vm::{Fetching, Placement, Vm, VmCreate},
};
use waifud_model::observed::VmState;

/// How long a guest may take to be seen if the user does not say: a stock image on emulated CPUs takes a minute or two.
const GUEST: Duration = Duration::from_secs(180);

/// A pace is believed after this: the first blocks come from memory, or wait for a connection.
const STEADY: Duration = Duration::from_secs(1);

pub(crate) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    // A VM must not be made and then not be shown.
    context.out.check::<Vm>()?;
    let (dry_run, until, wishes) =
        (args.dry_run, args.wait, Wishes::with_key(args.ssh_key.first().map(PathBuf::as_path)));
    if until.is_some() && !context.wait {
        return Err(Failure::Usage("--wait and --no-wait: only one of them can be meant".to_owned()));
    }
    let (requests, sources) = args.requests()?;
    if dry_run {
        return dry(context, &requests, &sources).await;
    }
    let (mut made, mut ends) = (Vec::new(), Vec::new());
    for (number, request) in requests.iter().enumerate() {
        // All have the same documents, so what is odd about them is told once.
        match make(context, request, (number == 0).then_some(&sources), requests.len() > 1).await {
            Ok(vm) => made.push(vm),
            Err(failure) => {
                ends.push(exit::report(&sources.blame(failure), context.terminal));
                // What refuses one will refuse the next.
                break;
            }
        }
    }
    let mut vms = Vec::new();
    for vm in made {
        match ready(context, vm.clone(), until, &wishes).await {
            Ok(vm) => {
                ends.push(Exit::Done);
                vms.push(vm);
            }
            Err(failure) => {
                ends.push(exit::report(&failure, context.terminal));
                vms.push(vm);
            }
        }
    }
    show(context, &context.out, &vms)?;
    match together(&ends) {
        Exit::Done => Ok(()),
        other => Err(Failure::Told(other)),
    }
}

async fn dry(context: &Context, requests: &[VmCreate], sources: &Sources) -> Result<(), Failure> {
    // All requests are alike, and nothing is kept: one preview speaks for the first of them.
    let Some(request) = requests.first() else { return Ok(()) };
    let found = context.client.preview_vm(request).await.map_err(|error| sources.blame(error.into()))?;
    let found = context.fresh(found);
    sources.warn(&context.progress, &found.warnings);
    context.out.whole(&found, |look| preview(&found, look).render())
}

/// Has one VM made, and says where it went and why; with `sources` also what is odd about its documents.
async fn make(context: &Context, request: &VmCreate, sources: Option<&Sources>, several: bool) -> Result<Vm, Failure> {
    let key = IdempotencyKey::random();
    let created = context.fresh(wait::accepted(context.client.create_vm(request, &key)).await?);
    if let Some(sources) = sources {
        sources.warn(&context.progress, &created.warnings);
    }
    let placed = format!("placed on {}", created.vm.node);
    // Of several VMs each line says which.
    let placed = if several { format!("{} {placed}", created.vm.name) } else { placed };
    context.progress.done(&placed, &reasons(&created.placement));
    Ok(created.vm)
}

/// `most free memory of 3 (n3 full, n1 cordoned)`.
pub(crate) fn reasons(placement: &Placement) -> String {
    let rejected: Vec<_> = placement.rejected.iter().map(|n| format!("{} {}", n.node, n.reason)).collect();
    if rejected.is_empty() {
        placement.reason.clone()
    } else {
        format!("{} ({})", placement.reason, rejected.join(", "))
    }
}

/// Waits until it runs, if it is to and the user wants to know.
async fn ready(context: &Context, vm: Vm, until: Option<Until>, wishes: &Wishes) -> Result<Vm, Failure> {
    if vm.desired == waifud_model::vm::Desired::Stopped {
        context.hint(&format!("{} is made and not started:  waifuctl start {}", vm.name, vm.name));
        return Ok(vm);
    }
    if !context.wait {
        context.hint(&format!("{} is on its way:  {}", vm.name, Goal::Running.follow(&vm.name)));
        return Ok(vm);
    }
    let (start, patience) = (Instant::now(), Patience::from_now(context));
    let image = origin(context, &vm).await;
    let phase = context.progress.phase(&format!("{} on {}", vm.name, vm.node));
    let mut steps = Steps { phase, image, done: 0, pace: Pace::default() };
    let vm = wait::until(context, vm, Goal::Running, |vm| steps.look(vm)).await?;
    let vm = if until == Some(Until::Running) {
        steps.phase.step("running", &vm.ip.to_string());
        vm
    } else {
        greet(context, &mut steps.phase, vm, start, until).await?
    };
    match until {
        Some(Until::Ssh) => {
            inside(context, &steps.phase, &vm, wishes, What::Ssh, patience).await?;
            steps.phase.step("its SSH server answers", "");
        }
        Some(Until::CloudInit) => {
            cloud_init_done(context, &steps.phase, &vm, wishes, patience).await?;
            steps.phase.step("cloud-init done", "");
        }
        Some(Until::Running | Until::Ip) | None => {}
    }
    drop(steps);
    context.hint(&format!("{} is ready:  {}", vm.name, way_in(&vm, until)));
    Ok(vm)
}

/// How to get into a guest: by ssh, if it was told of somebody to let in, or has been waited for by whoever knows that it lets
/// them in.
fn way_in(vm: &Vm, until: Option<Until>) -> String {
    let told = vm.user_data.is_some() || !vm.ssh_keys.is_empty();
    let by_ssh = told || matches!(until, Some(Until::Ssh | Until::CloudInit));
    format!("waifuctl {} {}", if by_ssh { "ssh" } else { "console" }, vm.name)
}

/// Waits for the guest itself: until it was seen at its address and, where it was given documents, has asked for them. If the user
/// did not say for how long, one that does not ask for them is told of and no reason to go on waiting: not every image has
/// cloud-init.
async fn greet(
    context: &Context,
    phase: &mut Phase,
    vm: Vm,
    start: Instant,
    until: Option<Until>,
) -> Result<Vm, Failure> {
    let told = matches!(until, None | Some(Until::CloudInit)) && (vm.user_data.is_some() || !vm.ssh_keys.is_empty());
    let name = vm.name.clone();
    let mut vm = vm;
    for (goal, doing) in [(Goal::Met, "its guest boots"), (Goal::Told, "its cloud-init begins")] {
        if goal == Goal::Told && !told {
            break;
        }
        phase.doing(&format!("{name} on {}: {doing}", vm.node));
        let patience = context.timeout.map_or(GUEST, |whole| whole.saturating_sub(start.elapsed()));
        vm = match wait::until_within(context, vm.clone(), goal, patience, |_| ()).await {
            Ok(vm) => vm,
            Err(Failure::Ended { exit: Exit::TimedOut, .. }) if context.timeout.is_none() && goal == Goal::Told => {
                context.hint(&format!("its guest has not asked for its cloud-init documents in {}", short_span(GUEST)));
                break;
            }
            Err(failure) => return Err(failure),
        };
        match goal {
            Goal::Told => phase.step("cloud-init begun", "the guest has its documents"),
            _ => phase.step("booted", &vm.ip.to_string()),
        }
    }
    Ok(vm)
}

/// Where the template's bytes come from, as far as that can be known; nothing where it cannot.
async fn origin(context: &Context, vm: &Vm) -> String {
    let short = vm.template.version.short();
    let found = context.client.template(&vm.template.name).await.ok();
    let found = found.and_then(|answer| answer.value.versions.into_iter().find(|v| v.version == vm.template.version));
    match found {
        Some(version) if version.nodes.contains(&vm.node) => format!("version {short}, there already"),
        Some(version) => match version.nodes.as_slice() {
            [one] => format!("version {short}, {} from {one}, verified", version.size),
            _ => format!("version {short}, {}, verified", version.size),
        },
        None => format!("version {short}"),
    }
}

/// The phases of a VM that comes to be, told as they are seen. A look may find several done since the last one.
#[derive(Debug)]
struct Steps {
    phase: Phase,
    /// What is said of the template.
    image: String,
    done: usize,
    pace: Pace,
}

/// How many of the two phases before the boot (template, disk) a VM in this state has behind it.
const fn behind(state: VmState) -> Option<usize> {
    match state {
        VmState::Pending | VmState::Fetching => Some(0),
        VmState::Preparing => Some(1),
        VmState::Running => Some(2),
        // They tell nothing of how far it is.
        _ => None,
    }
}

impl Steps {
    fn look(&mut self, vm: &Vm) {
        let state = vm.status.state;
        let far = vm.status.fetching.map(|far| format!(" {}", self.pace.tell(far, Instant::now())));
        self.phase.doing(&format!("{} on {}: {state}{}", vm.name, vm.node, far.unwrap_or_default()));
        let Some(behind) = behind(state) else { return };
        for step in self.done..behind {
            match step {
                0 => self.phase.step(&format!("template {}", vm.template.name), &self.image),
                _ => self.phase.step(&format!("disk {}", vm.disk), ""),
            }
        }
        self.done = self.done.max(behind);
    }
}

/// How fast a template comes, from its first look on, for how long the rest will take.
#[derive(Debug, Default)]
struct Pace(Option<(Instant, u64)>);

impl Pace {
    /// `96 MiB of 212 MiB (45%), 14s left`; how long only once that can be told.
    fn tell(&mut self, Fetching { done, total }: Fetching, now: Instant) -> String {
        let (begun, first) = match self.0 {
            // It began anew, from another place.
            Some((_, first)) if done.as_bytes() < first => *self.0.insert((now, done.as_bytes())),
            Some(known) => known,
            None => *self.0.insert((now, done.as_bytes())),
        };
        let left = u128::from(total.as_bytes().saturating_sub(done.as_bytes()));
        let come = u128::from(done.as_bytes() - first);
        let spent = now.duration_since(begun);
        let percent = u128::from(done.as_bytes()) * 100 / u128::from(total.as_bytes().max(1));
        let far = format!("{done} of {total} ({percent}%)");
        if spent < STEADY || come == 0 {
            return far;
        }
        let rest = Duration::from_millis(u64::try_from(spent.as_millis() * left / come).unwrap_or(u64::MAX));
        format!("{far}, {} left", short_span(rest))
    }
}

/// For programs, what was made; a person has been told all along. A pipe without a wish gets the names, for `$(…)`.
fn show(context: &Context, out: &Out, vms: &[Vm]) -> Result<(), Failure> {
    if !out.is_for_programs() || vms.is_empty() {
        return Ok(());
    }
    if out.has_format() {
        return match vms {
            [vm] => context.out.one(vm, |look| crate::views::vm::details(vm, look)),
            vms => context.out.list(vms),
        };
    }
    vms.iter().try_for_each(|vm| crate::output::stdout(&format!("{}\n", vm.name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use waifud_model::size::ByteSize;

    #[test]
    fn the_rest_takes_as_long_as_the_first_part_did() {
        let (mut pace, begun) = (Pace::default(), Instant::now());
        let mut after = |seconds, done| {
            pace.tell(
                Fetching { done: ByteSize::mib(done), total: ByteSize::mib(200) },
                begun + Duration::from_secs(seconds),
            )
        };
        assert_eq!(after(0, 50), "50 MiB of 200 MiB (25%)", "a part was there");
        assert_eq!(after(10, 100), "100 MiB of 200 MiB (50%), 20s left");
        assert_eq!(after(11, 10), "10 MiB of 200 MiB (5%)", "it began anew");
        assert_eq!(after(12, 10), "10 MiB of 200 MiB (5%)", "nothing comes");
        assert_eq!(after(13, 200), "200 MiB of 200 MiB (100%), 0s left");
    }

    #[test]
    fn phases_behind_only_grow_on_the_way() {
        let way = [VmState::Pending, VmState::Fetching, VmState::Preparing, VmState::Running];
        assert_eq!(way.map(behind), [Some(0), Some(0), Some(1), Some(2)]);
    }
}

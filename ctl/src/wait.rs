//! Waits until a VM is as wanted: woken by the event stream, and looking by itself in case the stream is away.
//!
//! ```text
//!   event about anything ──┐
//!   pause is over ─────────┴──> look at the VM ──> verdict (pure) ──> reached | go on | given up
//! ```
//!
//! What was accepted goes on whatever happens here; every way out that is not success says so, and how to follow it.

use crate::{
    context::Context,
    exit::Failure,
    output::{now, short_span},
    watch::concerns,
};
use futures::{Stream, StreamExt as _};
use std::{future::Future, time::Duration};
use tokio::time::Instant;
use waifud_api::{
    client::{Answer, ClientError},
    event::StreamItem,
    exit::Exit,
    time::Time,
    vm::Vm,
};
use waifud_model::{
    ids::Generation,
    name::VmName,
    observed::{Sighting, VmState},
    vm::{Desired, Phase, RestartPolicy},
};

/// How long to wait if the user does not say: long enough for a template to cross a slow network.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long a VM may fail before waiting is given up. Nodes try again by themselves, and the first tries often meet a
/// neighbour that is only starting.
const FAILING: Duration = Duration::from_secs(15);
/// The first pause between two looks; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause between two looks.
const LAST_PAUSE: Duration = Duration::from_secs(2);

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goal {
    /// It runs, with its address.
    Running,
    /// It runs, and its owner has met the guest at its address since it was started.
    Met,
    /// It runs, and its guest has asked for its metadata since it was started.
    Told,
    /// It runs, and its guest has told its node that its cloud-init is done.
    CloudInit,
    /// It is stopped.
    Stopped,
    /// It is held still.
    Paused,
    /// It is as it was last asked to be, whatever that is; what can only be taken up at the next start may wait.
    Settled,
    /// It is gone.
    Gone,
}

impl Goal {
    /// What is happening meanwhile.
    pub(crate) const fn doing(self) -> &'static str {
        match self {
            Self::Running | Self::Met | Self::Told | Self::CloudInit => "starting",
            Self::Stopped => "stopping",
            Self::Paused => "pausing",
            Self::Settled => "changing",
            Self::Gone => "deleting",
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Met | Self::Told => "answering",
            Self::CloudInit => "done with its cloud-init",
            Self::Stopped => "stopped",
            Self::Paused => "paused",
            Self::Settled => "settled",
            Self::Gone => "gone",
        }
    }

    /// The word of `wait --for`.
    const fn option(self) -> &'static str {
        match self {
            Self::Met | Self::Told => "ip",
            Self::CloudInit => "cloud-init",
            other => other.word(),
        }
    }

    /// How to wait for it later.
    pub(crate) fn follow(self, name: &VmName) -> String {
        format!("waifuctl wait {name} --for {}", self.option())
    }
}

/// What one look tells.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    Reached,
    GoOn,
    /// The node is trying and failing.
    Failing(String),
    /// It will not come to it.
    Never(String),
    /// The node that must do it is not heard.
    Silent,
}

/// Is the VM as wanted? `before` is what was wanted of it when the wait began, and in which generation of its record: a change of
/// mind since then ends the wait, while a wait for what nobody has asked for yet (a guest that will shut itself down) goes on.
/// What its node does without the cluster is not in the record, which is no change of mind.
fn verdict(goal: Goal, before: (Desired, Generation), vm: &Vm) -> Verdict {
    let state = vm.status.state;
    if goal != Goal::Gone && vm.phase == Phase::Deleting {
        return Verdict::Never("it is being deleted".to_owned());
    }
    if vm.status.silent.is_some() {
        return Verdict::Silent;
    }
    let against = match goal {
        Goal::Running | Goal::Met | Goal::Told | Goal::CloudInit => Some(Desired::Stopped),
        Goal::Stopped => Some(Desired::Running),
        Goal::Paused => Some(if before.0 == Desired::Paused { Desired::Running } else { Desired::Stopped }),
        Goal::Settled | Goal::Gone => None,
    };
    if vm.desired != before.0 && vm.generation != before.1 && Some(vm.desired) == against {
        return Verdict::Never("somebody has asked for the opposite".to_owned());
    }
    match (goal, state) {
        (Goal::Running, VmState::Running) | (Goal::Stopped, VmState::Stopped) | (Goal::Paused, VmState::Paused)
            if !vm.status.pending =>
        {
            Verdict::Reached
        }
        (Goal::Settled, _) if is_settled(vm) => Verdict::Reached,
        (Goal::Met, VmState::Running) if !vm.status.pending && !vm.status.met.is_empty() => Verdict::Reached,
        (Goal::Told, VmState::Running) if !vm.status.pending && vm.status.met.contains(&Sighting::Metadata) => {
            Verdict::Reached
        }
        (Goal::CloudInit, VmState::Running) if !vm.status.pending && vm.status.cloud_init_done => Verdict::Reached,
        (Goal::Running | Goal::Met | Goal::Told | Goal::CloudInit, VmState::Crashed)
            if !vm.status.pending && vm.restart == RestartPolicy::Never =>
        {
            Verdict::Never("its guest died, and is not to be started again by itself (restart: never)".to_owned())
        }
        (_, VmState::Failed | VmState::Crashed) => {
            let error = vm.status.last_error.as_ref().map(|error| error.message.clone());
            Verdict::Failing(error.unwrap_or_else(|| format!("it is {state}")))
        }
        _ => Verdict::GoOn,
    }
}

/// Does the VM do what is wanted of it?
fn is_settled(vm: &Vm) -> bool {
    !vm.status.pending && vm.status.state == VmState::of(vm.desired)
}

/// True for "there is no such VM".
pub(crate) fn is_missing(error: &ClientError) -> bool {
    error.exit() == Exit::NotFound
}

/// Waits for the answer to a change. If the user does not, says that it is not known what became of it.
pub(crate) async fn accepted<T>(
    change: impl Future<Output = Result<Answer<T>, ClientError>>,
) -> Result<Answer<T>, Failure> {
    tokio::select! {
        answer = change => Ok(answer?),
        () = interrupt() => Err(Failure::ended(
            Exit::TimedOut,
            "interrupted before the cluster answered; it is not known whether it was accepted",
            "waifuctl events",
        )),
    }
}

/// Waits until `vm` reaches `goal`, and gives it as it then is (for [`Goal::Gone`], as it was last). `seen` is told each look.
pub(crate) async fn until(context: &Context, vm: Vm, goal: Goal, seen: impl FnMut(&Vm)) -> Result<Vm, Failure> {
    until_within(context, vm, goal, patience(context), seen).await
}

/// For how long is waited.
pub(crate) fn patience(context: &Context) -> Duration {
    context.timeout.unwrap_or(PATIENCE)
}

/// As [`until`], but for so long at the most.
pub(crate) async fn until_within(
    context: &Context,
    vm: Vm,
    goal: Goal,
    patience: Duration,
    seen: impl FnMut(&Vm),
) -> Result<Vm, Failure> {
    let (name, node) = (vm.name.clone(), vm.node.clone());
    tokio::select! {
        end = watch(context, vm, goal, patience, seen) => end,
        () = interrupt() => Err(Failure::ended(
            Exit::TimedOut,
            format!("not waiting any longer; {node} goes on {} {name}", goal.doing()),
            goal.follow(&name),
        )),
    }
}

/// Ctrl-C. Where it cannot be caught it ends the process by itself.
pub(crate) async fn interrupt() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending().await
    }
}

async fn watch(
    context: &Context,
    mut vm: Vm,
    goal: Goal,
    patience: Duration,
    mut seen: impl FnMut(&Vm),
) -> Result<Vm, Failure> {
    let start = Instant::now();
    let deadline = start + patience;
    let before = (vm.desired, vm.generation);
    let mut events = std::pin::pin!(context.client.event_stream(None));
    let mut pause = FIRST_PAUSE;
    let (mut failing_since, mut told) = (None, None);
    let mut was_silent = false;
    let mut host = context.client.endpoint().clone();
    loop {
        seen(&vm);
        if let Some(turn) = heard(was_silent, &vm, now()) {
            was_silent = !was_silent;
            context.hint(&turn);
        }
        let verdict = verdict(goal, before, &vm);
        match &verdict {
            Verdict::Reached => return Ok(vm),
            Verdict::Never(why) => {
                let message = format!("{} will not be {}: {why}", vm.name, goal.word());
                return Err(Failure::ended(Exit::Conflict, message, format!("waifuctl show {}", vm.name)));
            }
            // The first failure is told at once, for what is tried again may take long.
            Verdict::Failing(why) if failing_since.is_none() && told.as_ref() != Some(why) => {
                context.hint(&format!("{} has failed on {}: {why}; the node tries again", vm.name, vm.node));
                (failing_since, told) = (Some(Instant::now()), Some(why.clone()));
            }
            Verdict::Failing(why) if failing_since.get_or_insert_with(Instant::now).elapsed() >= FAILING => {
                let message = format!("{} fails on {}: {why}; the node goes on trying", vm.name, vm.node);
                return Err(Failure::ended(Exit::Failed, message, format!("waifuctl show {}", vm.name)));
            }
            Verdict::Silent if goal == Goal::Gone && vm.phase == Phase::Deleting => {
                let message = format!(
                    "{} is marked for deletion; {} is silent and will delete it when it is back, or when the node is removed",
                    vm.name, vm.node
                );
                return Err(Failure::ended(Exit::TimedOut, message, goal.follow(&vm.name)));
            }
            _ => {}
        }
        if !matches!(verdict, Verdict::Failing(_)) {
            failing_since = None;
        }
        if Instant::now() >= deadline {
            let message = format!("{} is not {} after {} ", vm.name, goal.word(), short_span(start.elapsed()))
                + &if was_silent {
                    format!("({} is silent; it was {}); {} goes on when it is back", vm.node, vm.status.state, vm.node)
                } else if is_settled(&vm) && matches!(goal, Goal::Running | Goal::Stopped | Goal::Paused | Goal::Gone) {
                    format!("(it is {}, as it was last asked to be)", vm.status.state)
                } else {
                    format!("(it is {}); the work goes on", vm.status.state)
                };
            return Err(Failure::ended(Exit::TimedOut, message, goal.follow(&vm.name)));
        }
        let next_look = (Instant::now() + pause).min(deadline);
        pause = (pause * 2).min(LAST_PAUSE);
        tokio::select! {
            () = tokio::time::sleep_until(next_look) => {}
            // Whatever happened is a reason to look. A broken stream is none: the pause will do.
            () = next_event(&mut events, &vm) => {}
        }
        let looked = context.client.vm(&vm.name).await.inspect(|answer| context.heed(&answer.freshness));
        if looked.is_ok() && *context.client.endpoint() != host {
            let before = std::mem::replace(&mut host, context.client.endpoint().clone());
            context.hint(&format!("{before} is away; going on at {host}"));
        }
        match looked {
            // The name may already be somebody else's.
            Ok(answer) if answer.value.id == vm.id => vm = answer.value,
            Ok(_) if goal == Goal::Gone => return Ok(vm),
            Err(error) if goal == Goal::Gone && is_missing(&error) => return Ok(vm),
            Ok(_) => return Err(Failure::ended(Exit::NotFound, format!("{} was deleted", vm.name), "waifuctl events")),
            // A node that restarts is away for a moment; what is waited for goes on without it.
            Err(ClientError::Unreachable(_)) if Instant::now() < deadline => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// What is worth a line when the VM's node has fallen silent or is heard again since the last look.
fn heard(was_silent: bool, vm: &Vm, now: Time) -> Option<String> {
    let (node, name, state) = (&vm.node, &vm.name, vm.status.state);
    match (&vm.status.silent, was_silent) {
        (Some(silent), false) => {
            let since = silent.since.map(|since| format!("has been silent for {}", short_span(since.age(now))));
            let since = since.unwrap_or_else(|| "is silent".to_owned());
            Some(format!("{node} {since}; {name} is unknown since, it was {state}; waiting until it is back"))
        }
        (None, true) => Some(format!("{node} is back; {name} is {state}")),
        _ => None,
    }
}

/// Comes back when something happened to the VM or its node. A stream that is away takes itself up again; one that is refused
/// never tells anything.
async fn next_event<S>(events: &mut S, vm: &Vm)
where
    S: Stream<Item = Result<StreamItem, ClientError>> + Unpin,
{
    while let Some(item) = events.next().await {
        match item {
            Ok(item) if concerns(&item, vm) => return,
            Ok(_) | Err(ClientError::Unreachable(_)) => {}
            Err(_) => break,
        }
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::vm::tests::vm;
    use expect_test::expect;
    use waifud_api::vm::{LastError, Silent};

    fn look(goal: Goal, change: impl FnOnce(&mut Vm)) -> Verdict {
        let mut vm = vm();
        let before = (vm.desired, vm.generation);
        change(&mut vm);
        verdict(goal, before, &vm)
    }

    #[test]
    fn a_running_vm_is_what_was_wanted_or_not() {
        assert_eq!(look(Goal::Running, |_| ()), Verdict::Reached);
        assert_eq!(look(Goal::Running, |vm| vm.status.pending = true), Verdict::GoOn);
        assert_eq!(look(Goal::Running, |vm| vm.status.state = VmState::Fetching), Verdict::GoOn);
        assert_eq!(look(Goal::Gone, |vm| vm.phase = Phase::Deleting), Verdict::GoOn);
        assert_eq!(look(Goal::Stopped, |_| ()), Verdict::GoOn, "it may yet shut itself down");
        let never = |verdict| assert!(matches!(verdict, Verdict::Never(_)), "{verdict:?}");
        let stopped = |vm: &mut Vm| (vm.desired, vm.generation) = (Desired::Stopped, vm.generation.next());
        never(look(Goal::Running, stopped));
        never(look(Goal::Running, |vm| vm.phase = Phase::Deleting));
    }

    #[test]
    fn a_vm_is_met_once_its_guest_has_answered() {
        assert_eq!(look(Goal::Met, |_| ()), Verdict::Reached);
        assert_eq!(look(Goal::Met, |vm| vm.status.met.clear()), Verdict::GoOn);
        assert_eq!(look(Goal::Met, |vm| vm.status.state = VmState::Stopping), Verdict::GoOn);
        let stopped = |vm: &mut Vm| (vm.desired, vm.generation) = (Desired::Stopped, vm.generation.next());
        assert!(matches!(look(Goal::Met, stopped), Verdict::Never(_)));
        assert_eq!(look(Goal::CloudInit, |_| ()), Verdict::GoOn);
        assert_eq!(look(Goal::CloudInit, |vm| vm.status.cloud_init_done = true), Verdict::Reached);
        assert_eq!(Goal::CloudInit.follow(&vm().name), "waifuctl wait web-1 --for cloud-init");
        assert_eq!(Goal::Met.follow(&vm().name), "waifuctl wait web-1 --for ip");
    }

    /// The answer says what the node was asked for; the record, looked at later, what the cluster agreed on before.
    #[test]
    fn what_a_node_does_without_the_cluster_is_waited_for() {
        let mut vm = vm();
        let asked = (Desired::Stopped, vm.generation);
        assert_eq!((vm.desired, verdict(Goal::Stopped, asked, &vm)), (Desired::Running, Verdict::GoOn));
        vm.status.state = VmState::Stopped;
        assert_eq!(verdict(Goal::Stopped, asked, &vm), Verdict::Reached);
        (vm.status.state, vm.generation) = (VmState::Running, vm.generation.next());
        assert!(matches!(verdict(Goal::Stopped, asked, &vm), Verdict::Never(_)), "somebody decided otherwise");
    }

    #[test]
    fn a_node_that_falls_silent_or_is_back_is_told_once() {
        let now: Time = "2026-03-01T12:00:52Z".parse().unwrap();
        let mut silent = vm();
        silent.status.silent = Some(Silent { since: Some("2026-03-01T12:00:10Z".parse().unwrap()) });
        expect![[r#"n2 has been silent for 42s; web-1 is unknown since, it was running; waiting until it is back"#]]
            .assert_eq(&heard(false, &silent, now).unwrap());
        assert_eq!(heard(true, &silent, now), None);
        expect![[r#"n2 is back; web-1 is running"#]].assert_eq(&heard(true, &vm(), now).unwrap());
        assert_eq!(heard(false, &vm(), now), None);
    }

    #[test]
    fn silence_and_failure_are_told_apart() {
        assert_eq!(look(Goal::Running, |vm| vm.status.silent = Some(Silent { since: None })), Verdict::Silent);
        let failing = look(Goal::Running, |vm| {
            vm.status.state = VmState::Failed;
            vm.status.last_error =
                Some(LastError { message: "no space".to_owned(), at: None, attempts: None, next_try: None });
        });
        assert_eq!(failing, Verdict::Failing("no space".to_owned()));
        assert_eq!(
            look(Goal::Running, |vm| vm.status.state = VmState::Crashed),
            Verdict::Failing("it is crashed".to_owned())
        );
        let lies_down = |vm: &mut Vm| (vm.status.state, vm.restart) = (VmState::Crashed, RestartPolicy::Never);
        assert!(matches!(look(Goal::Running, lies_down), Verdict::Never(_)), "nobody tries");
        assert!(matches!(look(Goal::Stopped, lies_down), Verdict::Failing(_)));
    }
}

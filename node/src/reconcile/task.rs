//! One VM's task: look, plan, take the steps, look again; then wait until something may have changed. It ends when the VM
//! is not wanted here any more and nothing is left of it.

use super::{
    execute::{Hands, StepError},
    past::Past,
    plan::{Observed, Plan, Recent, Step, plan},
    ports::{Fate, Intent, IntentError, Wanted},
    reports::{Power, Reports},
    settings::Settings,
    status::{Board, Guest},
};
use crate::hypervisor::{DomainState, HypervisorError};
use std::{ops::ControlFlow, sync::Arc, time::Duration};
use tokio::{
    sync::{Notify, Semaphore, watch},
    time::Instant,
};
use waifud_model::{
    command::VmReport,
    event::EventKind,
    ids::{Generation, VmId},
    observed::VmState,
    vm::Desired,
};

/// What the supervisor says of a VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wish {
    /// It is this node's.
    Want(Arc<Wanted>),
    /// The replica does not give it to this node. Whether it may be removed is asked first.
    Absent,
}

impl Wish {
    fn wanted(&self) -> Option<&Wanted> {
        match self {
            Self::Want(wanted) => Some(wanted),
            Self::Absent => None,
        }
    }
}

/// What all tasks share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) hands: Hands,
    pub(super) intent: Arc<dyn Intent>,
    pub(super) reports: Arc<Reports>,
    pub(super) board: Board,
    pub(super) settings: Settings,
    /// A turn to change something.
    pub(super) turns: Semaphore,
}

/// How a task is woken.
#[derive(Debug, Default)]
pub(super) struct Bell {
    /// Something was seen of the VM. Heard when the task is at rest; while it waits to try again it goes on waiting, for
    /// a step that fails may be what rings.
    pub(super) look: Notify,
    /// Try again now.
    pub(super) retry: Notify,
}

/// One VM's task.
pub(super) struct Task {
    id: VmId,
    shared: Arc<Shared>,
    wish: watch::Receiver<Wish>,
    bell: Arc<Bell>,
    past: Past,
    failures: u32,
    /// The steps of the last pass, if they all went well: the same again would mean that they had no effect.
    taken: Vec<Step>,
}

/// What to wait for after a pass.
enum Wait {
    /// Nothing: look again at once.
    No,
    /// Anything that happens, or this long.
    Rest(Duration),
    /// This long after a failure, or a reason to try at once.
    Retry(Duration),
}

impl Task {
    pub(super) fn new(id: VmId, shared: Arc<Shared>, wish: watch::Receiver<Wish>, bell: Arc<Bell>) -> Self {
        Self { id, shared, wish, bell, past: Past::default(), failures: 0, taken: Vec::new() }
    }

    /// Runs until nothing is wanted and nothing is left.
    pub(super) async fn run(mut self) -> VmId {
        while let ControlFlow::Continue(wait) = self.pass().await {
            let open = match wait {
                Wait::No => continue,
                Wait::Rest(time) => tokio::select! {
                    biased;
                    changed = self.wish.changed() => changed.is_ok(),
                    () = self.bell.retry.notified() => true,
                    () = self.bell.look.notified() => true,
                    () = tokio::time::sleep(time) => true,
                },
                Wait::Retry(time) => tokio::select! {
                    biased;
                    changed = self.wish.changed() => { self.failures = 0; changed.is_ok() }
                    () = self.bell.retry.notified() => true,
                    () = tokio::time::sleep(time) => true,
                },
            };
            if !open {
                return self.id;
            }
        }
        self.shared.board.withdraw(self.id);
        self.id
    }

    /// One look, and what follows from it. Breaks when there is nothing left to do, ever.
    async fn pass(&mut self) -> ControlFlow<(), Wait> {
        let wish = self.wish.borrow_and_update().clone();
        let wanted = wish.wanted();
        if let Some(wanted) = wanted
            && self.shared.board.get(self.id).is_none()
        {
            // So that others see that the owner knows of it.
            self.shared.board.see(self.id, VmState::Pending, Some(wanted.vm.generation));
        }
        let seen = match self.in_time(self.shared.hands.observe(self.id, wanted)).await {
            Ok(seen) => seen,
            Err(error) => return self.failed(None, &error, wanted),
        };
        match wanted {
            None if seen.is_nothing() => return ControlFlow::Break(()),
            None => match self.shared.intent.fate(self.id).await {
                Ok(Fate::Gone) => {}
                Ok(Fate::Elsewhere | Fate::Here) => {
                    tracing::debug!(vm = %self.id, "left alone: the cluster knows it, but not as this node's");
                    return self.rest();
                }
                Err(IntentError::NotReady | IntentError::NoQuorum) => return self.rest(),
                Err(error) => return self.failed(None, &error.into(), None),
            },
            Some(Wanted { vm, .. }) => {
                let now = Instant::now();
                if let Some(happened) = self.past.look(vm, seen.domain.as_ref(), &self.shared.settings, now) {
                    self.report(wanted, happened.kind, happened.detail.map(str::to_owned), false);
                }
            }
        }
        let wished_at = wanted.and_then(|wanted| wanted.wished_at);
        let recent = Recent { wished_at, ..self.past.recent(&self.shared.settings, Instant::now()) };
        let plan = plan(wanted.map(|wanted| &wanted.vm), &seen, &recent, &self.shared.settings.patience);
        self.show(wanted, &seen, &plan);
        if plan.steps.is_empty() {
            self.well();
            return self.rest_until(plan.hold.as_ref().and_then(super::plan::Hold::look_again));
        }
        if plan.steps == self.taken {
            return self.failed(plan.steps.first().cloned(), &StepError::NoEffect, wanted);
        }
        for step in &plan.steps {
            match self.take(step, wanted, &seen).await {
                Ok(true) => {}
                // Something else is wanted now; the rest of this plan may be wrong.
                Ok(false) => return ControlFlow::Continue(Wait::No),
                Err(error) => return self.failed(Some(step.clone()), &error, wanted),
            }
        }
        self.shared.board.doing(self.id, None);
        self.taken = plan.steps;
        ControlFlow::Continue(Wait::No)
    }

    /// Takes a step; false if it was left because the wish changed.
    async fn take(&mut self, step: &Step, wanted: Option<&Wanted>, seen: &Observed) -> Result<bool, StepError> {
        if self.wish.has_changed().unwrap_or(true) {
            return Ok(false);
        }
        let shared = Arc::clone(&self.shared);
        shared.board.doing(self.id, Some(step.clone()));
        if matches!(step, Step::EnsureRoot) {
            shared.board.fetched(self.id);
        }
        match step {
            Step::ReportShutDown => self.report(wanted, EventKind::Stopped, None, true),
            Step::ReportNotStarted => self.not_started(wanted),
            Step::ConfirmGone => shared.reports.gone(self.id),
            // A download may take long, and needs no turn: it competes for nothing that the others use.
            Step::EnsureImage | Step::EnsureCd => tokio::select! {
                biased;
                _ = self.wish.changed() => {
                    self.wish.mark_changed();
                    return Ok(false);
                }
                taken = shared.hands.take(step, self.id, wanted, seen, &*shared.intent) => taken?,
            },
            _ => {
                // The semaphore is never closed.
                let _turn = shared.turns.acquire().await.ok();
                let taken = self.in_time(shared.hands.take(step, self.id, wanted, seen, &*shared.intent)).await;
                if let (Step::Adjust(adjust), Err(StepError::Hypervisor(HypervisorError::NotLive { why, .. }))) =
                    (step, &taken)
                {
                    // No failure: it waits for the next start.
                    self.past.refused(*adjust, why.to_string());
                    return Ok(true);
                }
                taken?;
            }
        }
        self.past.did(step, wanted.map(|wanted| &wanted.vm), Instant::now());
        Ok(true)
    }

    /// Gives up what takes too long. Every step may be broken off at any moment: the next look sees how far it came.
    async fn in_time<T>(&self, work: impl Future<Output = Result<T, StepError>>) -> Result<T, StepError> {
        let within = self.shared.settings.step_within;
        tokio::time::timeout(within, work).await.unwrap_or(Err(StepError::TooLong(within)))
    }

    /// The wish becomes what is: a VM that is not started with its host stays off until somebody starts it.
    fn not_started(&self, wanted: Option<&Wanted>) {
        if let Some(Wanted { vm, .. }) = wanted {
            self.shared.reports.power(Power { vm: self.id, desired: Desired::Stopped, expect: vm.generation });
        }
    }

    fn report(&self, wanted: Option<&Wanted>, kind: EventKind, detail: Option<String>, by_guest: bool) {
        if let Some(Wanted { vm, .. }) = wanted {
            self.shared.reports.event(VmReport { vm: self.id, kind, generation: vm.generation, by_guest, detail });
        }
    }

    fn show(&self, wanted: Option<&Wanted>, seen: &Observed, plan: &Plan) {
        let board = &self.shared.board;
        let domain = seen.domain.as_ref();
        let done_in = domain.and_then(|domain| domain.cloud_init_done);
        let cloud_init_done = wanted.is_some_and(|wanted| done_in == Some(wanted.vm.instance));
        let guest = Guest { started: domain.and_then(|domain| domain.since), cloud_init_done, waits: plan.waits() };
        board.see_guest(self.id, plan.state, generation_of(wanted, plan), guest);
        board.hold(self.id, plan, self.past.restarts());
    }

    fn well(&mut self) {
        self.failures = 0;
        self.taken.clear();
        self.shared.board.trouble_is_over(self.id);
    }

    fn rest(&mut self) -> ControlFlow<(), Wait> {
        self.well();
        self.rest_until(None)
    }

    fn rest_until(&self, look_again: Option<Duration>) -> ControlFlow<(), Wait> {
        let usual = self.shared.settings.look_again;
        ControlFlow::Continue(Wait::Rest(look_again.map_or(usual, |time| time.min(usual))))
    }

    fn failed(&mut self, step: Option<Step>, error: &StepError, wanted: Option<&Wanted>) -> ControlFlow<(), Wait> {
        self.taken.clear();
        self.failures = self.failures.saturating_add(1);
        let wait = self.shared.settings.retry.delay(self.failures);
        let chain = error.chain();
        tracing::warn!(vm = %self.id, ?step, error = chain, attempts = self.failures, "will be tried again");
        let board = &self.shared.board;
        if wanted.is_none() {
            // What is left of a VM that nobody wants is no news to the other nodes.
        } else if error.is_silence() {
            board.see(self.id, VmState::Unknown, None);
        } else {
            // A guest that runs goes on running, whatever could not be done about it.
            let shown = board.get(self.id).map(|status| status.observation.state);
            if !matches!(shown, Some(VmState::Running | VmState::Paused)) {
                board.see(self.id, VmState::Failed, wanted.map(|wanted| wanted.vm.generation));
            }
            // Once for each trouble. The hypervisor's silence is the node's trouble, not each VM's.
            if self.failures == 1 {
                self.report(wanted, EventKind::Failed, Some(chain.clone()), false);
            }
        }
        board.trouble(self.id, step, chain, self.failures, wait);
        ControlFlow::Continue(Wait::Retry(wait))
    }
}

/// The generation to show: the record's when what is seen serves it, or is on the way there; else the one before.
fn generation_of(wanted: Option<&Wanted>, plan: &Plan) -> Option<Generation> {
    let settled = matches!(plan.state, VmState::Running | VmState::Paused | VmState::Stopped | VmState::Crashed);
    wanted.filter(|_| plan.steps.is_empty() || !settled).map(|wanted| wanted.vm.generation)
}

/// Whether a listing shows something else than the task last saw.
pub(super) fn is_news(board: &Board, id: VmId, state: Option<DomainState>) -> bool {
    let Some(status) = board.get(id) else { return true };
    let shown = status.observation.state;
    match state {
        Some(DomainState::Running) => shown != VmState::Running,
        Some(DomainState::Paused(_)) => shown != VmState::Paused,
        Some(DomainState::ShuttingDown) => shown != VmState::Stopping,
        Some(DomainState::Off(_)) => !matches!(shown, VmState::Stopped | VmState::Crashed),
        None => matches!(shown, VmState::Running | VmState::Paused | VmState::Stopping | VmState::Stopped),
    }
}

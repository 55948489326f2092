//! What a VM's task remembers between two looks: since when a guest is being asked to stop, how often it died, what it was told
//! to take up and could not. Pure; time comes in as an argument. It is all lost when waifud restarts, and that costs a
//! little time only.

use super::{
    plan::{Adjust, Recent, Step, Tried, owes_a_start},
    settings::Settings,
};
use crate::hypervisor::{Domain, DomainState, OffReason};
use std::collections::BTreeMap;
use tokio::time::Instant;
use waifud_model::{
    event::EventKind,
    ids::Generation,
    vm::{Desired, RestartPolicy, Vm},
};

/// Something that happened to a guest between two looks, for the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Happened {
    pub(super) kind: EventKind,
    pub(super) detail: Option<&'static str>,
}

/// What was done and seen a while ago.
#[derive(Debug, Clone, Default)]
pub(super) struct Past {
    /// What the last look saw; none before the first.
    seen: Option<Option<DomainState>>,
    /// When the guest was first and last asked to shut down.
    asked: Option<(Instant, Instant)>,
    up_since: Option<Instant>,
    died_at: Option<Instant>,
    restarts: u32,
    /// We took the guest's power away, or asked it to give it up: its end is our doing.
    ours: bool,
    resumed: Option<Instant>,
    /// For which generation, and what.
    adjusted: (Generation, BTreeMap<Adjust, Told>),
    told_stopped: Option<Generation>,
    told_gone: bool,
}

/// What came of telling the guest something.
#[derive(Debug, Clone)]
enum Told {
    At(Instant),
    Refused(String),
}

impl Past {
    /// Takes note of what is seen, and says what must have happened since the last look.
    pub(super) fn look(
        &mut self,
        vm: &Vm,
        domain: Option<&Domain>,
        settings: &Settings,
        now: Instant,
    ) -> Option<Happened> {
        let state = domain.map(|domain| domain.state);
        let before = self.seen.replace(state);
        let served = domain.is_some_and(|domain| domain.started == Some(vm.generation));
        let owes_a_start = domain.is_some_and(|domain| owes_a_start(vm, domain));
        if self.adjusted.0 != vm.generation {
            self.adjusted = (vm.generation, BTreeMap::new());
        }
        match state {
            Some(DomainState::Off(reason)) => {
                self.asked = None;
                self.up_since = None;
                self.resumed = None;
                self.adjusted.1.clear();
                let ours = std::mem::take(&mut self.ours);
                let wanted = vm.desired != Desired::Stopped && !owes_a_start;
                let died = wanted && served && is_death(reason, vm.spec.restart);
                if died {
                    self.died_at.get_or_insert(now);
                } else {
                    self.died_at = None;
                }
                match before {
                    Some(Some(before)) if before.is_active() => end_of(vm, reason, wanted && !ours),
                    // It happened while waifud was away; only what is about to be mended is told, so that it is told once.
                    None if died && reason != OffReason::ShutDown && vm.spec.restart != RestartPolicy::Never => {
                        end_of(vm, reason, true)
                    }
                    _ => None,
                }
            }
            Some(_) => {
                self.died_at = None;
                let up_since = *self.up_since.get_or_insert(now);
                if now - up_since >= settings.calm_after {
                    self.restarts = 0;
                }
                let over = |(first, _): &(Instant, Instant)| now - *first >= settings.patience.grace;
                // A guest that owes a start is asked on, and the time it was given runs.
                if vm.desired != Desired::Stopped && !owes_a_start && self.asked.as_ref().is_some_and(over) {
                    (self.asked, self.ours) = (None, false);
                }
                // A guest whose disk still takes no write runs for a moment only.
                self.resumed = self.resumed.filter(|at| now - *at < settings.patience.resume_again);
                // What ran at the first look was adopted, not started.
                let was_off = before.is_some_and(|before| before.is_none_or(|before| !before.is_active()));
                was_off.then_some(Happened { kind: EventKind::Started, detail: None })
            }
            None => {
                *self = Self { seen: self.seen, told_gone: self.told_gone, ..Self::default() };
                None
            }
        }
    }

    /// What the plan has to know of it.
    pub(super) fn recent(&self, settings: &Settings, now: Instant) -> Recent {
        let waited = self.died_at.map(|died| now - died);
        Recent {
            asked: self.asked.map(|(first, last)| (now - first, now - last)),
            restart_in: waited.map_or_else(Default::default, |waited| {
                settings.restart.delay(self.restarts + 1).saturating_sub(waited)
            }),
            resumed: self.resumed.map(|at| now - at),
            adjusted: self.adjusted.1.iter().map(|(adjust, told)| (*adjust, told.since(now))).collect(),
            told_stopped: self.told_stopped,
            told_gone: self.told_gone,
            wished_at: None,
        }
    }

    /// Takes note of a step that was taken.
    pub(super) fn did(&mut self, step: &Step, vm: Option<&Vm>, now: Instant) {
        match step {
            Step::Shutdown => {
                self.asked = Some((self.asked.map_or(now, |(first, _)| first), now));
                self.ours = true;
            }
            Step::ForceStop => self.ours = true,
            Step::Resume => self.resumed = Some(now),
            Step::Adjust(adjust) => drop(self.adjusted.1.insert(*adjust, Told::At(now))),
            Step::Start if self.died_at.take().is_some() => self.restarts += 1,
            Step::ReportShutDown | Step::ReportNotStarted => self.told_stopped = vm.map(|vm| vm.generation),
            Step::ConfirmGone => self.told_gone = true,
            _ => {}
        }
    }

    /// Takes note that the running guest cannot do what it was told.
    pub(super) fn refused(&mut self, adjust: Adjust, why: String) {
        self.adjusted.1.insert(adjust, Told::Refused(why));
    }

    pub(super) const fn restarts(&self) -> u32 {
        self.restarts
    }
}

impl Told {
    fn since(&self, now: Instant) -> Tried {
        match self {
            Self::At(at) => Tried::Told(now - *at),
            Self::Refused(why) => Tried::Refused(why.clone()),
        }
    }
}

/// A guest that shut itself down died only if it has to run whatever it does.
const fn is_death(reason: OffReason, policy: RestartPolicy) -> bool {
    match reason {
        OffReason::Crashed | OffReason::Destroyed | OffReason::Failed => true,
        OffReason::ShutDown => matches!(policy, RestartPolicy::Always),
        OffReason::Unknown | OffReason::Migrated | OffReason::Saved => false,
    }
}

/// `wanted`: it was to be on, and nobody here asked it to go off.
fn end_of(vm: &Vm, reason: OffReason, wanted: bool) -> Option<Happened> {
    let happened = |kind, detail| Some(Happened { kind, detail });
    match reason {
        // Told by a step of its own, which makes it the desired state.
        OffReason::ShutDown if wanted && vm.spec.restart != RestartPolicy::Always => None,
        OffReason::ShutDown => happened(EventKind::Stopped, None),
        OffReason::Destroyed if !wanted => happened(EventKind::Stopped, Some("its power was taken away")),
        OffReason::Destroyed => happened(EventKind::Crashed, Some("its power was taken away by something else")),
        OffReason::Crashed => happened(EventKind::Crashed, None),
        OffReason::Failed => happened(EventKind::Crashed, Some("it could not go on")),
        OffReason::Unknown => happened(EventKind::Stopped, Some("the hypervisor does not know why")),
        OffReason::Migrated => happened(EventKind::Stopped, Some("it was moved to another host by something else")),
        OffReason::Saved => happened(EventKind::Stopped, Some("its memory was saved")),
    }
}

//! What a VM's task remembers between two looks: since when a guest is being asked to stop, and how often it died. Pure;
//! time comes in as an argument. It is all lost when waifud restarts, and that costs a little time only.

use super::{
    plan::{Recent, Step},
    settings::Settings,
};
use crate::hypervisor::{Domain, DomainState, OffReason};
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
    told_shut_down: Option<Generation>,
    told_gone: bool,
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
        match state {
            Some(DomainState::Off(reason)) => {
                self.asked = None;
                self.up_since = None;
                let died = vm.desired == Desired::Running && served && is_death(reason, vm.spec.restart);
                if died {
                    self.died_at.get_or_insert(now);
                } else {
                    self.died_at = None;
                }
                match before {
                    Some(Some(before)) if before.is_active() => end_of(vm, reason),
                    // It happened while waifud was away; only what is about to be mended is told, so that it is told once.
                    None if died && reason != OffReason::ShutDown && vm.spec.restart != RestartPolicy::Never => {
                        end_of(vm, reason)
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
                if vm.desired == Desired::Running && self.asked.as_ref().is_some_and(over) {
                    self.asked = None;
                }
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
            told_shut_down: self.told_shut_down,
            told_gone: self.told_gone,
        }
    }

    /// Takes note of a step that was taken.
    pub(super) fn did(&mut self, step: Step, vm: Option<&Vm>, now: Instant) {
        match step {
            Step::Shutdown => self.asked = Some((self.asked.map_or(now, |(first, _)| first), now)),
            Step::Start if self.died_at.take().is_some() => self.restarts += 1,
            Step::ReportShutDown => self.told_shut_down = vm.map(|vm| vm.generation),
            Step::ConfirmGone => self.told_gone = true,
            _ => {}
        }
    }

    pub(super) const fn restarts(&self) -> u32 {
        self.restarts
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

fn end_of(vm: &Vm, reason: OffReason) -> Option<Happened> {
    let wanted = vm.desired == Desired::Running;
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

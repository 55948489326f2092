//! A guest that shall be off, for good or for a moment.

use super::{
    Hold, Observed, Patience, Plan, Recent, Step,
    prepare::{has_old_roots, lost, missing, prepare, preparing, strangers},
};
use crate::hypervisor::{DomainState, PauseReason};
use std::time::Duration;
use waifud_model::{observed::VmState, vm::Vm};

pub(super) fn keep_stopped(vm: &Vm, seen: &Observed, recent: &Recent, patience: &Patience) -> Plan {
    match &seen.domain {
        Some(domain) if domain.state.is_active() => ask_to_stop(domain.state, recent, patience),
        domain => {
            let complete = seen.image && seen.reserved && (vm.spec.hardware.cd.is_none() || seen.cd.is_some());
            let is_current = domain.as_ref().is_some_and(|d| d.defined == Some(vm.generation) && !d.edited);
            let has_disks = seen.roots.contains(&vm.disk_life)
                && lost(vm, seen).is_none()
                && missing(vm, seen).next().is_none()
                && strangers(vm, seen).next().is_none();
            if complete && is_current && has_disks {
                // Not before the definition names the new one.
                return Plan::act(VmState::Stopped, old_roots(vm, seen));
            }
            match prepare(vm, seen) {
                Err(hold) => Plan::hold(VmState::Failed, hold),
                Ok(steps) => Plan::act(if domain.is_some() { VmState::Stopped } else { preparing(&steps) }, steps),
            }
        }
    }
}

pub(super) fn old_roots(vm: &Vm, seen: &Observed) -> Vec<Step> {
    has_old_roots(vm, seen).then_some(Step::RemoveOldRoots).into_iter().collect()
}

/// A guest that is on is asked first, for as long as it may take.
pub(super) fn ask_to_stop(state: DomainState, recent: &Recent, patience: &Patience) -> Plan {
    let hold = |time| Plan::hold(VmState::Stopping, Hold::Asked(time));
    let first = recent.asked.map_or(Duration::ZERO, |(first, _)| first);
    if first >= patience.grace {
        return Plan::act(VmState::Stopping, vec![Step::ForceStop]);
    }
    match recent.asked {
        Some(_) if state == DomainState::ShuttingDown => hold(patience.grace - first),
        Some((_, last)) if last < patience.ask_again => hold((patience.ask_again - last).min(patience.grace - first)),
        // It hears when it goes on. Asked first, so that the grace runs even if it cannot go on.
        _ if state == DomainState::Paused(PauseReason::Asked) => {
            Plan::act(VmState::Stopping, vec![Step::Shutdown, Step::Resume])
        }
        _ => Plan::act(VmState::Stopping, vec![Step::Shutdown]),
    }
}

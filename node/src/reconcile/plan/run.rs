//! A guest that shall be on: running, or held still.

use super::{
    Hold, Observed, Patience, Plan, Recent, Step,
    differences::{Remedy, remedy},
    owes_a_start,
    prepare::{bring_up, lost, missing, strangers},
    stop::{ask_to_stop, old_roots},
    word,
};
use crate::hypervisor::{Domain, DomainState, OffReason, PauseReason};
use std::time::Duration;
use waifud_model::{
    observed::VmState,
    vm::{Desired, RestartPolicy, Vm},
};

pub(super) fn keep_running(vm: &Vm, seen: &Observed, recent: &Recent, patience: &Patience) -> Plan {
    let Some(domain) = &seen.domain else { return bring_up(vm, seen) };
    match domain.state {
        DomainState::Off(reason) => keep_off_or_start(vm, seen, domain, reason, recent),
        // What the guest still has open of a disk that was lost ends with it.
        state if owes_a_start(vm, domain) => match lost(vm, seen) {
            Some(hold) => Plan::hold(word(state), hold),
            None => stop_for_a_start(vm, domain, recent, &patience.with(vm)),
        },
        state => {
            // A guest that was asked to shut down for an earlier wish may still do so: that would be taken for its own
            // doing if it were noted as serving this one.
            if let Some((first, _)) = recent.asked
                && domain.started != Some(vm.generation)
                && first < patience.grace
            {
                return Plan::hold(VmState::Stopping, Hold::Asked(patience.grace - first));
            }
            tend(vm, seen, domain, state, recent, patience)
        }
    }
}

fn keep_off_or_start(vm: &Vm, seen: &Observed, domain: &Domain, reason: OffReason, recent: &Recent) -> Plan {
    // What was started before a wish that the cluster does not know of says nothing about that wish.
    let since_wish = recent.wished_at.is_none_or(|wished| domain.since.is_some_and(|since| since >= wished));
    let served = domain.started == Some(vm.generation) && since_wish && !owes_a_start(vm, domain);
    let report = |step| {
        if recent.told_stopped == Some(vm.generation) {
            Plan::hold(VmState::Stopped, Hold::Reported)
        } else {
            Plan::act(VmState::Stopped, vec![step])
        }
    };
    match reason {
        OffReason::Migrated => Plan::hold(VmState::Failed, Hold::MovedAway),
        _ if !served => bring_up(vm, seen),
        OffReason::ShutDown if vm.spec.restart != RestartPolicy::Always => report(Step::ReportShutDown),
        OffReason::ShutDown | OffReason::Crashed | OffReason::Destroyed | OffReason::Failed => {
            if vm.spec.restart == RestartPolicy::Never {
                Plan::rest(VmState::Crashed)
            } else if recent.restart_in > Duration::ZERO {
                Plan::hold(VmState::Crashed, Hold::Restart(recent.restart_in))
            } else {
                bring_up(vm, seen)
            }
        }
        // Nobody knows why: most often because the host was off.
        OffReason::Unknown if !vm.spec.autostart => report(Step::ReportNotStarted),
        OffReason::Unknown | OffReason::Saved => bring_up(vm, seen),
    }
}

/// Off, to be started again. What is on a root disk that goes is lost anyway; what is on other disks is not.
fn stop_for_a_start(vm: &Vm, domain: &Domain, recent: &Recent, patience: &Patience) -> Plan {
    let is_made_anew = domain.booted.disk_life < vm.disk_life;
    if is_made_anew && vm.spec.hardware.disks.is_empty() {
        Plan::act(VmState::Stopping, vec![Step::ForceStop])
    } else {
        ask_to_stop(domain.state, recent, patience)
    }
}

/// A guest that is on, and stays on: what is different is mended while it runs, or waits for its next start.
fn tend(vm: &Vm, seen: &Observed, domain: &Domain, state: DomainState, recent: &Recent, patience: &Patience) -> Plan {
    let live = domain.live.as_ref().filter(|_| state != DomainState::ShuttingDown);
    let mut steps = Vec::new();
    if !seen.reserved {
        steps.push(Step::ReserveAddress);
    }
    // Without knowing what the guest has open, nothing is taken away.
    let is_free = |path| live.is_some_and(|live| live.disks.iter().all(|disk| disk.path != path));
    let free = strangers(vm, seen).filter(|(_, path)| is_free(*path));
    steps.extend(free.map(|(disk, _)| Step::RemoveDisk(disk.clone())));
    steps.extend(missing(vm, seen).map(Step::EnsureDisk));
    if vm.spec.hardware.cd.is_some() && seen.cd.is_none() {
        steps.push(Step::EnsureCd);
    }
    let lost = lost(vm, seen);
    // A definition names only what is here: the one there is still says what was.
    if lost.is_none() && (domain.defined != Some(vm.generation) || domain.edited) {
        steps.push(Step::DefineDomain);
    }
    let Remedy { adjust, pending, look_again } =
        live.map(|live| remedy(vm, seen, live, recent, patience)).unwrap_or_default();
    steps.extend(adjust.into_iter().map(Step::Adjust));
    let mut hold = lost.or(look_again.map(Hold::Told));
    match (state, vm.desired) {
        (DomainState::Running, Desired::Paused) => steps.push(Step::Suspend),
        (DomainState::Paused(PauseReason::Asked), Desired::Running) => steps.push(Step::Resume),
        (DomainState::Paused(PauseReason::Busy), Desired::Running) => hold = Some(Hold::Busy),
        (DomainState::Paused(PauseReason::DiskError), Desired::Running) => match recent.resumed {
            Some(ago) if ago < patience.resume_again => hold = Some(Hold::DiskError(patience.resume_again - ago)),
            _ => steps.push(Step::Resume),
        },
        _ => {}
    }
    if domain.started != Some(vm.generation) {
        steps.push(Step::Start);
    }
    steps.extend(old_roots(vm, seen));
    Plan { hold: hold.filter(|_| steps.is_empty()), steps, state: word(state), pending }
}

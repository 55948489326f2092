//! What is to be done for one VM. Pure: what is wanted and what is seen go in, steps come out; no clock, no I/O. Every step
//! may be repeated, and only the first of a plan counts on what was seen: after the last one the task looks again.
//!
//! ```text
//!   wanted: running   EnsureImage ─ CreateVolume ─ ReserveAddress ─ DefineDomain ─ Start ─────────────► running
//!           stopped   Shutdown ─ (grace) ─ ForceStop ─────────────────────────────────────────────────► stopped
//!           deleting  ForceStop ─ Undefine ─ RemoveVolume ─ ReleaseAddress ─ ConfirmGone ─────────────► gone
//! ```

use crate::hypervisor::{Domain, DomainState, OffReason};
use std::time::Duration;
use waifud_model::{
    ids::Generation,
    observed::VmState,
    vm::{Desired, Phase, RestartPolicy, Vm},
};

/// What is seen of a VM on this node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    /// Its domain.
    pub domain: Option<Domain>,
    /// Is its disk here?
    pub volume: bool,
    /// Are the bytes here that its disk stands on?
    pub image: bool,
    /// Is its address reserved, under its name?
    pub reserved: bool,
}

impl Observed {
    /// True if nothing of the VM is here that only its owner may have. A reservation may be: it holds nothing up.
    #[must_use]
    pub const fn is_nothing(&self) -> bool {
        self.domain.is_none() && !self.volume
    }
}

/// What cannot be seen, but was done or happened a while ago. Losing it costs a little time, never correctness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recent {
    /// How long ago the guest was first asked to shut down, and how long ago the last time.
    pub asked: Option<(Duration, Duration)>,
    /// How long a guest that died has to wait before it is started again.
    pub restart_in: Duration,
    /// The generation for which it was reported that the guest shut itself down.
    pub told_shut_down: Option<Generation>,
    /// The end of the VM was reported.
    pub told_gone: bool,
}

/// How patient to be with guests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// How long a guest may take to shut down before its power is taken away.
    pub grace: Duration,
    /// How often it is asked meanwhile: a guest that is booting does not hear the first time.
    pub ask_again: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { grace: Duration::from_secs(60), ask_again: Duration::from_secs(10) }
    }
}

/// One thing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// Bring the template version here.
    EnsureImage,
    /// Make the disk.
    CreateVolume,
    /// Reserve the address.
    ReserveAddress,
    /// Make the domain, or bring its definition up to date.
    DefineDomain,
    /// Start the guest, or note that the running one serves this generation too.
    Start,
    /// Ask the guest to shut down.
    Shutdown,
    /// Take its power away.
    ForceStop,
    /// Report that the guest shut itself down.
    ReportShutDown,
    /// Away with the domain.
    Undefine,
    /// Away with the disk.
    RemoveVolume,
    /// The address is free.
    ReleaseAddress,
    /// Report that nothing is left.
    ConfirmGone,
}

/// Why nothing is done although not all is as wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// The guest was asked to shut down and has this long until it is looked at again.
    Asked(Duration),
    /// The guest died; it is started again after this long.
    Restart(Duration),
    /// A report is on its way; the state will change when it is accepted.
    Reported,
    /// The domain is of a later generation than the record: this replica is behind.
    Behind {
        /// The domain's.
        domain: Generation,
    },
    /// The guest was moved to another host by somebody else, and may run there.
    MovedAway,
    /// The guest has run from a disk that is not here now. A fresh one in its place would pass for the old one.
    DiskMissing,
}

impl Hold {
    /// When to look again although nothing was heard.
    #[must_use]
    pub const fn look_again(self) -> Option<Duration> {
        match self {
            Self::Asked(after) | Self::Restart(after) => Some(after),
            Self::Reported | Self::Behind { .. } | Self::MovedAway | Self::DiskMissing => None,
        }
    }
}

/// What is to be done, and what to call the situation until it is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// In order. None: all is as wanted, or held up.
    pub steps: Vec<Step>,
    /// What the VM is doing.
    pub state: VmState,
    /// Why nothing is done.
    pub hold: Option<Hold>,
}

impl Plan {
    const fn rest(state: VmState) -> Self {
        Self { steps: Vec::new(), state, hold: None }
    }

    const fn hold(state: VmState, hold: Hold) -> Self {
        Self { steps: Vec::new(), state, hold: Some(hold) }
    }

    const fn act(state: VmState, steps: Vec<Step>) -> Self {
        Self { steps, state, hold: None }
    }
}

/// What is to be done for a VM. `wanted` is none for one that the cluster surely does not know any more.
#[must_use]
pub fn plan(wanted: Option<&Vm>, seen: &Observed, recent: &Recent, patience: &Patience) -> Plan {
    let Some(vm) = wanted else { return remove(seen, false) };
    if vm.phase == Phase::Deleting {
        return if recent.told_gone && *seen == (Observed { image: seen.image, ..Observed::default() }) {
            Plan::hold(VmState::Deleting, Hold::Reported)
        } else {
            remove(seen, true)
        };
    }
    if let Some(Domain { defined: Some(domain), state, .. }) = seen.domain
        && domain > vm.generation
    {
        // A stale record never overwrites a newer decision.
        return Plan::hold(word(state), Hold::Behind { domain });
    }
    match vm.desired {
        Desired::Running | Desired::Paused => keep_running(vm, seen, recent, patience),
        Desired::Stopped => keep_stopped(vm, seen, recent, patience),
    }
}

fn keep_running(vm: &Vm, seen: &Observed, recent: &Recent, patience: &Patience) -> Plan {
    let Some(domain) = &seen.domain else { return bring_up(vm, seen) };
    let served = domain.started == Some(vm.generation);
    match domain.state {
        DomainState::Off(OffReason::Migrated) => Plan::hold(VmState::Failed, Hold::MovedAway),
        DomainState::Off(OffReason::ShutDown) if served && vm.spec.restart != RestartPolicy::Always => {
            if recent.told_shut_down == Some(vm.generation) {
                Plan::hold(VmState::Stopped, Hold::Reported)
            } else {
                Plan::act(VmState::Stopped, vec![Step::ReportShutDown])
            }
        }
        DomainState::Off(OffReason::ShutDown | OffReason::Crashed | OffReason::Destroyed | OffReason::Failed)
            if served =>
        {
            if vm.spec.restart == RestartPolicy::Never {
                Plan::rest(VmState::Crashed)
            } else if recent.restart_in > Duration::ZERO {
                Plan::hold(VmState::Crashed, Hold::Restart(recent.restart_in))
            } else {
                bring_up(vm, seen)
            }
        }
        DomainState::Off(_) => bring_up(vm, seen),
        state => {
            // A guest that was asked to shut down for an earlier wish may still do so: that would be taken for its own
            // doing if it were noted as serving this one.
            if let Some((first, _)) = recent.asked
                && !served
                && first < patience.grace
            {
                return Plan::hold(VmState::Stopping, Hold::Asked(patience.grace - first));
            }
            let mut steps = Vec::new();
            if !seen.reserved {
                steps.push(Step::ReserveAddress);
            }
            if domain.defined != Some(vm.generation) {
                steps.push(Step::DefineDomain);
            }
            if !served {
                steps.push(Step::Start);
            }
            Plan::act(word(state), steps)
        }
    }
}

fn keep_stopped(vm: &Vm, seen: &Observed, recent: &Recent, patience: &Patience) -> Plan {
    match &seen.domain {
        Some(domain) if domain.state.is_active() => ask_to_stop(domain.state, recent, patience),
        domain => match prepare(vm, seen) {
            Err(hold) => Plan::hold(VmState::Failed, hold),
            Ok(steps) => {
                let made = domain.is_some() || steps.is_empty();
                Plan::act(if made { VmState::Stopped } else { preparing(&steps) }, steps)
            }
        },
    }
}

fn ask_to_stop(state: DomainState, recent: &Recent, patience: &Patience) -> Plan {
    let hold = |time| Plan::hold(VmState::Stopping, Hold::Asked(time));
    match recent.asked {
        Some((first, _)) if first >= patience.grace => Plan::act(VmState::Stopping, vec![Step::ForceStop]),
        Some((first, _)) if state == DomainState::ShuttingDown => hold(patience.grace - first),
        Some((first, last)) if last < patience.ask_again => {
            hold((patience.ask_again - last).min(patience.grace - first))
        }
        _ => Plan::act(VmState::Stopping, vec![Step::Shutdown]),
    }
}

fn bring_up(vm: &Vm, seen: &Observed) -> Plan {
    match prepare(vm, seen) {
        Err(hold) => Plan::hold(VmState::Failed, hold),
        Ok(mut steps) => {
            steps.push(Step::Start);
            Plan::act(preparing(&steps), steps)
        }
    }
}

/// What has to be there before a guest can be started.
fn prepare(vm: &Vm, seen: &Observed) -> Result<Vec<Step>, Hold> {
    let mut steps = Vec::new();
    // Disks stand on the image, so it has to be there even if the disk is.
    if !seen.image {
        steps.push(Step::EnsureImage);
    }
    if !seen.volume {
        if seen.domain.as_ref().is_some_and(|domain| domain.started.is_some()) {
            return Err(Hold::DiskMissing);
        }
        steps.push(Step::CreateVolume);
    }
    if !seen.reserved {
        steps.push(Step::ReserveAddress);
    }
    if seen.domain.as_ref().is_none_or(|domain| domain.defined != Some(vm.generation)) {
        steps.push(Step::DefineDomain);
    }
    Ok(steps)
}

fn remove(seen: &Observed, confirm: bool) -> Plan {
    let mut steps = Vec::new();
    if let Some(domain) = &seen.domain {
        if domain.state.is_active() {
            steps.push(Step::ForceStop);
        }
        steps.push(Step::Undefine);
    }
    if seen.volume {
        steps.push(Step::RemoveVolume);
    }
    if seen.reserved {
        steps.push(Step::ReleaseAddress);
    }
    if confirm {
        steps.push(Step::ConfirmGone);
    }
    Plan::act(VmState::Deleting, steps)
}

fn preparing(steps: &[Step]) -> VmState {
    if steps.first() == Some(&Step::EnsureImage) { VmState::Fetching } else { VmState::Preparing }
}

/// The word for what a guest does by itself.
const fn word(state: DomainState) -> VmState {
    match state {
        DomainState::Running => VmState::Running,
        DomainState::Paused(_) => VmState::Paused,
        DomainState::ShuttingDown => VmState::Stopping,
        DomainState::Off(OffReason::Crashed) => VmState::Crashed,
        DomainState::Off(_) => VmState::Stopped,
    }
}

#[cfg(test)]
mod tests;

//! What is to be done for one VM. Pure: what is wanted and what is seen go in, steps come out; no clock, no I/O. Every step
//! may be repeated, and only the first of a plan counts on what was seen: after the last one the task looks again.
//!
//! ```text
//!   wanted: running   EnsureImage ─ EnsureRoot ─ EnsureDisk… ─ ReserveAddress ─ DefineDomain ─ Start ──► running
//!                     running, something differs: Adjust…, or it waits for the next start
//!           reboot    Shutdown ─ (grace) ─ ForceStop ─ as above
//!           anew      ForceStop ─ as above, on a fresh root disk ─ RemoveOldRoots
//!           paused    as running, started held still, or Suspend ──────────────────────────────────────► paused
//!           stopped   Shutdown ─ (grace) ─ ForceStop ──────────────────────────────────────────────────► stopped
//!           deleting  ForceStop ─ RemoveVolumes ─ ReleaseAddress ─ Undefine ─ ConfirmGone ─────────────► gone
//! ```
//!
//! A definition is made anew before every start: whatever somebody else did to it is undone before it matters.

mod differences;
mod prepare;
mod remove;
mod run;
mod step;
mod stop;

pub use differences::{Difference, Pending, Way, differences};
pub use step::{Adjust, Hold, Step};

use crate::{
    hypervisor::{Domain, DomainState, OffReason},
    volumes::{DataVolume, Disks},
};
use remove::remove;
use run::keep_running;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};
use stop::keep_stopped;
use waifud_model::{
    ids::Generation,
    observed::{VmState, Waits},
    time::Timestamp,
    vm::{Desired, Phase, Vm},
};

/// What is seen of a VM on this node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    /// Its domain.
    pub domain: Option<Domain>,
    /// The lives of the root disk that are here.
    pub roots: BTreeSet<u32>,
    /// The further disks that are here, and where.
    pub disks: BTreeMap<DataVolume, PathBuf>,
    /// The disks that its definition names: each was made before that was written, and is lost if it is not here.
    pub named: Disks,
    /// Are the bytes here that its root disk stands on? True if it stands on nothing.
    pub image: bool,
    /// The image that shall be in its CD drive, if there shall be one and it is here.
    pub cd: Option<PathBuf>,
    /// Is its address reserved, under its name?
    pub reserved: bool,
}

impl Observed {
    /// True if nothing of the VM is here that only its owner may have. A reservation may be: it holds nothing up.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.domain.is_none() && !self.has_volumes()
    }

    fn has_volumes(&self) -> bool {
        !self.roots.is_empty() || !self.disks.is_empty()
    }
}

/// What cannot be seen, but was done or happened a while ago. Losing it costs a little time, never correctness.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recent {
    /// How long ago the guest was first asked to shut down, and how long ago the last time.
    pub asked: Option<(Duration, Duration)>,
    /// How long a guest that died has to wait before it is started again.
    pub restart_in: Duration,
    /// How long ago a guest that is held still was last told to go on.
    pub resumed: Option<Duration>,
    /// What the running guest was told to take up for this generation, and what came of it.
    pub adjusted: BTreeMap<Adjust, Tried>,
    /// The generation for which it was reported that the guest shut itself down, or was not to be started with its host.
    pub told_stopped: Option<Generation>,
    /// The end of the VM was reported.
    pub told_gone: bool,
    /// The wish was given here at this moment, without the cluster, on top of the record's generation: what was started
    /// before does not serve it.
    pub wished_at: Option<Timestamp>,
}

/// What came of telling a guest to take something up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tried {
    /// It cannot; not asked again before the next start or the next generation.
    Refused(String),
    /// It was told this long ago.
    Told(Duration),
}

/// How patient to be with guests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// How long a guest may take to shut down before its power is taken away, where nobody said otherwise.
    pub grace: Duration,
    /// How often it is asked meanwhile: a guest that is booting does not hear the first time.
    pub ask_again: Duration,
    /// How long a guest may take to do what it was told: to give memory back, to let go of a disk. Then it is told again.
    pub adjust_again: Duration,
    /// How often a guest whose disk did not take a write is let go on to try it again.
    pub resume_again: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(60),
            ask_again: Duration::from_secs(10),
            adjust_again: Duration::from_secs(60),
            resume_again: Duration::from_secs(30),
        }
    }
}

impl Patience {
    /// With the guest of `vm`, for which somebody may have said how long it may take.
    #[must_use]
    pub fn with(self, vm: &Vm) -> Self {
        Self { grace: vm.grace.map_or(self.grace, |seconds| Duration::from_secs(seconds.into())), ..self }
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
    /// What the running guest has not taken up.
    pub pending: Vec<Pending>,
}

impl Plan {
    const fn rest(state: VmState) -> Self {
        Self { steps: Vec::new(), state, hold: None, pending: Vec::new() }
    }

    fn hold(state: VmState, hold: Hold) -> Self {
        Self { hold: Some(hold), ..Self::rest(state) }
    }

    fn act(state: VmState, steps: Vec<Step>) -> Self {
        Self { steps, ..Self::rest(state) }
    }

    /// What waits for the guest's next start, in the few letters that the other nodes are told.
    #[must_use]
    pub fn waits(&self) -> Waits {
        self.pending.iter().map(|pending| pending.waiting).collect()
    }
}

/// What is to be done for a VM. `wanted` is none for one that the cluster surely does not know any more.
#[must_use]
pub fn plan(wanted: Option<&Vm>, seen: &Observed, recent: &Recent, patience: &Patience) -> Plan {
    let Some(vm) = wanted else { return remove(seen, false) };
    if vm.phase == Phase::Deleting {
        return if recent.told_gone && seen.is_nothing() && !seen.reserved {
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
        Desired::Stopped => keep_stopped(vm, seen, recent, &patience.with(vm)),
    }
}

/// True if the guest has to be off once before it is as wanted: a reboot was asked for, or another root disk. A guest that is
/// to be held still is rebooted when it shall go on: its memory is what it is held still for.
pub(in crate::reconcile) fn owes_a_start(vm: &Vm, domain: &Domain) -> bool {
    domain.booted.disk_life < vm.disk_life || (vm.desired == Desired::Running && domain.booted.reboots < vm.reboots)
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

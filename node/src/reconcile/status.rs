//! What is known of each VM of this node: for whoever asks here, with errors and next try; for the other nodes, in the few
//! bytes of an observation, published when it changes.

use super::{
    plan::{Hold, Pending, Plan, Step},
    ports::{Clock, Observations},
};
use crate::faults::lock;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};
use waifud_model::{
    ids::{Generation, VmId},
    observed::{Sighting, Sightings, VmObservation, VmState, Waits},
    time::Timestamp,
};

/// Leases are dated in whole seconds.
const CLOCK_GRAIN: Duration = Duration::from_secs(1);

/// What this node knows of a VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmStatus {
    /// What the other nodes are told.
    pub observation: VmObservation,
    /// The step that is being taken.
    pub doing: Option<Step>,
    /// Why nothing is done although not all is as wanted.
    pub hold: Option<Hold>,
    /// What went wrong, until it goes well.
    pub trouble: Option<Trouble>,
    /// What the running guest has not taken up.
    pub pending: Vec<Pending>,
    /// How often the guest was started again after it had died, since it last ran well.
    pub restarts: u32,
}

impl VmStatus {
    const fn new(observation: VmObservation) -> Self {
        Self { observation, doing: None, hold: None, trouble: None, pending: Vec::new(), restarts: 0 }
    }
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// The whole chain of reasons, for people.
    pub error: String,
    /// The step that failed; none if the VM could not even be looked at.
    pub step: Option<Step>,
    /// Failures in a row.
    pub attempts: u32,
    /// When the first of them was.
    pub since: Timestamp,
    /// When it is tried again.
    pub next_try: Timestamp,
}

/// What a look at a guest tells beside its state.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Guest {
    /// When it was started, if that is known.
    pub(super) started: Option<Timestamp>,
    /// Its cloud-init is done in this life of the VM.
    pub(super) cloud_init_done: bool,
    /// What it has not taken up.
    pub(super) waits: Waits,
}

/// All VMs' statuses.
#[derive(Debug)]
pub(super) struct Board {
    vms: Mutex<BTreeMap<VmId, VmStatus>>,
    observations: Arc<dyn Observations>,
    clock: Arc<dyn Clock>,
}

impl Board {
    pub(super) fn new(observations: Arc<dyn Observations>, clock: Arc<dyn Clock>) -> Self {
        Self { vms: Mutex::default(), observations, clock }
    }

    pub(super) fn get(&self, vm: VmId) -> Option<VmStatus> {
        lock(&self.vms).get(&vm).cloned()
    }

    pub(super) fn all(&self) -> BTreeMap<VmId, VmStatus> {
        lock(&self.vms).clone()
    }

    /// The VM is seen so. With no generation the last one stays: what is seen does not serve the record yet.
    pub(super) fn see(&self, vm: VmId, state: VmState, generation: Option<Generation>) {
        let before = self.get(vm).map(|status| status.observation);
        let guest =
            before.map(|seen| Guest { started: None, cloud_init_done: seen.cloud_init_done, waits: seen.waits });
        self.see_guest(vm, state, generation, guest.unwrap_or_default());
    }

    /// The same of a guest that was looked at.
    pub(super) fn see_guest(&self, vm: VmId, state: VmState, generation: Option<Generation>, guest: Guest) {
        let Guest { started, cloud_init_done, waits } = guest;
        let mut vms = lock(&self.vms);
        let before = vms.get(&vm).map(|status| status.observation);
        let generation = generation.or(before.map(|seen| seen.generation)).unwrap_or_default();
        let since = match before {
            Some(seen) if seen.state == state => seen.since,
            _ => started.filter(|at| runs_since(*at, state, before)).unwrap_or_else(|| self.clock.now()),
        };
        // Whom it met, it met in this run.
        let met = before.filter(|seen| seen.state == state && seen.since == since).map(|seen| seen.met);
        let met = met.unwrap_or_default();
        let now = VmObservation { state, generation, since, met, cloud_init_done, waits };
        if before != Some(now) {
            vms.entry(vm).or_insert_with(|| VmStatus::new(now)).observation = now;
            self.observations.publish(vm, now);
        }
    }

    /// The guest was met by this, if it runs, and if that was in this run of it; `at` is none for what was met just now.
    pub(super) fn meet(&self, vm: VmId, by: Sighting, at: Option<Timestamp>) {
        let mut vms = lock(&self.vms);
        let Some(status) = vms.get_mut(&vm) else { return };
        let seen = &mut status.observation;
        let in_this_run = at.is_none_or(|at| at.plus(CLOCK_GRAIN) >= seen.since);
        if seen.state == VmState::Running && in_this_run && !seen.met.has(by) {
            seen.met = seen.met.and(by);
            self.observations.publish(vm, *seen);
        }
    }

    /// The guests that run and were not yet met in every way.
    pub(super) fn strangers(&self) -> BTreeMap<VmId, Sightings> {
        let all: Sightings = [Sighting::Lease, Sighting::Arp, Sighting::Agent].into_iter().collect();
        let stranger = |seen: &VmObservation| seen.state == VmState::Running && all.iter().any(|by| !seen.met.has(by));
        let vms = lock(&self.vms);
        let seen = vms.iter().map(|(vm, status)| (*vm, status.observation));
        seen.filter(|(_, seen)| stranger(seen)).map(|(vm, seen)| (vm, seen.met)).collect()
    }

    /// If the image was what was waited for, it is here.
    pub(super) fn fetched(&self, vm: VmId) {
        if self.get(vm).is_some_and(|status| status.observation.state == VmState::Fetching) {
            self.see(vm, VmState::Preparing, None);
        }
    }

    /// Nothing can be said of any VM's state now.
    pub(super) fn lose_sight(&self) {
        let known: Vec<_> = lock(&self.vms).keys().copied().collect();
        for vm in known {
            self.see(vm, VmState::Unknown, None);
        }
    }

    pub(super) fn doing(&self, vm: VmId, step: Option<Step>) {
        self.update(vm, |status| status.doing = step);
    }

    pub(super) fn hold(&self, vm: VmId, plan: &Plan, restarts: u32) {
        self.update(vm, |status| {
            status.hold.clone_from(&plan.hold);
            status.pending.clone_from(&plan.pending);
            status.restarts = restarts;
        });
    }

    pub(super) fn trouble(&self, vm: VmId, step: Option<Step>, error: String, attempts: u32, wait: Duration) {
        let now = self.clock.now();
        self.update(vm, |status| {
            let since = status.trouble.as_ref().filter(|_| attempts > 1).map_or(now, |before| before.since);
            status.doing = None;
            status.trouble = Some(Trouble { error, step, attempts, since, next_try: now.plus(wait) });
        });
    }

    pub(super) fn trouble_is_over(&self, vm: VmId) {
        self.update(vm, |status| status.trouble = None);
    }

    pub(super) fn withdraw(&self, vm: VmId) {
        if lock(&self.vms).remove(&vm).is_some() {
            self.observations.withdraw(vm);
        }
    }

    fn update(&self, vm: VmId, change: impl FnOnce(&mut VmStatus)) {
        if let Some(status) = lock(&self.vms).get_mut(&vm) {
            change(status);
        }
    }
}

/// Has a guest that is seen to run run since it was started? One that was adopted, or out of sight, has. If it was seen to do
/// anything else after that start, then somebody else started it again or let it go on.
fn runs_since(started: Timestamp, state: VmState, before: Option<VmObservation>) -> bool {
    let seen_otherwise = before.filter(|seen| !matches!(seen.state, VmState::Pending | VmState::Unknown));
    state == VmState::Running && seen_otherwise.is_none_or(|seen| started >= seen.since)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default)]
    struct Told(Mutex<Vec<String>>);

    impl Observations for Told {
        fn publish(&self, _: VmId, seen: VmObservation) {
            lock(&self.0).push(seen.to_string());
        }

        fn withdraw(&self, _: VmId) {}
    }

    #[derive(Debug)]
    struct At(u64);

    impl Clock for At {
        fn now(&self) -> Timestamp {
            Timestamp(self.0)
        }
    }

    #[test]
    fn who_is_met_was_met_in_this_run() {
        let told = Arc::new(Told::default());
        let board = Board::new(Arc::clone(&told) as Arc<dyn Observations>, Arc::new(At(50_000)));
        let vm = VmId::from_random([1; 16]);
        board.see(vm, VmState::Preparing, Some(Generation(1)));
        board.meet(vm, Sighting::Metadata, None);
        board.see(vm, VmState::Running, Some(Generation(1)));
        assert_eq!(board.strangers().len(), 1);
        board.meet(vm, Sighting::Lease, Some(Timestamp(40_000)));
        board.meet(vm, Sighting::Lease, Some(Timestamp(49_500)));
        board.meet(vm, Sighting::Metadata, None);
        board.meet(vm, Sighting::Metadata, None);
        board.see(vm, VmState::Running, Some(Generation(2)));
        board.see(vm, VmState::Stopped, Some(Generation(2)));
        assert!(board.strangers().is_empty());
        assert_eq!(
            *lock(&told.0),
            [
                "preparing 1 50000 - -",
                "running 1 50000 - -",
                "running 1 50000 l -",
                "running 1 50000 lm -",
                "running 2 50000 lm -",
                "stopped 2 50000 - -"
            ]
        );
    }

    #[test]
    fn a_guest_runs_since_its_start_unless_it_was_seen_to_rest_after_it() {
        let seen = |state, since| Some(VmObservation::new(state, Generation(1), Timestamp(since)));
        let runs = |before| runs_since(Timestamp(100), VmState::Running, before);
        assert!(runs(None) && runs(seen(VmState::Pending, 200)) && runs(seen(VmState::Unknown, 200)));
        assert!(runs(seen(VmState::Preparing, 90)) && runs(seen(VmState::Crashed, 90)));
        assert!(!runs(seen(VmState::Stopped, 200)) && !runs(seen(VmState::Paused, 200)));
        assert!(
            !runs_since(Timestamp(100), VmState::Stopped, None),
            "a state that is not running began when it is seen"
        );
    }
}

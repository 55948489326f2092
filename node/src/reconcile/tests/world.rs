//! A node whose surroundings are fakes, in a [cluster](super::cluster) of its own.

use super::{cluster::Ports, taps::Tap};
use crate::{
    hypervisor::{
        Accel, DiskCache, Hypervisor as _, Live,
        fake::{FakeHypervisor, HypervisorOp},
    },
    images::fake::FakeImages,
    net::{GuestNetwork, fake::FakeNetwork},
    reconcile::{Edges, Fate, Reconciler, Settings, Shape, samples},
    volumes::{Disks, Volumes as _, fake::FakeVolumes},
};
use std::{path::PathBuf, sync::Arc, time::Duration};
use waifud_model::{
    command::VmReport,
    event::EventKind,
    ids::{Generation, VmId},
    node::Arch,
    observed::{VmObservation, VmState},
    vm::{Desired, Vm},
};

pub(super) struct World {
    pub(super) hypervisor: Arc<FakeHypervisor>,
    pub(super) volumes: Arc<FakeVolumes>,
    pub(super) images: Arc<FakeImages>,
    pub(super) network: Arc<FakeNetwork>,
    ports: Arc<Ports>,
    reconciler: Option<Reconciler>,
    tap: Option<Arc<Tap>>,
}

impl World {
    pub(super) fn start() -> Self {
        Self::start_with(None)
    }

    /// With a tap on everything that reconcile works with.
    pub(super) fn start_tapped(tap: &Arc<Tap>) -> Self {
        Self::start_with(Some(Arc::clone(tap)))
    }

    fn start_with(tap: Option<Arc<Tap>>) -> Self {
        let mut world = Self {
            hypervisor: Arc::default(),
            volumes: Arc::default(),
            images: Arc::default(),
            network: Arc::default(),
            ports: Ports::new(),
            reconciler: None,
            tap,
        };
        world.hypervisor.plug(world.volumes.clone());
        world.hypervisor.keep_time(world.ports.clone());
        world.begin();
        world
    }

    /// waifud starts (again).
    pub(super) fn begin(&mut self) {
        let tap = self.tap.as_ref();
        let edges = Edges {
            hypervisor: tap.map_or(self.hypervisor.clone() as _, |tap| tap.hypervisor(self.hypervisor.clone())),
            volumes: tap.map_or(self.volumes.clone() as _, |tap| tap.volumes(self.volumes.clone())),
            images: tap.map_or(self.images.clone() as _, |tap| tap.images(self.images.clone())),
            network: tap.map_or(self.network.clone() as _, |tap| tap.network(self.network.clone())),
            intent: self.ports.clone(),
            proposer: self.ports.clone(),
            observations: self.ports.clone(),
            clock: self.ports.clone(),
        };
        let shape = Shape {
            accel: Accel::Tcg,
            arch: Arch::X86_64,
            threads: 4,
            cache: DiskCache::None,
            console_dir: PathBuf::from("/fake/console"),
        };
        let boot = self.ports.epoch.elapsed().as_millis().try_into().unwrap();
        self.reconciler = Some(Reconciler::start(edges, shape, Settings::new(boot)));
    }

    /// waifud stops; the others forget what it said.
    pub(super) async fn stop(&mut self) {
        self.reconciler.take().unwrap().stop().await;
        self.ports.with(|cluster| cluster.seen.clear());
    }

    pub(super) fn reconciler(&self) -> &Reconciler {
        self.reconciler.as_ref().unwrap()
    }

    pub(super) fn add(&self, seed: u8) -> VmId {
        self.add_with(seed, |_| ())
    }

    pub(super) fn add_with(&self, seed: u8, change: impl FnOnce(&mut Vm)) -> VmId {
        let mut vm = samples::vm(seed);
        change(&mut vm);
        self.ports.add(vm)
    }

    /// See [`Ports::change`].
    pub(super) fn change(&self, id: VmId, change: impl FnOnce(&mut Vm)) {
        self.ports.change(id, change);
    }

    /// What people are shown of it by its owner.
    pub(super) fn pending(&self, id: VmId) -> Vec<String> {
        let pending = self.reconciler().status(id).map(|status| status.pending).unwrap_or_default();
        pending.into_iter().map(|p| format!("{}: {} → {}: {}", p.field, p.now, p.wanted, p.why)).collect()
    }

    pub(super) fn set_power(&self, id: VmId, desired: Desired) {
        self.change(id, |vm| vm.desired = desired);
    }

    /// The replica does not know the VM any more, and nobody was told.
    pub(super) fn forget(&self, id: VmId) {
        self.ports.commit(|cluster| cluster.vms.remove(&id));
    }

    pub(super) fn set_quorum(&self, quorum: bool) {
        self.ports.with(|cluster| cluster.quorum = quorum);
    }

    /// From now on it takes so long to read what is wanted.
    pub(super) fn set_reading(&self, reading: Duration) {
        self.ports.with(|cluster| cluster.reading = reading);
    }

    pub(super) fn set_ready(&self, ready: bool) {
        self.ports.with(|cluster| cluster.ready = ready);
    }

    pub(super) fn set_fate(&self, vm: VmId, fate: Fate) {
        self.ports.with(|cluster| cluster.fates.insert(vm, fate));
    }

    pub(super) fn record(&self, id: VmId) -> Option<Vm> {
        self.ports.record(id)
    }

    pub(super) fn observation(&self, id: VmId) -> Option<VmObservation> {
        self.ports.observation(id)
    }

    /// Everything that was ever published, in order.
    pub(super) fn history(&self) -> Vec<(VmId, VmObservation)> {
        self.ports.cluster.lock().unwrap().history.clone()
    }

    /// The states a VM was seen in, in order.
    pub(super) fn states(&self, id: VmId) -> Vec<VmState> {
        let mut states: Vec<_> = self.history().into_iter().filter(|(vm, _)| *vm == id).map(|(_, s)| s.state).collect();
        states.dedup();
        states
    }

    /// What the hypervisor was asked to change of a VM since the last time; forgets the others'.
    pub(super) fn changes(&self, id: VmId) -> Vec<HypervisorOp> {
        self.hypervisor.take_changes().into_iter().filter(|(_, vm)| *vm == id).map(|(op, _)| op).collect()
    }

    pub(super) async fn reserved(&self) -> usize {
        self.network.reserved().await.unwrap().len()
    }

    /// Waits until something is true; an hour of paused time is enough for anything.
    pub(super) async fn until(&self, what: &str, mut is_true: impl FnMut() -> bool) {
        let wait = async {
            while !is_true() {
                // Not everything that is waited for goes through the ports.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let patience = Duration::from_secs(3600);
        if tokio::time::timeout(patience, wait).await.is_err() {
            panic!("never: {what}; {:#?}", self.reconciler().statuses());
        }
    }

    /// The same of something that has to be asked for.
    pub(super) async fn until_async(&self, what: &str, mut is_true: impl AsyncFnMut() -> bool) {
        let wait = async {
            while !is_true().await {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(3600), wait).await.is_err() {
            panic!("never: {what}; {:#?}", self.reconciler().statuses());
        }
    }

    /// The disks of it that are here.
    pub(super) async fn disks(&self, id: VmId) -> Disks {
        self.volumes.disks(id).await.unwrap()
    }

    /// What a guest that is on has.
    pub(super) async fn live(&self, id: VmId) -> Live {
        self.hypervisor.find(id).await.unwrap().and_then(|domain| domain.live).unwrap()
    }

    /// Waits until a VM is observed so.
    pub(super) async fn seen(&self, id: VmId, state: VmState, generation: u64) {
        let mut moved = self.ports.moved.subscribe();
        let wait = async {
            loop {
                let now = self.observation(id).map(|seen| (seen.state, seen.generation));
                if now == Some((state, Generation(generation))) {
                    return;
                }
                moved.changed().await.unwrap();
            }
        };
        if tokio::time::timeout(Duration::from_secs(3600), wait).await.is_err() {
            panic!("never {state} {generation}: {:#?}", self.reconciler().status(id));
        }
    }

    /// Waits until the cluster was told of something.
    pub(super) async fn told(&self, id: VmId, kind: EventKind, by_guest: bool) {
        let told = |r: &VmReport| r.vm == id && r.kind == kind && r.by_guest == by_guest;
        self.until("it is told", || self.ports.cluster.lock().unwrap().reports.iter().any(told)).await;
    }

    /// How often the cluster was told of something, a minute from now.
    pub(super) async fn count(&self, id: VmId, kind: EventKind) -> usize {
        tokio::time::sleep(Duration::from_secs(60)).await;
        self.ports.cluster.lock().unwrap().reports.iter().filter(|r| r.vm == id && r.kind == kind).count()
    }

    /// Waits until the cluster does not have the VM any more.
    pub(super) async fn gone(&self, id: VmId) {
        self.until("it is gone", || !self.ports.cluster.lock().unwrap().vms.contains_key(&id)).await;
    }
}

//! A cluster of one node in memory: records, quorum, and what came of what the node said.

use super::taps::Tap;
use crate::{
    hypervisor::{
        Accel, DiskCache, Hypervisor as _, Live,
        fake::{FakeHypervisor, HypervisorOp},
    },
    images::fake::FakeImages,
    net::{GuestNetwork, fake::FakeNetwork},
    reconcile::{
        Clock, Edges, Fate, Intent, IntentError, Observations, ProposeFailure, Proposer, Reconciler, Settings, Shape,
        Wanted, samples,
    },
    volumes::fake::FakeVolumes,
};
use async_trait::async_trait;
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{sync::watch, time::Instant};
use waifud_model::{
    command::{Command, VmReport},
    event::EventKind,
    ids::{Generation, VmId},
    node::Arch,
    observed::{VmObservation, VmState},
    reject::Reject,
    time::Timestamp,
    vm::{Desired, Phase, Vm},
};

/// What the cluster holds, and how it is.
#[derive(Debug)]
struct Cluster {
    vms: BTreeMap<VmId, Vm>,
    fates: BTreeMap<VmId, Fate>,
    ready: bool,
    quorum: bool,
    reports: Vec<VmReport>,
    seen: BTreeMap<VmId, VmObservation>,
    history: Vec<(VmId, VmObservation)>,
    keys: BTreeMap<String, Command>,
}

#[derive(Debug)]
struct Ports {
    cluster: Mutex<Cluster>,
    index: watch::Sender<u64>,
    /// Moves whenever anything does, so that tests can wait for it.
    moved: watch::Sender<u64>,
    epoch: Instant,
}

impl Ports {
    fn with<T>(&self, f: impl FnOnce(&mut Cluster) -> T) -> T {
        let result = f(&mut self.cluster.lock().unwrap());
        self.moved.send_modify(|n| *n += 1);
        result
    }
}

#[async_trait]
impl Intent for Ports {
    fn changed(&self) -> watch::Receiver<u64> {
        self.index.subscribe()
    }

    async fn wanted(&self) -> Result<Vec<Arc<Wanted>>, IntentError> {
        let cluster = self.cluster.lock().unwrap();
        if !cluster.ready {
            return Err(IntentError::NotReady);
        }
        let wanted = |vm: &Vm| {
            let cd = vm.spec.hardware.cd.is_some().then(samples::cd);
            Arc::new(Wanted { vm: vm.clone(), image: Some(samples::image()), cd, wished_at: None })
        };
        Ok(cluster.vms.values().map(wanted).collect())
    }

    async fn seed(&self, _: &Vm) -> Result<Option<Vec<u8>>, IntentError> {
        Ok(None)
    }

    async fn fate(&self, vm: VmId) -> Result<Fate, IntentError> {
        let cluster = self.cluster.lock().unwrap();
        if !cluster.quorum {
            return Err(IntentError::NoQuorum);
        }
        Ok(cluster.fates.get(&vm).copied().unwrap_or(Fate::Gone))
    }
}

#[async_trait]
impl Proposer for Ports {
    async fn propose(&self, key: &str, command: Command) -> Result<(), ProposeFailure> {
        let result = self.with(|cluster| {
            if !cluster.quorum {
                return Err(ProposeFailure::NotNow("no quorum".to_owned()));
            }
            let first = cluster.keys.entry(key.to_owned()).or_insert_with(|| command.clone());
            assert_eq!(*first, command, "one key, one command");
            match command {
                Command::ConfirmVmGone { vm } => match cluster.vms.get(&vm).map(|vm| vm.phase) {
                    Some(Phase::Deleting) => drop(cluster.vms.remove(&vm)),
                    Some(Phase::Live) => return Err(ProposeFailure::Refused(Reject::NotDeleting(vm))),
                    None => return Err(ProposeFailure::Refused(Reject::NoSuchVm(vm))),
                },
                Command::ReportVmEvents(reports) => {
                    for report in reports {
                        if let Some(vm) = cluster.vms.get_mut(&report.vm)
                            && report.by_guest
                            && report.generation == vm.generation
                        {
                            vm.desired = Desired::Stopped;
                            vm.generation = vm.generation.next();
                        }
                        cluster.reports.push(report);
                    }
                }
                Command::SetPower { vm, desired, grace, expect } => {
                    let Some(vm) = cluster.vms.get_mut(&vm) else {
                        return Err(ProposeFailure::Refused(Reject::NoSuchVm(vm)));
                    };
                    let (actual, expected) = (vm.generation, expect.unwrap_or(vm.generation));
                    if expected != actual {
                        return Err(ProposeFailure::Refused(Reject::Stale { vm: vm.id, expected, actual }));
                    }
                    (vm.desired, vm.grace, vm.generation) = (desired, grace, actual.next());
                }
                other => panic!("reconcile never proposes {other:?}"),
            }
            Ok(())
        });
        self.index.send_modify(|index| *index += 1);
        result
    }
}

impl Observations for Ports {
    fn publish(&self, vm: VmId, seen: VmObservation) {
        self.with(|cluster| {
            cluster.seen.insert(vm, seen);
            cluster.history.push((vm, seen));
        });
    }

    fn withdraw(&self, vm: VmId) {
        self.with(|cluster| cluster.seen.remove(&vm));
    }
}

impl Clock for Ports {
    fn now(&self) -> Timestamp {
        Timestamp(1_000_000).plus(self.epoch.elapsed())
    }
}

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
        let cluster = Cluster {
            vms: BTreeMap::new(),
            fates: BTreeMap::new(),
            ready: true,
            quorum: true,
            reports: Vec::new(),
            seen: BTreeMap::new(),
            history: Vec::new(),
            keys: BTreeMap::new(),
        };
        let mut world = Self {
            hypervisor: Arc::default(),
            volumes: Arc::default(),
            images: Arc::default(),
            network: Arc::default(),
            ports: Arc::new(Ports {
                cluster: Mutex::new(cluster),
                index: watch::Sender::new(0),
                moved: watch::Sender::new(0),
                epoch: Instant::now(),
            }),
            reconciler: None,
            tap,
        };
        world.hypervisor.plug(world.volumes.clone());
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
        let id = vm.id;
        self.commit(|cluster| cluster.vms.insert(id, vm));
        id
    }

    /// A record changes, with a new generation unless the change gives one.
    pub(super) fn change(&self, id: VmId, change: impl FnOnce(&mut Vm)) {
        self.commit(|cluster| {
            let vm = cluster.vms.get_mut(&id).unwrap();
            let before = vm.generation;
            change(vm);
            if vm.generation == before {
                vm.generation = before.next();
            }
        });
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
        self.commit(|cluster| cluster.vms.remove(&id));
    }

    pub(super) fn set_quorum(&self, quorum: bool) {
        self.ports.with(|cluster| cluster.quorum = quorum);
    }

    pub(super) fn set_ready(&self, ready: bool) {
        self.ports.with(|cluster| cluster.ready = ready);
    }

    pub(super) fn set_fate(&self, vm: VmId, fate: Fate) {
        self.ports.with(|cluster| cluster.fates.insert(vm, fate));
    }

    fn commit<T>(&self, f: impl FnOnce(&mut Cluster) -> T) {
        self.ports.with(f);
        self.ports.index.send_modify(|index| *index += 1);
    }

    pub(super) fn record(&self, id: VmId) -> Option<Vm> {
        self.ports.with(|cluster| cluster.vms.get(&id).cloned())
    }

    pub(super) fn observation(&self, id: VmId) -> Option<VmObservation> {
        self.ports.cluster.lock().unwrap().seen.get(&id).copied()
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

//! A cluster of one node in memory: records, quorum, and what came of what the node said.

use crate::reconcile::{Clock, Fate, Intent, IntentError, Observations, ProposeFailure, Proposer, Wanted, samples};
use async_trait::async_trait;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{sync::watch, time::Instant};
use waifud_model::{
    command::{Command, VmReport},
    ids::VmId,
    observed::VmObservation,
    reject::Reject,
    time::Timestamp,
    vm::{Desired, Phase, Vm},
};

/// What the cluster holds, and how it is.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) vms: BTreeMap<VmId, Vm>,
    pub(super) fates: BTreeMap<VmId, Fate>,
    pub(super) ready: bool,
    pub(super) quorum: bool,
    /// How long it takes to read what is wanted.
    pub(super) reading: Duration,
    pub(super) reports: Vec<VmReport>,
    pub(super) seen: BTreeMap<VmId, VmObservation>,
    pub(super) history: Vec<(VmId, VmObservation)>,
    keys: BTreeMap<String, Command>,
}

/// The cluster, as reconcile sees it.
#[derive(Debug)]
pub(super) struct Ports {
    pub(super) cluster: Mutex<Cluster>,
    index: watch::Sender<u64>,
    /// Moves whenever anything does, so that tests can wait for it.
    pub(super) moved: watch::Sender<u64>,
    pub(super) epoch: Instant,
}

impl Ports {
    pub(super) fn new() -> Arc<Self> {
        let cluster = Cluster {
            vms: BTreeMap::new(),
            fates: BTreeMap::new(),
            ready: true,
            quorum: true,
            reading: Duration::ZERO,
            reports: Vec::new(),
            seen: BTreeMap::new(),
            history: Vec::new(),
            keys: BTreeMap::new(),
        };
        Arc::new(Self {
            cluster: Mutex::new(cluster),
            index: watch::Sender::new(0),
            moved: watch::Sender::new(0),
            epoch: Instant::now(),
        })
    }

    pub(super) fn with<T>(&self, f: impl FnOnce(&mut Cluster) -> T) -> T {
        let result = f(&mut self.cluster.lock().unwrap());
        self.moved.send_modify(|n| *n += 1);
        result
    }

    /// The same of what is a command.
    pub(super) fn commit<T>(&self, f: impl FnOnce(&mut Cluster) -> T) -> T {
        let result = self.with(f);
        self.index.send_modify(|index| *index += 1);
        result
    }

    pub(super) fn add(&self, vm: Vm) -> VmId {
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

    pub(super) fn record(&self, id: VmId) -> Option<Vm> {
        self.with(|cluster| cluster.vms.get(&id).cloned())
    }

    pub(super) fn observation(&self, id: VmId) -> Option<VmObservation> {
        self.cluster.lock().unwrap().seen.get(&id).copied()
    }
}

#[async_trait]
impl Intent for Ports {
    fn changed(&self) -> watch::Receiver<u64> {
        self.index.subscribe()
    }

    async fn wanted(&self) -> Result<Vec<Arc<Wanted>>, IntentError> {
        let reading = self.cluster.lock().unwrap().reading;
        tokio::time::sleep(reading).await;
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

//! Gives reconcile what it needs of the cluster: what is wanted of this node from the replica, a way for reports into the
//! log, a way for observations into gossip. Gives the web what reconcile knows.

use super::{
    clock, instance,
    overrides::{Override, Overrides},
};
use crate::reconcile::{
    Clock, Fate, Hold, Intent, IntentError, Observations, ProposeFailure, Proposer, Reconciler, VmStatus, Wanted,
};
use async_trait::async_trait;
use std::{
    collections::{BTreeMap, btree_map::Entry},
    iter,
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::sync::{OnceCell, watch};
use waifud_api::{
    time::Time,
    vm::{LastError, PendingChange},
};
use waifud_cloudinit::{Documents, seed};
use waifud_consensus::{Applied, Handle, LinearizeError, Proposal, ProposeError};
use waifud_gossip::membership::Gossip;
use waifud_model::{
    command::{Actor, Command, Origin, RequestKey},
    digest::Blake3,
    ids::{NodeId, VmId},
    observed::VmObservation,
    time::Timestamp,
    vm::{Desired, ImageRef, Vm},
};
use waifud_web::ports::{Known, PowerError, Tasks};

/// How long the question may take whether a VM is really gone. Nothing waits for the answer but a clean-up.
const FATE_WITHIN: Duration = Duration::from_secs(5);

/// How long a node that has just started waits for the others to tell what it missed, before it does what its own replica
/// says: a VM that was deleted meanwhile must not be started once more. Without quorum it goes on after this.
const CATCH_UP_WITHIN: Duration = Duration::from_secs(10);
/// Between two tries to catch up.
const CATCH_UP_AGAIN: Duration = Duration::from_millis(200);

/// What the replicated state wants of this node.
#[derive(Debug)]
pub struct ReplicaIntent {
    me: NodeId,
    mtu: u16,
    consensus: Handle,
    overrides: Arc<Overrides>,
    changed: watch::Receiver<u64>,
    caught_up: OnceCell<()>,
}

impl ReplicaIntent {
    /// Of `me`, by its replica, with the wishes that were given here laid over; its guests' packets have at most `mtu` bytes.
    /// Must be called inside a runtime.
    #[must_use]
    pub fn new(me: NodeId, consensus: Handle, mtu: u16, overrides: Arc<Overrides>) -> Self {
        let (sender, changed) = watch::channel(0);
        tokio::spawn(pass_on(consensus.applied(), overrides.changed(), sender));
        Self { me, mtu, consensus, overrides, changed, caught_up: OnceCell::new() }
    }

    /// Hears what the cluster agreed on while this node was away, for [`CATCH_UP_WITHIN`] at most.
    async fn catch_up(&self) {
        let heard = async {
            while self.consensus.linearize(CATCH_UP_WITHIN).await.is_err() {
                tokio::time::sleep(CATCH_UP_AGAIN).await;
            }
        };
        if tokio::time::timeout(CATCH_UP_WITHIN, heard).await.is_err() {
            tracing::warn!("no quorum since the start: this node does what its own copy of the state says");
        }
    }
}

async fn pass_on(
    mut applied: watch::Receiver<Applied>,
    mut overrides: watch::Receiver<u64>,
    sender: watch::Sender<u64>,
) {
    loop {
        let index = applied.borrow_and_update().index;
        let moved = sender.send(index).is_ok()
            && tokio::select! {
                moved = applied.changed() => moved.is_ok(),
                moved = overrides.changed() => moved.is_ok(),
            };
        if !moved {
            return;
        }
    }
}

#[async_trait]
impl Intent for ReplicaIntent {
    fn changed(&self) -> watch::Receiver<u64> {
        self.changed.clone()
    }

    async fn wanted(&self) -> Result<Vec<Arc<Wanted>>, IntentError> {
        self.caught_up.get_or_init(|| self.catch_up()).await;
        let me = self.me;
        let read = self.consensus.read(move |view| {
            if view.cluster()?.is_none() {
                return Ok(None);
            }
            let vms = view.vms_on(me)?;
            let mut images = BTreeMap::new();
            for image in vms.iter().flat_map(|vm| iter::once(&vm.spec.image).chain(&vm.spec.hardware.cd)) {
                if let Entry::Vacant(unread) = images.entry(image.version) {
                    unread.insert(view.template_version(&image.template, image.version)?);
                }
            }
            let wanted = vms.into_iter().map(|vm| {
                let of = |image: &ImageRef| images.get(&image.version).cloned().flatten();
                let (image, cd) = (of(&vm.spec.image), vm.spec.hardware.cd.as_ref().and_then(of));
                Wanted { vm, image, cd, wished_at: None }
            });
            Ok(Some(wanted.collect::<Vec<_>>()))
        });
        let read = read.await.map_err(|error| IntentError::Unreadable(error.to_string()))?;
        let wanted = read.ok_or(IntentError::NotReady)?;
        Ok(wanted.into_iter().map(|wanted| Arc::new(self.overrides.wanted(wanted))).collect())
    }

    async fn seed(&self, vm: &Vm) -> Result<Option<Vec<u8>>, IntentError> {
        if vm.spec.cloud_init.network_config.is_none() {
            return Ok(None);
        }
        let (vm, mtu) = (vm.clone(), self.mtu);
        let read = self.consensus.read(move |view| instance::of(view, &vm, mtu));
        let instance = read.await.map_err(|error| IntentError::Unreadable(error.to_string()))?;
        Ok(instance.map(|instance| seed::image(&Documents::render(&instance))))
    }

    async fn fate(&self, vm: VmId) -> Result<Fate, IntentError> {
        self.consensus.linearize(FATE_WITHIN).await.map_err(|error| match error {
            LinearizeError::NoQuorum { .. } => IntentError::NoQuorum,
            other => IntentError::Unreadable(other.to_string()),
        })?;
        let me = self.me;
        let read = self.consensus.read(move |view| {
            Ok(match view.vm(vm)? {
                None => Fate::Gone,
                Some(vm) if vm.node == me => Fate::Here,
                Some(_) => Fate::Elsewhere,
            })
        });
        read.await.map_err(|error| IntentError::Unreadable(error.to_string()))
    }
}

/// Takes reports to the log, on the node's own account.
#[derive(Debug)]
pub struct NodeProposer {
    me: NodeId,
    consensus: Handle,
}

impl NodeProposer {
    /// For `me`.
    #[must_use]
    pub fn new(me: NodeId, consensus: Handle) -> Self {
        Self { me, consensus }
    }
}

#[async_trait]
impl Proposer for NodeProposer {
    async fn propose(&self, key: &str, command: Command) -> Result<(), ProposeFailure> {
        // The key always comes with the same command, so the key says it all.
        let request = RequestKey { key: key.to_owned(), body: Blake3::of(key.as_bytes()), origin: Origin::Internal };
        let proposal = Proposal { request, actor: Actor::Node(self.me), command, request_id: None };
        match self.consensus.propose(proposal).await {
            Ok(_) => Ok(()),
            Err(ProposeError::Rejected { reject, .. }) => Err(ProposeFailure::Refused(reject)),
            Err(error) => Err(ProposeFailure::NotNow(error.to_string())),
        }
    }
}

/// Tells the other nodes what is seen.
#[derive(Debug)]
pub(super) struct GossipObservations(pub Gossip);

impl Observations for GossipObservations {
    fn publish(&self, vm: VmId, seen: VmObservation) {
        if let Err(error) = self.0.publish(VmObservation::key(vm), seen.to_string()) {
            tracing::warn!(%vm, %error, "other nodes are not told of a VM's state");
        }
    }

    fn withdraw(&self, vm: VmId) {
        self.0.withdraw(&VmObservation::key(vm));
    }
}

impl Clock for super::clock::WallClock {
    fn now(&self) -> Timestamp {
        super::clock::now()
    }
}

/// What reconcile knows, for the web, and what it can be told without the cluster. Empty until reconcile runs: a machine that
/// has just joined serves its API before it knows its subnet.
#[derive(Debug, Clone, Default)]
pub(super) struct ReconcileTasks(Arc<OnceLock<(Arc<Reconciler>, Arc<Overrides>)>>);

impl ReconcileTasks {
    /// From now on these are asked.
    pub(super) fn attach(&self, reconciler: Arc<Reconciler>, overrides: Arc<Overrides>) {
        if self.0.set((reconciler, overrides)).is_err() {
            tracing::error!("reconcile was started twice");
        }
    }
}

#[async_trait]
impl Tasks for ReconcileTasks {
    fn known(&self, vm: VmId) -> Option<Known> {
        let (reconciler, overrides) = self.0.get()?;
        Some(known(reconciler.status(vm)?, overrides.of(vm)))
    }

    async fn power(&self, vm: &Vm, desired: Desired, grace: Option<u32>) -> Result<(), PowerError> {
        let (_, overrides) = self.0.get().ok_or(PowerError::NotReady)?;
        overrides.fits(vm, desired)?;
        let grace = grace.filter(|_| desired == Desired::Stopped);
        let wish = Override { desired, grace, base: vm.generation, at: clock::now() };
        overrides.give(vm.id, wish).await.map_err(|error| PowerError::NotKept(Box::new(error)))?;
        tracing::warn!(vm = %vm.id, name = %vm.name, ?desired, "done without the cluster, which has no quorum");
        Ok(())
    }
}

/// In the API's words.
fn known(status: VmStatus, wish: Option<Override>) -> Known {
    let changes = status.pending.into_iter().map(|pending| PendingChange {
        field: pending.field,
        now: pending.now,
        wanted: pending.wanted,
        why: pending.why,
    });
    let hold = status.hold.filter(Hold::is_worth_telling).map(|hold| hold.to_string());
    Known {
        last_error: status.trouble.map(|trouble| LastError {
            message: trouble.error,
            at: Some(Time(trouble.since)),
            attempts: Some(trouble.attempts),
            next_try: Some(Time(trouble.next_try)),
        }),
        changes: changes.collect(),
        doing: status.doing.map(|step| step.to_string()),
        held: hold.or_else(|| wish.map(|wish| held_by(&wish))),
        restarts: status.restarts,
    }
}

fn held_by(wish: &Override) -> String {
    let done = match wish.desired {
        Desired::Running => "started",
        Desired::Stopped => "stopped",
        Desired::Paused => "paused",
    };
    format!(
        "its node was asked for it to be {done} while the cluster had no quorum, and tells the cluster when it has one"
    )
}

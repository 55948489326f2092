//! What reconcile needs of the rest of the node, as small traits: what is wanted, where reports go, where observations go,
//! and what time it is. The node implements them with consensus and gossip, simulations with plain maps.

use async_trait::async_trait;
use std::{fmt::Debug, sync::Arc, time::SystemTime};
use tokio::sync::watch;
use waifud_model::{
    command::Command, ids::VmId, observed::VmObservation, reject::Reject, template::TemplateVersion, time::Timestamp,
    vm::Vm,
};

/// A VM of this node, and the template version that its disk starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The record.
    pub vm: Vm,
    /// The version that `vm.spec.image` names; none if the state does not have it, which is then reported as an error.
    pub image: Option<TemplateVersion>,
    /// The version that shall be in its CD drive; none if there shall be none, or the state does not have it.
    pub cd: Option<TemplateVersion>,
    /// The wish in `vm` was given on this node at this moment, without the cluster: the record says otherwise, or said the same
    /// before another wish was given here.
    pub wished_at: Option<Timestamp>,
}

/// What is wanted of this node.
///
/// Whoever implements it may lay the power overrides over the records that were given without quorum: reconcile brings
/// about what it is told here, whatever the source.
#[async_trait]
pub trait Intent: Send + Sync + Debug {
    /// Changes whenever [`Self::wanted`] may give something else; the number is the applied index.
    fn changed(&self) -> watch::Receiver<u64>;

    /// All VMs whose owner is this node, those being deleted too. From the local replica, however old.
    ///
    /// # Errors
    /// If the replica cannot be read, or holds no cluster yet. That never means that nothing is wanted.
    async fn wanted(&self) -> Result<Vec<Arc<Wanted>>, IntentError>;

    /// The contents of the small disk that tells `vm`'s cloud-init what it has to know before it has a network; none for a VM
    /// that needs no such disk.
    ///
    /// # Errors
    /// If the replica cannot be read.
    async fn seed(&self, vm: &Vm) -> Result<Option<Vec<u8>>, IntentError>;

    /// What became of a VM that this node has but the replica does not give to it. Asked before anything of it is removed:
    /// the answer has to be *linearizable*, a stale replica may not have heard of a VM that was just created.
    ///
    /// # Errors
    /// If that cannot be told now, as without quorum.
    async fn fate(&self, vm: VmId) -> Result<Fate, IntentError>;
}

/// What became of a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is this node's after all.
    Here,
    /// Another node owns it. What is left of it here is not ours to remove.
    Elsewhere,
    /// The cluster does not know it any more.
    Gone,
}

/// Why it cannot be told what is wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IntentError {
    /// This node's replica holds no cluster yet.
    #[error("this node has not heard from its cluster yet")]
    NotReady,
    /// No majority answers.
    #[error("the cluster has no quorum")]
    NoQuorum,
    /// The replica cannot be read.
    #[error("the replicated state cannot be read: {0}")]
    Unreadable(String),
}

/// Takes what a node has to say to the cluster.
#[async_trait]
pub trait Proposer: Send + Sync + Debug {
    /// Proposes a command on the node's own account. The same `key` always comes with the same command: a repetition is
    /// harmless.
    ///
    /// # Errors
    /// [`ProposeFailure::Refused`] for good; [`ProposeFailure::NotNow`] is tried again.
    async fn propose(&self, key: &str, command: Command) -> Result<(), ProposeFailure>;
}

/// Why a command was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeFailure {
    /// Every node would refuse it.
    #[error("the cluster refused it")]
    Refused(#[source] Reject),
    /// No leader, no quorum, or no answer; it may even have been accepted.
    #[error("the cluster did not take it: {0}")]
    NotNow(String),
}

/// Takes what this node sees of its VMs, for the other nodes. Must not block.
pub trait Observations: Send + Sync + Debug {
    /// This is seen now, instead of what was said before.
    fn publish(&self, vm: VmId, seen: VmObservation);

    /// There is nothing more to say about it.
    fn withdraw(&self, vm: VmId);
}

/// The wall clock, for moments that people read. Waiting is done on tokio's clock.
pub trait Clock: Send + Sync + Debug {
    /// Now.
    fn now(&self) -> Timestamp;
}

/// The host's wall clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        // A clock before 1970 shows as 1970; nothing is decided by it.
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

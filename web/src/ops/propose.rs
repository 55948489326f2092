//! Proposing a command, with what every verb needs around it: who, under which key, and names in place of ids when the
//! cluster refuses.

use crate::{
    caller::Caller,
    problem::{Failure, Names},
    request_id,
};
use waifud_consensus::{
    Committed, Handle, Proposal, ProposeError,
    state::{ReadError, View},
};
use waifud_model::{
    command::{Actor, Command, Origin, Reply, RequestKey},
    reject::Reject,
    scope::Scope,
};

/// Who asks, and under which key: what makes a command an [`Envelope`](waifud_model::command::Envelope).
#[derive(Debug, Clone)]
pub(crate) struct Author {
    /// Who.
    pub(crate) actor: Actor,
    /// Which VMs they may know of.
    pub(crate) scope: Scope,
    /// The request's key.
    pub(crate) key: RequestKey,
}

/// What became of a command.
#[derive(Debug)]
pub(crate) struct Done<T> {
    /// Its place in the log; goes out as `Waifu-Index`.
    pub(crate) index: u64,
    /// An earlier request with the same key had done it already.
    pub(crate) replayed: bool,
    /// The object as it is now.
    pub(crate) value: T,
}

impl<T> Done<T> {
    /// The same, with another value.
    pub(crate) fn map<U>(self, f: impl FnOnce(T) -> U) -> Done<U> {
        Done { index: self.index, replayed: self.replayed, value: f(self.value) }
    }
}

impl Author {
    /// The caller, who sends a request under this key.
    pub(crate) fn new(caller: Caller, key: RequestKey) -> Self {
        let Caller { actor, scope, .. } = caller;
        Self { actor, scope, key }
    }

    /// What an earlier request with the same key gave, when this one cannot be proposed any more: its VM is gone by now, or
    /// no node has room for a second one. Otherwise the failure stands.
    pub(crate) async fn replay_or(&self, consensus: &Handle, failure: Failure) -> Result<Committed, Failure> {
        if self.key.origin != Origin::Client {
            return Err(failure);
        }
        let (actor, key) = (self.actor.clone(), self.key.clone());
        match consensus.read(move |view| view.remembered(&actor, &key)).await? {
            Some(Ok(reply)) => Ok(Committed { index: consensus.applied().borrow().index, reply, replayed: true }),
            Some(Err(reject)) => Err(Failure::Rejected { reject, names: Box::default() }),
            None => Err(failure),
        }
    }

    /// Proposes `command`; a reject comes back as it is, for verbs that know what to do about it.
    pub(crate) async fn try_propose(
        &self,
        consensus: &Handle,
        command: Command,
    ) -> Result<Result<Committed, Reject>, Failure> {
        let request_id = request_id::current();
        let proposal = Proposal { request: self.key.clone(), actor: self.actor.clone(), command, request_id };
        // The log of the cluster has no request ids. These lines are in the span of the request, which has its id, and the
        // index is that of the command in the log, in the audit trail and on every node.
        match consensus.propose(proposal).await {
            Ok(committed) => {
                tracing::info!(
                    index = committed.index,
                    replayed = committed.replayed,
                    "the cluster agreed to a command"
                );
                Ok(Ok(committed))
            }
            Err(ProposeError::Rejected { index, reject }) => {
                tracing::info!(index, "the cluster refused a command");
                Ok(Err(reject))
            }
            Err(error) => Err(Failure::Propose(error)),
        }
    }

    /// Proposes `command`.
    pub(crate) async fn propose(&self, consensus: &Handle, command: Command) -> Result<Committed, Failure> {
        match self.try_propose(consensus, command).await? {
            Ok(committed) => Ok(committed),
            Err(reject) => Err(rejected(consensus, &self.scope, reject).await),
        }
    }
}

/// The reject as a failure with the names that somebody with this scope may know. If they cannot be read, ids must do.
pub(crate) async fn rejected(consensus: &Handle, scope: &Scope, reject: Reject) -> Failure {
    let (about, scope) = (reject.clone(), scope.clone());
    let names = consensus.read(move |view| names(view, &scope, &about)).await.unwrap_or_else(|error| {
        let error = &error as &dyn std::error::Error;
        tracing::warn!(error, "the names for a reject could not be read");
        Names::default()
    });
    Failure::Rejected { reject, names: Box::new(names) }
}

/// The names that a reject is about.
fn names(view: &View<'_>, scope: &Scope, reject: &Reject) -> Result<Names, ReadError> {
    let (nodes, vms) = match reject {
        Reject::NotYours(node)
        | Reject::NoSuchNode(node)
        | Reject::NodeNameTaken { holder: node, .. }
        | Reject::NodeTaken { holder: node, .. }
        | Reject::NodeHasVms { node, .. }
        | Reject::Cordoned(node)
        | Reject::DoesNotFit { node, .. }
        | Reject::NoSuchBridge { node, .. }
        | Reject::NoAddress(node) => (Some(*node), None),
        Reject::VmNameTaken { node, holder, .. } => (Some(*node), Some(*holder)),
        Reject::NoSuchVm(vm)
        | Reject::VmDeleting(vm)
        | Reject::Protected(vm)
        | Reject::NotRunning(vm)
        | Reject::NotDeleting(vm)
        | Reject::Stale { vm, .. } => (None, Some(*vm)),
        _ => (None, None),
    };
    let mut names = Names::default();
    if let Some(node) = nodes.map(|id| view.node(id)).transpose()?.flatten() {
        names.nodes.insert(node.id, node.name);
        names.bridges = node.capacity.bridges;
    }
    if let Some(vm) = vms.map(|id| view.vm(id)).transpose()?.flatten().filter(|vm| scope.has(&vm.spec.labels)) {
        names.vms.insert(vm.id, vm.name);
    }
    Ok(names)
}

/// Takes the object out of a reply. Apply answers each command with one kind only.
pub(crate) fn expect<T>(committed: Committed, take: impl FnOnce(Reply) -> Option<T>) -> Result<Done<T>, Failure> {
    let Committed { index, reply, replayed, .. } = committed;
    take(reply)
        .map(|value| Done { index, replayed, value })
        .ok_or(Failure::Internal("the reply is of another kind than the command"))
}

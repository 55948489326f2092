//! What a node knows of Raft, in our words.

use crate::{
    database::Halted,
    raft::{Raft, types::Types},
};
use openraft::{Instant as _, RaftMetrics, ServerState, async_runtime::WatchReceiver, errors::Fatal};
use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    time::Duration,
};
use tokio::{sync::watch, time::Instant};
use waifud_model::ids::NodeId;

/// Indexes change with every commit; whoever watches them for people or metrics need not be woken thousands of times a second.
const PACE: Duration = Duration::from_millis(50);

/// What this node does in Raft.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// It follows and has no vote; or it belongs to no cluster yet.
    Learner,
    /// It follows.
    Follower,
    /// It asks for votes.
    Candidate,
    /// It leads, or thinks so.
    Leader,
    /// It takes no part any more: its storage failed, or it was shut down.
    Halted,
}

/// A node's knowledge of Raft at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// This node.
    pub node: NodeId,
    /// What it does.
    pub role: Role,
    /// The current term.
    pub term: u64,
    /// Who leads, as far as this node knows.
    pub leader: Option<NodeId>,
    /// Who may vote; while the voters change, those of before and after.
    pub voters: BTreeSet<NodeId>,
    /// The membership is changing, and the change is not committed yet. If it is one of voters, a majority of those of
    /// before is needed as well as one of those of after.
    pub membership_changing: bool,
    /// Who follows without a vote.
    pub learners: BTreeSet<NodeId>,
    /// The last index in this node's log.
    pub last_log: u64,
    /// The last index this node has applied.
    pub applied: u64,
    /// The last index in this node's newest snapshot.
    pub snapshot: Option<u64>,
    /// The last index this node has purged from its log.
    pub purged: Option<u64>,
    /// When a majority last confirmed this node's leadership; on the leader only.
    pub last_quorum_ack: Option<Instant>,
    /// The last index each of the others has; on the leader only.
    pub matched: BTreeMap<NodeId, u64>,
    /// Why this node takes no part any more. It must be looked at by a person; restarting it tries again.
    pub halted: Option<String>,
}

/// Why Raft ended, if it ended by itself.
pub(crate) fn halted(reason: &Halted, running: &Result<(), Fatal<Types>>) -> Option<String> {
    match (reason.get(), running) {
        (Some(reason), _) => Some(reason.to_owned()),
        (None, Ok(())) => None,
        (None, Err(Fatal::Stopped)) => Some("it was shut down".into()),
        (None, Err(fatal)) => Some(fatal.to_string()),
    }
}

impl Status {
    fn of(metrics: &RaftMetrics<Types>, reason: &Halted) -> Self {
        let halted = halted(reason, &metrics.running_state);
        let membership = metrics.membership_config.membership();
        let matched = |(node, id): (&NodeId, &Option<crate::raft::types::LogId>)| Some((*node, id.as_ref()?.index()));
        Self {
            node: metrics.id,
            role: match metrics.state {
                _ if halted.is_some() => Role::Halted,
                ServerState::Learner => Role::Learner,
                ServerState::Follower => Role::Follower,
                ServerState::Candidate => Role::Candidate,
                ServerState::Leader => Role::Leader,
                ServerState::Shutdown => Role::Halted,
            },
            term: metrics.current_term,
            leader: metrics.current_leader,
            voters: membership.voter_ids().collect(),
            membership_changing: membership.get_joint_config().len() > 1
                || metrics.committed_membership_config != metrics.membership_config,
            learners: membership.learner_ids().collect(),
            last_log: metrics.last_log_index.unwrap_or(0),
            applied: metrics.last_applied.map_or(0, |id| id.index()),
            snapshot: metrics.snapshot.map(|id| id.index()),
            purged: metrics.purged.map(|id| id.index()),
            last_quorum_ack: metrics.last_quorum_acked.and_then(|at| Instant::now().checked_sub(at.elapsed())),
            matched: metrics.replication.iter().flatten().filter_map(matched).collect(),
            halted,
        }
    }
}

/// A watched status, and the task that keeps it current until Raft ends.
pub(super) fn follow(
    node: NodeId,
    raft: &Raft,
    halted: &Halted,
) -> (watch::Receiver<Status>, impl Future<Output = ()> + Send + 'static) {
    let (mut all, mut server) = (raft.metrics(), raft.server_metrics());
    let (sender, receiver) = watch::channel(Status::of(&all.borrow_watched(), halted));
    let halted = halted.clone();
    let task = async move {
        tracing::debug!(%node, "following Raft");
        loop {
            tokio::select! {
                biased;
                changed = server.changed() => if changed.is_err() { break },
                changed = paced(&mut all) => if !changed { break },
            }
            let status = Status::of(&all.borrow_watched(), &halted);
            sender.send_if_modified(|current| {
                let modified = *current != status;
                *current = status;
                modified
            });
        }
        // Raft's last word.
        sender.send_replace(Status::of(&all.borrow_watched(), &halted));
    };
    (receiver, task)
}

/// Waits for a change, and a little for more of them. False: there will be none.
async fn paced<R, W>(metrics: &mut R) -> bool
where
    R: WatchReceiver<W, RaftMetrics<Types>>,
    W: openraft::async_runtime::Watch,
{
    let changed = metrics.changed().await.is_ok();
    if changed {
        tokio::time::sleep(PACE).await;
    }
    changed
}

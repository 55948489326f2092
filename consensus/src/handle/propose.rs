//! Proposing: find the leader, bring the proposal there, wait until it is applied here too.
//!
//! ```text
//!              ┌──────────────── not the leader / not reached / lost on the way: again, a little later ───┐
//!              v                                                                                          │
//!   who leads? ── this node ──> stamp, client_write ──┐                                                   │
//!              ├─ another ────> forward ──────────────┴──> answer ── accepted, rejected ──> wait for the local replica
//!              └─ nobody ─────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Every try carries the same request key, so a try that was lost on the way and happened after all is harmless.

use super::{Handle, ProposeError, quorum};
use crate::{
    raft::{
        types::Logged,
        wire::{self, Proposal, ProposalAnswer},
    },
    transport::{RpcKind, TransportError},
};
use openraft::{
    async_runtime::WatchReceiver,
    errors::{ClientWriteError, RaftError},
};
use std::{sync::atomic::Ordering, time::Duration};
use tokio::time::{Instant, sleep, timeout_at};
use waifud_model::{
    command::{Envelope, Reply},
    ids::NodeId,
};

/// The pauses between tries. A new leader is there within the election timeout, and a change of leader ends a pause early,
/// so these only keep a node from spinning.
const PAUSES: [Duration; 3] = [Duration::from_millis(10), Duration::from_millis(20), Duration::from_millis(40)];

/// So many times in a row a node that says who leads is believed at once. Two that name each other must not be asked in turn
/// without a pause.
const HOPS: u32 = 2;

/// What came of an accepted proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// Where in the log. The local replica has applied it, unless that took longer than
    /// [`Timing::local_apply`](crate::Timing::local_apply).
    pub index: u64,
    /// What it gave.
    pub reply: Reply,
    /// True: the same request was accepted before, and this is the reply of then.
    pub replayed: bool,
}

/// One try.
enum Try {
    /// The node asked has answered.
    Answer(ProposalAnswer),
    /// There is nobody to ask, or the proposal certainly did not get there.
    Nothing,
    /// It was sent and not answered.
    Lost,
}

impl Handle {
    /// Has the cluster agree to a command. Works on every node.
    ///
    /// It returns when the local replica has applied the command, so that a reader on this node sees it. With no leader
    /// in sight it tries again for [`Timing::answer_within`](crate::Timing::answer_within), and then says why not.
    ///
    /// # Errors
    /// The command is refused, or it could not be brought into the log; see [`ProposeError`] for what is certain then.
    pub async fn propose(&self, proposal: Proposal) -> Result<Committed, ProposeError> {
        self.inner.requests.proposals.fetch_add(1, Ordering::Relaxed);
        let deadline = Instant::now() + self.inner.config.timing.answer_within;
        let mut pauses = PAUSES.into_iter().chain(std::iter::repeat(PAUSES[PAUSES.len() - 1]));
        let mut hint = None;
        let mut hops = 0;
        let mut lost = false;
        loop {
            if let Some(why) = self.halted() {
                return Err(if lost { ProposeError::Unknown } else { ProposeError::Halted(why) });
            }
            let leader = hint.take().or_else(|| self.leader());
            match self.attempt(&proposal, leader, deadline).await {
                Try::Answer(ProposalAnswer::Accepted { index, reply, replayed }) => {
                    self.wait_applied(index, self.inner.config.timing.local_apply).await;
                    return Ok(Committed { index, reply, replayed });
                }
                Try::Answer(ProposalAnswer::Rejected { index, reject }) => {
                    // The reader must find the reason, too.
                    self.wait_applied(index, self.inner.config.timing.local_apply).await;
                    return Err(ProposeError::Rejected { index, reject });
                }
                Try::Answer(ProposalAnswer::ClockSkew { offset_ms }) if !lost => {
                    return Err(ProposeError::ClockSkew { offset_ms });
                }
                Try::Answer(ProposalAnswer::NotLeader { leader: other }) => {
                    hint = other.filter(|other| Some(*other) != leader);
                }
                Try::Answer(ProposalAnswer::ClockSkew { .. } | ProposalAnswer::Halted { .. }) | Try::Nothing => {}
                Try::Answer(ProposalAnswer::Unknown) | Try::Lost => lost = true,
            }
            let pause = pauses.next().unwrap_or_default();
            if let Some(no) = self.no(lost, Instant::now() + pause >= deadline) {
                return Err(no);
            }
            self.inner.requests.retries.fetch_add(1, Ordering::Relaxed);
            if hint.is_some() && hops < HOPS {
                hops += 1;
            } else {
                hops = 0;
                self.pause(pause).await;
            }
        }
    }

    async fn attempt(&self, proposal: &Proposal, leader: Option<NodeId>, deadline: Instant) -> Try {
        match leader {
            None => Try::Nothing,
            Some(leader) if leader == self.me() => match timeout_at(deadline, self.lead(proposal.clone())).await {
                Ok(answer) => Try::Answer(answer),
                Err(_) => Try::Lost,
            },
            Some(leader) => {
                self.inner.requests.forwarded.fetch_add(1, Ordering::Relaxed);
                tokio::select! {
                    biased;
                    tried = self.forward(proposal, leader, deadline) => tried,
                    // A dead leader answers nothing; its successor may know.
                    () = self.succeeded(leader) => Try::Lost,
                }
            }
        }
    }

    async fn forward(&self, proposal: &Proposal, leader: NodeId, deadline: Instant) -> Try {
        let body = match wire::pack_named(proposal) {
            Ok(body) => body,
            Err(error) => {
                tracing::error!(%error, "a proposal cannot be sent");
                return Try::Nothing;
            }
        };
        let left = deadline.saturating_duration_since(Instant::now());
        let answer = timeout_at(deadline, self.inner.transport.call(leader, RpcKind::Propose, body, left)).await;
        match answer {
            Ok(Ok(bytes)) => wire::unpack_named(&bytes).map_or_else(
                |error| {
                    tracing::warn!(%error, %leader, "the answer to a proposal does not read");
                    Try::Lost
                },
                Try::Answer,
            ),
            Ok(Err(TransportError::Unreachable { .. })) => Try::Nothing,
            Ok(Err(TransportError::Timeout { .. } | TransportError::Broken { .. })) | Err(_) => Try::Lost,
        }
    }

    /// Writes a proposal into the log, as the leader.
    pub(super) async fn lead(&self, proposal: Proposal) -> ProposalAnswer {
        if let Some(why) = self.halted() {
            return ProposalAnswer::Halted { why };
        }
        {
            let liveness = self.inner.liveness.borrow();
            if liveness.clock_is_wrong() {
                return ProposalAnswer::ClockSkew { offset_ms: liveness.clock_offset_ms };
            }
        }
        let Proposal { request, actor, command, request_id: _ } = proposal;
        let logged = match Logged::encode(&Envelope { request, actor, at: (self.inner.config.clock)(), command }) {
            Ok(logged) => logged,
            Err(error) => return ProposalAnswer::Halted { why: format!("a command cannot be encoded: {error}") },
        };
        match self.inner.raft.client_write(logged).await {
            Ok(written) => ProposalAnswer::of(&written.log_id, written.data),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) => {
                ProposalAnswer::NotLeader { leader: forward.leader_id.filter(|leader| *leader != self.me()) }
            }
            // It is in the log of this node, perhaps of others.
            Err(RaftError::APIError(_) | RaftError::Fatal(_)) => ProposalAnswer::Unknown,
        }
    }

    /// Who leads, as far as this node knows.
    pub(super) fn leader(&self) -> Option<NodeId> {
        self.inner.raft.metrics().borrow_watched().current_leader
    }

    /// Waits until this node knows of another leader than that one.
    async fn succeeded(&self, leader: NodeId) {
        let mut status = self.inner.status.clone();
        if status.wait_for(|status| status.leader.is_some_and(|now| now != leader)).await.is_err() {
            // Nobody follows Raft any more; the deadline ends the wait.
            std::future::pending().await
        }
    }

    /// Waits a little, or until this node hears of another leader than it knows of now.
    pub(super) async fn pause(&self, pause: Duration) {
        let mut status = self.inner.status.clone();
        let known = status.borrow().leader;
        tokio::select! {
            biased;
            Ok(_) = status.wait_for(|status| status.leader.is_some() && status.leader != known) => {}
            () = sleep(pause) => {}
        }
    }

    /// The no to give now, if it is time for one.
    fn no(&self, lost: bool, late: bool) -> Option<ProposeError> {
        let missing = self.minority(late);
        match (lost, late, missing) {
            (true, true, _) => Some(ProposeError::Unknown),
            (true, false, _) | (false, false, None) => None,
            (false, _, Some(missing)) => Some(ProposeError::NoQuorum { alive: missing.alive, voters: missing.voters }),
            (false, true, None) => Some(ProposeError::NoLeaderYet),
        }
    }

    /// Whether too few voters are alive. At first only those count as dead that gossip saw die: a node that has just started
    /// knows of nobody. When time is up, those that it never saw count as dead too.
    pub(super) fn minority(&self, late: bool) -> Option<quorum::Minority> {
        let me = self.me();
        let liveness = self.inner.liveness.borrow();
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        quorum::minority(metrics.membership_config.membership().get_joint_config(), |node| {
            *node == me || if late { liveness.alive.contains(node) } else { !liveness.dead_since.contains_key(node) }
        })
    }
}

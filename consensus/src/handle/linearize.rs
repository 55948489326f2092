//! Linearizable reads on any node: ask the leader how far to wait, then wait for the local replica.

use super::{Handle, LinearizeError};
use crate::{
    raft::wire::{self, ReadIndexAnswer},
    transport::RpcKind,
};
use bytes::Bytes;
use openraft::{
    ReadPolicy,
    errors::{LinearizableReadError, RaftError},
};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use waifud_model::ids::NodeId;

/// Between tries; a change of leader ends it early.
const PAUSE: Duration = Duration::from_millis(20);

impl Handle {
    /// Waits until this node has applied everything that was committed anywhere before the call. Returns up to where; a
    /// [`read`](Self::read) after it is linearizable.
    ///
    /// # Errors
    /// If no leader confirms it, or the local replica does not get that far, within `timeout`.
    pub async fn linearize(&self, timeout: Duration) -> Result<u64, LinearizeError> {
        let deadline = Instant::now() + timeout;
        let index = loop {
            if let Some(why) = self.halted() {
                return Err(LinearizeError::Halted(why));
            }
            let leader = self.leader();
            if let Some(ReadIndexAnswer::Upto { index }) = self.ask(leader, deadline).await {
                break index;
            }
            let late = Instant::now() + PAUSE >= deadline;
            if let Some(missing) = self.minority(late) {
                return Err(LinearizeError::NoQuorum { alive: missing.alive, voters: missing.voters });
            }
            if late {
                return Err(LinearizeError::NoLeaderYet);
            }
            self.pause(PAUSE).await;
        };
        if self.wait_applied(index, deadline.saturating_duration_since(Instant::now())).await {
            Ok(index)
        } else {
            Err(LinearizeError::Behind { index, applied: self.applied().borrow().index })
        }
    }

    async fn ask(&self, leader: Option<NodeId>, deadline: Instant) -> Option<ReadIndexAnswer> {
        let leader = leader?;
        if leader == self.me() {
            return timeout_at(deadline, self.read_index()).await.ok();
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let call = self.inner.transport.call(leader, RpcKind::ReadIndex, Bytes::new(), left);
        let answer = timeout_at(deadline, call).await.ok()?.ok()?;
        wire::unpack_named(&answer).ok()
    }

    /// As the leader: how far a reader must be. A majority confirms that this node still leads; its own clock is not trusted.
    pub(super) async fn read_index(&self) -> ReadIndexAnswer {
        match self.inner.raft.get_read_log_id(ReadPolicy::ReadIndex).await {
            Ok((id, _)) => ReadIndexAnswer::Upto { index: id.index() },
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => {
                ReadIndexAnswer::NotLeader { leader: forward.leader_id }
            }
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => {
                ReadIndexAnswer::NotLeader { leader: None }
            }
            Err(RaftError::Fatal(fatal)) => ReadIndexAnswer::Halted { why: self.why(&fatal) },
        }
    }
}

//! The end: with leadership handed over, or at once.

use super::{Handle, Role};
use openraft::async_runtime::WatchReceiver;
use std::{sync::PoisonError, time::Duration};
use tokio::task::AbortHandle;
use waifud_model::ids::NodeId;

/// A hand-over takes some ten milliseconds. If it does not come off in this time, the others elect somebody by themselves.
const HAND_OVER: Duration = Duration::from_secs(1);

impl Handle {
    /// Hands leadership over, finishes what is queued, and closes the databases. The directory is free afterwards.
    ///
    /// Other handles of this node answer [`ProposeError::Halted`](super::ProposeError::Halted) from now on.
    pub async fn shutdown(&self) {
        if let Some(heir) = self.heir() {
            self.hand_over(heir).await;
        }
        self.stop().await;
    }

    /// Stops at once, as a crash would, but with nothing left running: for tests and the simulation.
    pub async fn stop(&self) {
        self.inner.tasks.iter().for_each(AbortHandle::abort);
        if let Err(error) = self.inner.raft.shutdown().await {
            tracing::warn!(%error, "Raft did not stop cleanly");
        }
        self.inner.log.close().await;
        self.inner.state.close().await;
        self.inner.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Who should lead next, if this node does now: the voter with the most of the log, the living first.
    fn heir(&self) -> Option<NodeId> {
        let metrics = self.inner.raft.metrics().borrow_watched().clone();
        let me = self.me();
        if metrics.current_leader != Some(me) {
            return None;
        }
        let matched = metrics.replication.as_ref()?;
        let liveness = self.inner.liveness.borrow();
        let rank = |node: &NodeId| (!liveness.dead_since.contains_key(node), matched.get(node).copied().flatten());
        metrics.membership_config.membership().voter_ids().filter(|node| *node != me).max_by_key(rank)
    }

    async fn hand_over(&self, heir: NodeId) {
        let me = self.me();
        if self.inner.raft.trigger().transfer_leader(heir).await.is_err() {
            return;
        }
        let mut status = self.inner.status.clone();
        let done =
            status.wait_for(|status| status.role != Role::Leader && status.leader.is_some_and(|leader| leader != me));
        if !matches!(tokio::time::timeout(HAND_OVER, done).await, Ok(Ok(_))) {
            tracing::warn!(%heir, "leadership was not taken over in time");
        }
    }
}

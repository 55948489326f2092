//! A leader that nobody answers falls silent for a while, so that the others can elect somebody they can talk to.
//!
//! Its heartbeats may arrive although no answer does: a firewall that lets one direction through, a full table somewhere.
//! The followers then hold on to a leader that can commit nothing. openraft has a remedy of its own
//! (`quorum_loss_probe_interval`), but it falls silent as soon as the lease is out, which plain packet loss does to a healthy
//! leader every few minutes; that deposes leaders for nothing.

use super::Raft;
use openraft::{Instant as _, async_runtime::WatchReceiver};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use waifud_model::ids::NodeId;

/// So many leases without a majority's answer are no bad luck any more: at 20 % loss, one in millions.
const LEASES_OF_PATIENCE: u32 = 4;

/// The silence must outlast a follower's longest wait before it asks for votes, which is two leases.
const LEASES_OF_SILENCE: u32 = 3;

/// Runs until it is aborted.
pub(crate) async fn watch(me: NodeId, lease: Duration, raft: Raft) {
    let mut server = raft.server_metrics();
    let mut leads_since: Option<Instant> = None;
    loop {
        let (leads, alone, acked) = {
            let metrics = raft.metrics();
            let metrics = metrics.borrow_watched();
            let voters = metrics.membership_config.membership().voter_ids().count();
            (metrics.current_leader == Some(me), voters <= 1, metrics.last_quorum_acked.map(|at| at.elapsed()))
        };
        if !leads || alone {
            leads_since = None;
            if server.changed().await.is_err() {
                return;
            }
            continue;
        }
        let led = leads_since.get_or_insert_with(Instant::now).elapsed();
        // Before the first answer, leadership itself is the news that a majority is there.
        if acked.unwrap_or(led).min(led) > lease * LEASES_OF_PATIENCE {
            tracing::warn!("no majority answers this leader: it falls silent");
            raft.runtime_config().heartbeat(false);
            sleep(lease * LEASES_OF_SILENCE).await;
            raft.runtime_config().heartbeat(true);
            leads_since = None;
        }
        sleep(lease).await;
    }
}

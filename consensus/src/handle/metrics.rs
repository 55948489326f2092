//! Counters for `/metrics` and benchmarks.

use crate::{database::Counters, log::LogStore, raft::applied::AppliedState, snapshot::Snapshots};
use std::sync::atomic::{AtomicU64, Ordering};

/// How much was done since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Metrics {
    /// Transactions, each with an fsync, of the log.
    pub log_commits: u64,
    /// Appends, votes, truncations and purges they contained.
    pub log_jobs: u64,
    /// Batches applied to the state, and snapshots installed into it.
    pub state_batches: u64,
    /// Snapshots built here.
    pub snapshots_built: u64,
    /// Snapshots received from another node.
    pub snapshots_received: u64,
    /// Proposals made on this node.
    pub proposals: u64,
    /// Tries that went to another node.
    pub forwarded: u64,
    /// Tries after the first.
    pub retries: u64,
}

/// What the handle itself counts.
#[derive(Debug, Default)]
pub(super) struct Requests {
    pub(super) proposals: AtomicU64,
    pub(super) forwarded: AtomicU64,
    pub(super) retries: AtomicU64,
}

impl Metrics {
    pub(super) fn of(log: &LogStore, state: &AppliedState, snapshots: &Snapshots, requests: &Requests) -> Self {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Counters { commits, jobs } = log.counters();
        let (snapshots_built, snapshots_received) = snapshots.counts();
        Self {
            log_commits: get(commits),
            log_jobs: get(jobs),
            state_batches: get(&state.counters().jobs),
            snapshots_built,
            snapshots_received,
            proposals: get(&requests.proposals),
            forwarded: get(&requests.forwarded),
            retries: get(&requests.retries),
        }
    }
}

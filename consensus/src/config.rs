//! What a node's consensus is started with: where it keeps its files, how patient it is, and the edges it may not reach for itself.
//!
//! In: plain values from the composition root or a test. Out: nothing but the values. No file is opened and no clock is read here.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};
use waifud_model::{ids::NodeId, time::Timestamp};

/// Tells the wall-clock time. The leader stamps commands with it; tests and the simulation bring their own.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Everything [`Handle::start`](crate::Handle::start) wants to know.
#[derive(Clone)]
pub struct Config {
    /// Holds `log.db`, `state.db` and `snapshots/`; made if absent. One process at a time.
    pub dir: PathBuf,
    /// This node.
    pub node: NodeId,
    /// How patient it is.
    pub timing: Timing,
    /// Who runs database work, and how durably.
    pub storage: Storage,
    /// When the log is folded into a snapshot.
    pub snapshot: SnapshotRule,
    /// When a dead voter is replaced.
    pub voters: VoterRule,
    /// What commands are stamped with while this node leads.
    pub clock: Clock,
}

impl Config {
    /// A configuration with the defaults for real machines.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>, node: NodeId, clock: Clock) -> Self {
        Self {
            dir: dir.into(),
            node,
            timing: Timing::default(),
            storage: Storage::Threads,
            snapshot: SnapshotRule::default(),
            voters: VoterRule::default(),
            clock,
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("dir", &self.dir)
            .field("node", &self.node)
            .field("timing", &self.timing)
            .field("storage", &self.storage)
            .field("snapshot", &self.snapshot)
            .field("voters", &self.voters)
            .finish_non_exhaustive()
    }
}

/// How long things may take.
///
/// A follower waits `election_max` (the leader's lease) and then a random time between `election_min` and `election_max`
/// after the last heartbeat before it asks for votes. With the defaults that is 575-750 ms: three heartbeats may be lost
/// in a row before a lease runs out, and even then a pre-vote is refused while any voter still hears the leader, so that
/// loss alone does not depose one; and three nodes have a new leader about 0.6 s after the old one died.
/// Every follower costs the leader eight heartbeats a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How often a leader says that it lives.
    pub heartbeat: Duration,
    /// The shortest random wait before an election.
    pub election_min: Duration,
    /// The longest, and the leader's lease.
    pub election_max: Duration,
    /// How long a proposal may look for a leader and wait for its commit before it is answered with an error.
    pub answer_within: Duration,
    /// How long a committed proposal waits for the local replica, so that clients read their own writes.
    pub local_apply: Duration,
    /// How long one snapshot may take to be sent and installed.
    pub snapshot_transfer: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(125),
            election_min: Duration::from_millis(200),
            election_max: Duration::from_millis(375),
            answer_within: Duration::from_secs(1),
            local_apply: Duration::from_secs(1),
            snapshot_transfer: Duration::from_secs(120),
        }
    }
}

/// Who runs database work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// A writer thread for each database, with group commit; reads on the runtime's blocking threads. Durable.
    Threads,
    /// Everything on the calling thread and nothing anywhere else: the same calls in the same order, for simulation.
    Inline {
        /// False: no fsync at all. A simulation never loses power for real.
        durable: bool,
    },
}

/// When the log is folded into a snapshot and purged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotRule {
    /// A snapshot is built when this many entries were committed since the last one.
    pub every: u64,
    /// This many entries before the snapshot stay in the log, so that a follower that was away for a moment catches up
    /// from the log instead of fetching the whole state.
    pub keep: u64,
}

impl Default for SnapshotRule {
    fn default() -> Self {
        Self { every: 10_000, keep: 2_000 }
    }
}

/// When the membership reconciler gives a voter up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VoterRule {
    /// A voter that has been dead this long is replaced by a live learner. Long enough for a reboot.
    pub replace_dead_after: Duration,
}

impl Default for VoterRule {
    fn default() -> Self {
        Self { replace_dead_after: Duration::from_secs(600) }
    }
}

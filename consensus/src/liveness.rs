//! Who is alive, as gossip sees it: the one thing consensus is told from outside.
//!
//! In: whatever the composition root derives from gossip. Out: when a dead voter is replaced, and which of the two noes a
//! client hears. It never decides what is committed, and apply never sees it.

use std::collections::{BTreeMap, BTreeSet};
use tokio::time::Instant;
use waifud_model::ids::NodeId;

/// A node's view of its peers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Liveness {
    /// Who is alive. The node itself need not be listed.
    pub alive: BTreeSet<NodeId>,
    /// Since when the dead have been dead, by the monotonic clock of this node.
    pub dead_since: BTreeMap<NodeId, Instant>,
    /// How far this node's wall clock is from the median of all clocks, in milliseconds; zero while nobody can tell.
    pub clock_offset_ms: i64,
}

/// A leader whose clock is further off than this does not stamp commands: log time never goes back, so one wrong stamp from
/// the future would stay with the cluster for as long.
const CLOCK_TOLERANCE_MS: u64 = 5 * 60 * 1000;

impl Liveness {
    /// Whether this node's clock is too far off to stamp commands with.
    #[must_use]
    pub const fn clock_is_wrong(&self) -> bool {
        self.clock_offset_ms.unsigned_abs() > CLOCK_TOLERANCE_MS
    }
}

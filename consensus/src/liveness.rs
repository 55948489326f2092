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

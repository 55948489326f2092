//! How much happened in a run: enough to see that a seed tries what it should.

use serde::{Deserialize, Serialize};
use std::ops::AddAssign;

/// Counts of one run, or of many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Things done by the client or by the weather, with all invariants checked after each.
    pub steps: u64,
    /// Writes that were acknowledged to the client.
    pub writes: u64,
    /// Writes that were refused by the rules.
    pub refused: u64,
    /// Writes that came to nothing, or of which it is not known.
    pub unanswered: u64,
    /// Of these, what a node did alone, without the cluster.
    pub alone: u64,
    /// VMs that existed.
    pub vms: u64,
    /// Terms, and so elections.
    pub terms: u64,
    /// Nodes that fell over or were shut down.
    pub crashes: u64,
    /// Snapshots sent to a node.
    pub snapshots: u64,
    /// Messages between nodes.
    pub messages: u64,
    /// Milliseconds of simulated time.
    pub millis: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.steps += other.steps;
        self.writes += other.writes;
        self.refused += other.refused;
        self.unanswered += other.unanswered;
        self.alone += other.alone;
        self.vms += other.vms;
        self.terms += other.terms;
        self.crashes += other.crashes;
        self.snapshots += other.snapshots;
        self.messages += other.messages;
        self.millis += other.millis;
    }
}

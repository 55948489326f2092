//! How much is measured.

use super::load::Pace;
use std::time::Duration;

/// A part of the benchmark that can be run alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Part {
    /// The disk; etcd, bare Raft and the API one after the other: writes, the loss of the leader, idling.
    Writes,
    /// Many VMs as records: creating, listing, idling.
    Records,
    /// Ten thousand VMs as records, on nodes that are silent: creating, listing, idling.
    Crowd,
    /// A guest that boots.
    Guests,
    /// What a guest is told on 169.254.169.254.
    Metadata,
    /// Names of new VMs.
    Names,
    /// From a guest of one node to a guest of another.
    Mesh,
}

/// Counts and times.
#[derive(Debug, Clone)]
pub struct Scale {
    /// How long clients write.
    pub(super) pace: Pace,
    /// How many clients write at once.
    pub(super) clients: [usize; 3],
    /// Writes of the disk alone.
    pub(super) syncs: usize,
    /// How often the leader is killed, and how often it is stopped.
    pub(super) losses: usize,
    /// How long nothing is done.
    pub(super) idle: Duration,
    /// VMs that are created by one client, for the time each takes.
    pub(super) alone: usize,
    /// VMs in all.
    pub(super) vms: usize,
    /// How often they are listed.
    pub(super) lists: usize,
    /// Nodes that never say a word, …
    pub(super) silent: usize,
    /// … and the VMs that they have together.
    pub(super) crowd: usize,
    /// How often a guest boots.
    pub(super) boots: usize,
    /// Guests that ask for metadata.
    pub(super) askers: usize,
    /// Names that are waited for.
    pub(super) names: usize,
    /// How long bytes go through the mesh.
    pub(super) bulk: Duration,
    /// How often they do.
    pub(super) rounds: usize,
}

impl Scale {
    /// Enough for figures that mean something.
    #[must_use]
    pub fn full() -> Self {
        Self {
            pace: Pace { warm_up: Duration::from_secs(1), time: Duration::from_secs(5) },
            clients: [1, 64, 512],
            syncs: 2000,
            losses: 20,
            idle: Duration::from_secs(30),
            alone: 200,
            vms: 1000,
            lists: 200,
            silent: 300,
            crowd: 10_000,
            boots: 5,
            // Each may ask 100 times a second; a subnet has no more than 253.
            askers: 250,
            names: 100,
            bulk: Duration::from_secs(5),
            rounds: 3,
        }
    }

    /// Just enough to see that everything that is measured works.
    #[must_use]
    pub fn smoke() -> Self {
        Self {
            pace: Pace { warm_up: Duration::from_millis(50), time: Duration::from_millis(300) },
            clients: [1, 4, 16],
            syncs: 50,
            losses: 1,
            idle: Duration::from_millis(500),
            alone: 3,
            vms: 10,
            lists: 3,
            silent: 5,
            crowd: 50,
            boots: 1,
            askers: 60,
            names: 3,
            bulk: Duration::from_secs(1),
            rounds: 1,
        }
    }
}

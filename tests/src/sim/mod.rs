//! Whole clusters in simulated time: three nodes with real openraft, real SQLite, real apply, placement and reconcile, in one
//! thread, on a network, hypervisors and clocks that do what a seed says.
//!
//! In: a seed. Out: an [`Outcome`]: which invariant broke, if one did, and a trace that is the same for the same seed.
//!
//! ```text
//!   seed ──> Dice ──┬─> scenario: a step, all invariants, a step …  ──> healing, then everything must come right
//!                   ├─> client ──> consensus Handle of any node             (liveness)
//!                   ├─> weather ──> crashes, cuts, slow and failing hosts
//!                   └─> Fabric: delay, loss, duplicates
//!
//!   Host (outlives the daemon): fake hypervisor, disks, images, network, files, clock
//!   Node (the daemon):          Handle + Reconciler on the Host
//! ```
//!
//! The same seed gives the same run only where every random number of the process follows from it: std's hash keys, tokio's
//! scheduler, openraft's timeouts. `waifud-sim` sees to that, and runs each seed in a process of its own; elsewhere a run
//! checks the same but cannot be replayed.
//!
//! What must not be here: a change of the product that only the simulation needs. [Planted bugs](Planted) are wrapped
//! around its edges.

mod client;
mod clock;
mod dice;
mod fabric;
mod gossip;
mod host;
mod invariants;
mod liveness;
mod node;
mod oracle;
mod panics;
mod planted;
mod ports;
mod scenario;
mod settled;
mod tally;
mod trace;
mod verbs;
mod weather;
mod world;

pub use dice::Dice;
pub use planted::Planted;
pub use tally::Tally;

use serde::{Deserialize, Serialize};
use std::{
    fmt,
    io::Write,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// What to simulate.
pub struct Run {
    /// Everything follows from it.
    pub seed: u64,
    /// A bug to find.
    pub planted: Option<Planted>,
    /// The nodes' files go here, and are left there.
    pub dir: PathBuf,
    /// Where the trace is written, if anywhere.
    pub echo: Option<Box<dyn Write + Send>>,
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run").field("seed", &self.seed).field("planted", &self.planted).finish_non_exhaustive()
    }
}

/// What came of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// BLAKE3 of the trace, in hex.
    pub trace: String,
    /// The first thing that must not be, if there was one.
    pub violation: Option<String>,
    /// How much happened.
    pub tally: Tally,
}

/// Runs a seed to its end, or to the first violation.
///
/// # Errors
/// If the simulation itself cannot be set up; that says nothing about the product.
pub fn run(run: Run) -> anyhow::Result<Outcome> {
    panics::watch();
    waifud_consensus::seed_this_thread(run.seed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    let outcome = runtime.block_on(scenario::play(run));
    // What is still under way ends here, not in the middle of what comes next.
    drop(runtime);
    outcome
}

/// The simulation is one thread: a lock is never waited for, and a panic while one is held is found by [`panics`].
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! Who votes: the membership follows the node table.
//!
//! In: the node table (which nodes there should be), Raft's membership (which there are), gossip's liveness and the
//! followers' progress. Out: one membership change at a time. [`plan`] decides and is pure; the task executes on the leader
//! only, and looks again at everything after every step.

mod plan;
mod task;

pub use plan::{Situation, Step, plan, target};
pub(crate) use task::run;

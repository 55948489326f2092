//! The replicated log of this node: `log.db`, with the entries, the vote, and how far it was purged.
//!
//! In: what openraft wants kept. Out: what it wants read, at once for what is recent. An entry counts as written, and a vote
//! as given, only after an fsync. Any failure stops the node; nothing here knows what a command means.
//!
//! ```text
//!   append ──> tail (memory) ──> writer ──> commit + fsync ──> openraft is told
//!                 │                                             the tail may forget it
//!   read  <──────┴── older ── log.db
//! ```

mod rows;
mod schema;
mod store;
mod tail;

pub(crate) use store::LogStore;

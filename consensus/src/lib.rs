//! The replicated state: openraft over two SQLite files a node.
//!
//! In: typed [`Command`](waifud_model::command::Command)s from whoever holds a [`Handle`], requests of other nodes through
//! [`Handle::serve_call`], and who is alive through [`Liveness`]. Out: replies, the applied state through
//! [`Handle::read`], and [`Status`]. How bytes reach another node is the [`Transport`]'s business; this crate knows no
//! addresses, no HTTP, no gossip and no hypervisor, and apply never sees anything but the log.
//!
//! ```text
//!   propose ──> Handle ──(leader here)────────> openraft ──> log/    log.db: entries and vote, fsynced, group commit
//!                  │                               │
//!                  └──(leader elsewhere)──> Transport        └──> state/  state.db: the applied state, last_applied, membership
//!                                                                    │
//!   read ──> read-only connections ──────────────────────────────────┘      snapshot/  the state in one file
//!                                                   voters/  on the leader: who votes
//! ```

pub mod config;
mod database;
mod handle;
pub mod liveness;
mod log;
mod raft;
mod snapshot;
pub mod state;
pub mod transport;
pub mod voters;

pub use config::{Clock, Config, SnapshotRule, Storage, Timing, VoterRule};
pub use database::LockError;
pub use handle::{
    Applied, BootstrapError, Committed, Handle, LinearizeError, Metrics, Proposal, ProposeError, ReadError, Role,
    ServeError, StartError, Status, Stopped,
};
pub use liveness::Liveness;
pub use raft::runtime::seed as seed_this_thread;
pub use transport::{RpcKind, Transport, TransportError};

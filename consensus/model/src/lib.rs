//! What the cluster is made of, without the cluster: ids, validated names, sizes, records, commands and rules.
//!
//! Everything here is a pure value or a pure function. Time, randomness and fresh ids come in as arguments, so that the
//! same input gives the same output on every node and in every test. This crate knows no tokio, no SQLite, no clock and
//! no network; `clippy.toml` bans the calls that would smuggle them in.
//!
//! ```text
//!   names, sizes, ids ──> records (Node, Vm, Template…) ──> Command + Envelope ──> (consensus applies) ──> Reply | Reject
//!                                  │
//!                                  ├──> change      what a VM is made of after a change
//!                                  ├──> placement   where a VM goes, and why not elsewhere
//!                                  ├──> network     subnets, addresses, MACs
//!                                  └──> invariant   what must be true of every state
//! ```

mod bytes;
pub mod change;
pub mod cloud_init;
pub mod command;
pub mod digest;
pub mod event;
pub mod hardware;
pub mod ids;
pub mod invariant;
pub mod labels;
pub mod mesh;
pub mod name;
pub mod network;
pub mod node;
pub mod observed;
pub mod placement;
pub mod reject;
pub mod scope;
pub mod size;
pub mod state;
pub mod template;
pub mod time;
pub mod token;
mod verb;
pub mod vm;

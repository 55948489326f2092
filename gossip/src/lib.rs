//! Peers: one QUIC endpoint, who may use it, who is alive, and what the nodes see.
//!
//! ```text
//!   replicated node table ──(PeerTable)──┐
//!   IdentityDir ──(Identity)─────────────┤
//!                                        v
//!        Raft, API, images <──> Peers: one UDP port, mutual TLS, one connection a peer
//!                                        │
//!                                        v
//!                            Gossip ──> Members (alive, since) and Observations (who sees what)
//! ```
//!
//! This crate knows nothing of consensus: it moves bytes to authenticated peers, tells who is alive, and spreads small
//! observations. It decides nothing. Gossip is never stored and never read by apply.

mod durable;
pub mod identity;
pub mod join;
pub mod membership;
pub mod peers;
mod table;

pub use table::{Peer, PeerTable, PeerTableWatch};

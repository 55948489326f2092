//! The metadata service: a userspace TCP stack, the HTTP of three clouds, the shared cache.
//!
//! ```text
//!   decrypted IPv4 packets ──> stack ──> serve ──> Guests (the node's replica) ──> documents
//!                          who asks = the accepted socket's remote end  └──> cache: what the replica does not have yet
//! ```
//!
//! This crate listens on nothing of the host and knows no WireGuard: packets come by a channel.

pub mod cache;
pub mod serve;
pub mod stack;

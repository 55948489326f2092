//! The endpoint, gossip and join over real sockets on the loopback interface.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on should stop where it stands")]

mod cluster;
mod join;
mod membership;
mod peers;
mod refusals;

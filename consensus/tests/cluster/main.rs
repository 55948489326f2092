//! Whole clusters in one process. Most run in simulated time on one thread, with storage inline; a few run as real nodes do,
//! with threads and fsync.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod commands;
mod faults;
mod growth;
mod harness;
mod history;
mod storage;
mod writes;

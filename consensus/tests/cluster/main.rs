//! Whole clusters in one process. Most run in simulated time on one thread, with storage inline; a few run as real nodes do,
//! with threads and fsync.

mod commands;
mod faults;
mod growth;
mod harness;
mod storage;
mod writes;

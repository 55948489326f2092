//! The daemon.

pub mod config;
pub mod console;
pub mod daemon;
pub mod facts;
pub mod faults;
pub mod hypervisor;
pub mod images;
pub mod names;
pub mod net;
pub mod reconcile;
pub mod volumes;

#[cfg(test)]
mod small_disk;

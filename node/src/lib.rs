//! The daemon.

pub mod faults;
pub mod hypervisor;
pub mod images;
pub mod net;
pub mod volumes;

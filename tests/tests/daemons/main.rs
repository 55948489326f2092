//! Real daemons on hosts without guests: what the cluster must survive, one file a kind of trouble.
//!
//! VMs are records here (libvirt's test driver); those that boot are in `tests/guests`.
#![expect(clippy::expect_used, reason = "these are tests, though not marked as such for the lint")]

mod apply;
mod creates;
mod events;
mod garbage;
mod moved;
mod openapi;
mod quorum;
mod rolling;
mod scope;
mod secrets;
mod support;
mod templates;
mod tls;

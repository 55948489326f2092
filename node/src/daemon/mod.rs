//! The composition root: the only place that knows every crate. It opens what has to be open, starts what has to run, and
//! stops it in the opposite order. No decision is made here that could be tested elsewhere.
//!
//! ```text
//!   identity, first table ──> Peers ──> Gossip ──────────────┐
//!                              │          │ liveness          │ observations
//!                              v          v                   v
//!                           RaftLink ─> consensus Handle ─> web App ─> local socket, peers' HTTP
//!                                         │ own record (subnet)         HTTPS, once the CA is known
//!                                         v
//!                           libvirt, volumes, images, network ─> Reconciler
//! ```

mod cache;
mod clock;
mod console_ports;
mod desk;
mod doctor;
mod guest_services;
mod guests;
mod https;
mod image_ports;
mod init;
mod instance;
mod join;
mod layout;
mod listen;
mod membership;
mod mesh;
mod observer;
mod outside;
mod override_keeper;
mod overrides;
mod peer_http;
mod raft_link;
mod random;
mod reconcile_ports;
mod run;
mod skew;
mod stop_guests;
mod upkeep;
mod usage;
mod watchdog;
mod workload;

pub use init::{InitError, Initialised, init};
pub use join::{JoinError, Joined, join};
pub use override_keeper::Keeper;
pub use overrides::{Override, Overrides, OverridesError};
pub use reconcile_ports::{NodeProposer, ReplicaIntent};
pub use run::{RunError, run};
pub use stop_guests::{StopGuestsError, StoppedGuests, stop_guests};

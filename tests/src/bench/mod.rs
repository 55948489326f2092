//! Measurements of the whole, each beside something that bounds it, taken in the same run on the same machine: etcd's
//! daemons on the same hosts and the same disk, plain libvirt with the same image, nginx and stock WireGuard on the same network,
//! the disk itself.
//!
//! In: how much to measure ([`Scale`]) and which [`Part`]s. Out: a [`Table`]. Absolute figures say little about another
//! machine; the ratios do. Nothing here passes or fails by time: a measurement fails only when what it measures does.
//!
//! ```text
//!   load   clients in a closed loop ──> Measured: p50, p99, per second
//!     ├─ etcd      gRPC over its socket          grpc
//!     ├─ raft      consensus alone, its load made inside the nodes' own processes (raft_node)
//!     ├─ writes    HTTP over the API's socket    http
//!     └─ metadata  HTTP from guests' addresses   documents
//!   gap      the longest time without an acknowledged write, around a leader's end
//!   idle     memory and CPU of processes that do nothing
//!   records  many VMs that are not started: create, list, idle again
//!   many     ten times as many, on nodes that are one process and then none (crowd)
//!   guests   a real guest, by waifud and by virsh
//!   names    from a VM's creation to its name on another node
//!   mesh     bytes from guest to guest, by waifud's mesh and by stock programs (stock)
//!   stand_in plays the guests of the last three
//! ```

mod crowd;
mod documents;
mod etcd;
mod floor;
mod gap;
mod grpc;
mod guests;
mod http;
mod idle;
mod load;
mod many;
mod mesh;
mod metadata;
mod names;
mod raft;
mod raft_node;
mod records;
mod scale;
mod stand_in;
mod stock;
mod table;
mod writes;

pub use crowd::{Crowd, make as make_crowd};
pub use raft_node::serve as serve_raft;
pub use scale::{Part, Scale};
pub use table::Table;

use anyhow::Result;
use std::collections::BTreeSet;

/// Takes all measurements of these parts, one after the other, and tells `progress` what it is at.
///
/// # Errors
/// When something that is measured fails. What was measured before is in the table.
pub async fn run(scale: &Scale, parts: &BTreeSet<Part>, table: &mut Table, progress: &dyn Fn(&str)) -> Result<()> {
    for part in parts {
        match part {
            Part::Writes => writes::measure(scale, table, progress).await?,
            Part::Records => records::measure(scale, table, progress).await?,
            Part::Crowd => many::measure(scale, table, progress).await?,
            Part::Guests => guests::measure(scale, table, progress).await?,
            Part::Metadata => metadata::measure(scale, table, progress).await?,
            Part::Names => names::measure(scale, table, progress).await?,
            Part::Mesh => mesh::measure(scale, table, progress).await?,
        }
    }
    Ok(())
}

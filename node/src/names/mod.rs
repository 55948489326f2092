//! Names of VMs and nodes as DNS: `<vm>.waifu.internal`, `<node>.node.waifu.internal` and the way back from addresses.
//!
//! In: questions that the guests' dnsmasq forwards, and what the local replica says about the whole cluster; out:
//! answers, also without quorum. This room asks nobody else for names: what lies outside of the zone is refused, and
//! dnsmasq sends it elsewhere by itself.
//!
//! ```text
//!   guest ──> dnsmasq on the bridge ──(our zones)──> server ──> zone (pure) ──> Records: the replica
//!                     └──(all else)──> the host's resolvers, or [network] dns
//! ```
//!
//! While waifud is away, dnsmasq says nothing to questions for these zones, and whoever asked asks again; it never says
//! a wrong address, for it keeps no names of its own and remembers an answer for [`TTL`] seconds. DHCP and all other
//! names are not touched.

mod replica;
mod server;
mod wire;
mod zone;

pub use replica::Replica;
pub use server::{DEFAULT_LISTEN, NameServer};
pub use zone::{TTL, Zone, reverse_zones};

use async_trait::async_trait;
use std::{error::Error, fmt::Debug, net::Ipv4Addr};
use waifud_model::name::{NodeName, VmName};

/// Who has an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// A VM, of whatever node.
    Vm(VmName),
    /// A node, on the bridge of its guests.
    Node(NodeName),
}

/// What names are made of. Every call is one look-up by an index, so that its price does not grow with the cluster.
#[async_trait]
pub trait Records: Send + Sync + Debug {
    /// The VM's address; none if there is no such VM.
    ///
    /// # Errors
    /// If it cannot be told.
    async fn vm(&self, name: &VmName) -> Result<Option<Ipv4Addr>, RecordsError>;

    /// The node's address on the bridge of its guests; none if there is no such node.
    ///
    /// # Errors
    /// If it cannot be told.
    async fn node(&self, name: &NodeName) -> Result<Option<Ipv4Addr>, RecordsError>;

    /// Who has the address; none if it is free.
    ///
    /// # Errors
    /// If it cannot be told.
    async fn owner(&self, ip: Ipv4Addr) -> Result<Option<Owner>, RecordsError>;
}

/// The records cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("names cannot be looked up")]
pub struct RecordsError(#[source] pub Box<dyn Error + Send + Sync>);

#[cfg(test)]
pub(crate) mod tests;

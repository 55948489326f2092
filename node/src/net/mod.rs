//! The guests' network on this node: a bridge with a DHCP and DNS server, and the packet filter around it. In: the node's
//! subnet and what the replicated state says about each VM's address; out: leases that match it, and a name that domains
//! are attached to.
//!
//! Addresses are never chosen here: apply allocates them, this room only hands them out.

mod addresses;
mod calls;
mod dnsmasq;
pub mod fake;
mod filter;
mod firewall;
mod layout;
mod leases;
mod libvirt;
mod mesh;
mod neighbours;
mod netlink;
mod resolved;
mod routes;
mod tailscale;
mod xml;

pub use addresses::reach_by;
pub use layout::{DOMAIN, FILTER, MESH, METADATA, NETWORK, NetworkLayout};
pub use libvirt::{LibvirtNetwork, Setup};
pub use mesh::{Members, Own};
pub use resolved::{Registered, Registration, Resolved, ResolvedError};
pub use routes::{UsedNetwork, conflicting, conflicts, refuse_overlap};
pub use tailscale::{Advertised, SOCKET as TAILSCALE_SOCKET, Tailscale, TailscaleError};

use async_trait::async_trait;
use ipnet::Ipv4Net;
use std::{fmt::Debug, io, net::Ipv4Addr, path::PathBuf, time::Duration};
use waifud_model::{ids::VmId, observed::Sighting, time::Timestamp, vm::Mac};

/// An address that is kept for a VM.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reservation {
    /// The address.
    pub ip: Ipv4Addr,
    /// The network card that gets it.
    pub mac: Mac,
}

impl Reservation {
    /// True if the two cannot stand beside each other: they share the address or the card.
    #[must_use]
    pub fn collides(&self, other: &Self) -> bool {
        self.ip == other.ip || self.mac == other.mac
    }
}

/// A guest was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Met {
    /// Its address.
    pub ip: Ipv4Addr,
    /// By what.
    pub by: Sighting,
    /// When last, by this host's clock.
    pub at: Timestamp,
}

/// What a domain has to be told of the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// The libvirt network.
    pub network: String,
    /// The packet filter for its interface; takes the address as parameter `IP`.
    pub filter: String,
    /// Largest packet, in bytes; the guests' and the bridge's.
    pub mtu: u32,
}

/// Gives guests their addresses.
#[async_trait]
pub trait GuestNetwork: Send + Sync + Debug {
    /// From now on `mac` gets `ip`. What stood in the way (another entry with that address or card) is replaced: the
    /// replicated state hands nothing out twice, so it is stale. Names are not told here, but by
    /// [`names`](crate::names): a DHCP server remembers them for as long as its leases, also of VMs that are gone.
    ///
    /// # Errors
    /// If the guest would not get its address. A repetition does no harm.
    async fn reserve(&self, vm: VmId, ip: Ipv4Addr, mac: Mac) -> Result<(), NetworkError>;

    /// Forgets the reservation of `mac`; nothing happens if there is none.
    ///
    /// # Errors
    /// If it may still be there.
    async fn release(&self, vm: VmId, ip: Ipv4Addr, mac: Mac) -> Result<(), NetworkError>;

    /// All reservations, in the order of their addresses.
    ///
    /// # Errors
    /// If it cannot be told.
    async fn reserved(&self) -> Result<Vec<Reservation>, NetworkError>;

    /// How guests were met on this network, for as long as it is remembered: leases they took, and addresses they answered for.
    ///
    /// # Errors
    /// If it cannot be told.
    async fn met(&self) -> Result<Vec<Met>, NetworkError>;

    /// What domains are attached to.
    fn attachment(&self) -> Attachment;
}

/// Why the guests' network could not be set up or changed.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// libvirt refused, or cannot be reached.
    #[error("libvirt could not {doing}: {said}")]
    Libvirt {
        /// What was tried.
        doing: &'static str,
        /// What it said.
        said: String,
    },
    /// libvirt did not answer. Whether the change took effect is unknown; it may be made again.
    #[error("libvirt did not answer within {} s when asked to {doing}", after.as_secs())]
    Hung {
        /// What it was asked.
        doing: &'static str,
        /// How long it was given.
        after: Duration,
    },
    /// The cluster's addresses are in use on this host.
    #[error(
        "{cidr} overlaps what this host already uses ({}); choose another range for the cluster ([network] cidr)",
        found.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    )]
    Overlap {
        /// The cluster's range.
        cidr: Ipv4Net,
        /// What it would cut off.
        found: Vec<UsedNetwork>,
    },
    /// The kernel does not tell its routes.
    #[error("the kernel's routes cannot be read")]
    Routes {
        /// Why not.
        source: rtnetlink::Error,
    },
    /// An interface cannot have an address.
    #[error("{interface} cannot have the address {address}")]
    Address {
        /// The address.
        address: Ipv4Addr,
        /// The interface.
        interface: String,
        /// Why not.
        source: rtnetlink::Error,
    },
    /// The kernel does not tell its neighbours.
    #[error("the kernel's neighbours cannot be read")]
    Neighbours {
        /// Why not.
        source: rtnetlink::Error,
    },
    /// The kernel may not be told to route.
    #[error("packets cannot be passed on between interfaces ({path})", path = path.display())]
    Forwarding {
        /// The switch.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// nft could not be run.
    #[error("nft cannot be run; is nftables installed?")]
    Firewall {
        /// Why not.
        source: io::Error,
    },
    /// nft did not end. Whether the filter took effect is unknown; it may be put in force again.
    #[error("nft did not end within {} s; does another program hold its lock?", after.as_secs())]
    FirewallHung {
        /// How long it was given.
        after: Duration,
    },
    /// nft refused.
    #[error("nft refuses the guests' packet filter: {said}")]
    Ruleset {
        /// What it said.
        said: String,
    },
}

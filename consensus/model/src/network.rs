//! Who gets which addresses: a subnet for each node out of the cluster's CIDR, an address for each VM out of its node's subnet.
//!
//! Both are given next-fit: the search begins after the one given last and wraps around, so that what was freed last is
//! given again last, when caches, leases and open connections have forgotten its former holder. What is taken comes in
//! as a question; nothing here remembers anything.
//!
//! ```text
//!   10.77.0.0/16 ──> 10.77.0.0/24   .0 network   .1 gateway (the node)   .2 … .254 guests   .255 broadcast
//!                    10.77.1.0/24   …
//! ```

use ipnet::Ipv4Net;
use std::net::Ipv4Addr;

/// What all VMs' addresses are taken from, unless `waifud init` is told otherwise. Rarely used by others, unlike the
/// beginnings of 10/8, 172.16/12 and 192.168/16.
pub const DEFAULT_CIDR: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(10, 77, 0, 0), 16);

/// The prefix length of a node's subnet, unless `waifud init` is told otherwise: 253 guests on each of 256 nodes.
pub const DEFAULT_SUBNET_PREFIX: u8 = 24;

/// The largest subnet of a node. More guests than this do not fit on one bridge's forwarding table in good health.
const SUBNET_PREFIX_MIN: u8 = 16;
/// The smallest subnet of a node: 13 guests.
const SUBNET_PREFIX_MAX: u8 = 28;

/// Address blocks that are free for private use: RFC 1918, RFC 6598 (shared by carriers, and by Tailscale in part) and
/// RFC 2544 (benchmarks).
const PRIVATE: [Ipv4Net; 5] = [
    Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 0, 0), 8),
    Ipv4Net::new_assert(Ipv4Addr::new(172, 16, 0, 0), 12),
    Ipv4Net::new_assert(Ipv4Addr::new(192, 168, 0, 0), 16),
    Ipv4Net::new_assert(Ipv4Addr::new(100, 64, 0, 0), 10),
    Ipv4Net::new_assert(Ipv4Addr::new(198, 18, 0, 0), 15),
];

/// Why a CIDR or a subnet size cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// Bits beyond the prefix are set.
    #[error("{given} is an address within a network; the network is {meant}")]
    HostBits {
        /// What was given.
        given: Ipv4Net,
        /// What was probably meant.
        meant: Ipv4Net,
    },
    /// The addresses belong to others, or cannot be routed.
    #[error("{0} is not for private use; take a network within 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16")]
    NotPrivate(Ipv4Net),
    /// A node's subnet would be too large or too small.
    #[error("a node's subnet of /{0} is not possible; choose /16 to /28")]
    SubnetPrefix(u8),
    /// Not even one node's subnet fits.
    #[error("a node's subnet of /{prefix} does not fit into {cidr}")]
    TooNarrow {
        /// The cluster's network.
        cidr: Ipv4Net,
        /// The prefix length of a node's subnet.
        prefix: u8,
    },
}

/// Checks a cluster's CIDR and the prefix length of its nodes' subnets.
///
/// # Errors
/// Names the first rule that is broken.
pub fn check(cidr: Ipv4Net, subnet_prefix: u8) -> Result<(), CidrError> {
    if cidr.trunc() != cidr {
        return Err(CidrError::HostBits { given: cidr, meant: cidr.trunc() });
    }
    if !PRIVATE.iter().any(|private| private.contains(&cidr)) {
        return Err(CidrError::NotPrivate(cidr));
    }
    if !(SUBNET_PREFIX_MIN..=SUBNET_PREFIX_MAX).contains(&subnet_prefix) {
        return Err(CidrError::SubnetPrefix(subnet_prefix));
    }
    if subnet_prefix < cidr.prefix_len() {
        return Err(CidrError::TooNarrow { cidr, prefix: subnet_prefix });
    }
    Ok(())
}

/// Those of the host's `routes` that the cluster's network would hide, or be hidden by.
///
/// Default routes cover everything and hide nothing; VPN clients write them as two halves (0/1 and 128/1).
#[must_use]
pub fn overlaps(cidr: Ipv4Net, routes: &[Ipv4Net]) -> Vec<Ipv4Net> {
    let hides = |route: &&Ipv4Net| route.prefix_len() > 1 && (route.contains(&cidr) || cidr.contains(*route));
    routes.iter().filter(hides).copied().collect()
}

/// All subnets of `cidr` in the order they are to be tried in: from the one after `last`, once around.
///
/// Empty if the sizes do not go together.
pub fn subnets(cidr: Ipv4Net, prefix: u8, last: Option<Ipv4Net>) -> impl Iterator<Item = Ipv4Net> {
    let step = 1_u64.checked_shl(32_u32.saturating_sub(u32::from(prefix))).unwrap_or(0);
    let count = if (cidr.prefix_len()..=32).contains(&prefix) { 1_u64 << (prefix - cidr.prefix_len()) } else { 0 };
    let base = u64::from(cidr.network().to_bits());
    let given = last.filter(|last| cidr.contains(last)).map(|last| (u64::from(last.network().to_bits()) - base) / step);
    let first = given.map_or(0, |given| given + 1);
    (0..count).filter_map(move |n| {
        let bits = u32::try_from(base + (first + n) % count * step).ok()?;
        Ipv4Net::new(Ipv4Addr::from_bits(bits), prefix).ok()
    })
}

/// The next free subnet for a node; none if all are taken.
pub fn next_subnet(
    cidr: Ipv4Net,
    prefix: u8,
    last: Option<Ipv4Net>,
    mut taken: impl FnMut(Ipv4Net) -> bool,
) -> Option<Ipv4Net> {
    subnets(cidr, prefix, last).find(|subnet| !taken(*subnet))
}

/// The subnet that machines that are no nodes get their addresses from: the last, which next-fit comes to last. None where
/// the cluster has a single one, which its only node needs.
#[must_use]
pub fn peer_subnet(cidr: Ipv4Net, prefix: u8) -> Option<Ipv4Net> {
    let last = subnets(cidr, prefix, None).last();
    last.filter(|last| last.network() != cidr.network())
}

/// The node's own address in its subnet: the guests' gateway and name server.
#[must_use]
pub fn gateway(subnet: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from_bits(subnet.network().to_bits().saturating_add(1))
}

/// True for addresses that a guest can have: within the subnet, and neither its network, nor its gateway, nor its broadcast address.
#[must_use]
pub fn is_guest(subnet: Ipv4Net, ip: Ipv4Addr) -> bool {
    subnet.contains(&ip) && ip > gateway(subnet) && ip != subnet.broadcast()
}

/// All guest addresses of a subnet in the order they are to be tried in: from the one after `last`, once around.
pub fn guest_addresses(subnet: Ipv4Net, last: Option<Ipv4Addr>) -> impl Iterator<Item = Ipv4Addr> {
    let first = gateway(subnet).to_bits().saturating_add(1);
    // The addresses first..end; for subnets too small to have any, there are none.
    let end = subnet.broadcast().to_bits().max(first);
    let from = last.filter(|last| is_guest(subnet, *last)).map_or(first, |last| last.to_bits() + 1);
    (from..end).chain(first..from.min(end)).map(Ipv4Addr::from_bits)
}

/// The next free guest address; none if all are taken.
pub fn next_address(
    subnet: Ipv4Net,
    last: Option<Ipv4Addr>,
    mut taken: impl FnMut(Ipv4Addr) -> bool,
) -> Option<Ipv4Addr> {
    guest_addresses(subnet, last).find(|ip| !taken(*ip))
}

#[cfg(test)]
mod tests;

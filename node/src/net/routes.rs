//! Are the cluster's addresses free on this host? In: the kernel's routes and addresses; out: those that would be cut
//! off, and those that only a node with a view of the whole cluster can tell from its own. Changes nothing.
//!
//! Ours are what leads to our own interfaces, and the mesh's table. What Tailscale leads to is, within the cluster's
//! addresses, usually ours as well: another node's subnet that its tailscaled offers. Our rules come before
//! Tailscale's, so that nothing is cut off by it; [`conflicts`] names it all the same when it is no node's subnet.

use super::{NetworkError, netlink::Netlink};
use futures::TryStreamExt;
use ipnet::Ipv4Net;
use rtnetlink::{
    Handle, RouteMessageBuilder,
    packet_route::{
        address::AddressAttribute,
        link::LinkAttribute,
        route::{RouteAddress, RouteAttribute},
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, Ipv4Addr},
};
use waifud_mesh::host::plan::TABLE;

/// Addresses that this host uses already.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct UsedNetwork {
    /// Which.
    pub network: Ipv4Net,
    /// The interface they are behind.
    pub interface: String,
}

impl fmt::Display for UsedNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.network, self.interface)
    }
}

/// The interface of tailscaled, unless it is told another name.
const TAILSCALE: &str = "tailscale0";

/// Does `used` meet `cidr`, and is not behind one of our `own` interfaces? Default routes lead everywhere and count as
/// nothing, also in the two halves that some VPNs write them in.
fn meets(cidr: Ipv4Net, used: &UsedNetwork, own: &[&str]) -> bool {
    let net = used.network;
    let shared = net.contains(&cidr.network()) || cidr.contains(&net.network());
    net.prefix_len() > 1 && shared && !own.contains(&used.interface.as_str())
}

fn in_order(found: impl Iterator<Item = UsedNetwork>) -> Vec<UsedNetwork> {
    found.collect::<BTreeSet<_>>().into_iter().collect()
}

/// The networks that overlap `cidr` so that one of the two would be cut off; `own` interfaces are ours.
#[must_use]
pub(super) fn overlaps(cidr: Ipv4Net, used: &[UsedNetwork], own: &[&str]) -> Vec<UsedNetwork> {
    let offered = |used: &UsedNetwork| used.interface == TAILSCALE && cidr.contains(&used.network);
    in_order(used.iter().filter(|used| meets(cidr, used, own) && !offered(used)).cloned())
}

/// All networks of this host that overlap the cluster's addresses or those of a node or a peer, for people to look at.
/// `subnets` are theirs; what Tailscale leads to is no conflict where it is exactly one of them. `own` interfaces are
/// ours.
#[must_use]
pub fn conflicts(cluster: Ipv4Net, subnets: &[Ipv4Net], used: &[UsedNetwork], own: &[&str]) -> Vec<UsedNetwork> {
    let ranges: Vec<_> = [cluster].into_iter().chain(subnets.iter().copied()).collect();
    let offered = |used: &UsedNetwork| used.interface == TAILSCALE && subnets.contains(&used.network);
    let stands_in = |used: &&UsedNetwork| ranges.iter().any(|range| meets(*range, used, own)) && !offered(used);
    in_order(used.iter().filter(stands_in).cloned())
}

/// The [`conflicts`] of this moment.
///
/// # Errors
/// If the kernel does not tell its routes.
pub async fn conflicting(
    cluster: Ipv4Net,
    subnets: &[Ipv4Net],
    own: &[&str],
) -> Result<Vec<UsedNetwork>, NetworkError> {
    let used = used_networks().await.map_err(|source| NetworkError::Routes { source })?;
    Ok(conflicts(cluster, subnets, &used, own))
}

/// Refuses `cidr` where this host already uses a part of it, and names what does. `own` interfaces are ours.
///
/// # Errors
/// If it is used, or the kernel does not say.
pub async fn refuse_overlap(cidr: Ipv4Net, own: &[&str]) -> Result<(), NetworkError> {
    let used = used_networks().await.map_err(|source| NetworkError::Routes { source })?;
    let found = overlaps(cidr, &used, own);
    if found.is_empty() { Ok(()) } else { Err(NetworkError::Overlap { cidr, found }) }
}

/// All IPv4 networks this host has routes to, but by the mesh's table, or addresses in.
async fn used_networks() -> Result<Vec<UsedNetwork>, rtnetlink::Error> {
    let netlink = Netlink::open()?;
    read(&netlink).await
}

async fn read(handle: &Handle) -> Result<Vec<UsedNetwork>, rtnetlink::Error> {
    let mut names = BTreeMap::new();
    let mut links = handle.link().get().execute();
    while let Some(link) = links.try_next().await? {
        let name = link.attributes.into_iter().find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name),
            _ => None,
        });
        names.extend(name.map(|name| (link.header.index, name)));
    }
    let interface = |index: Option<u32>| {
        index.and_then(|index| names.get(&index).cloned()).unwrap_or_else(|| "several interfaces".to_owned())
    };
    let mut used = Vec::new();
    let mut routes = handle.route().get(RouteMessageBuilder::<Ipv4Addr>::new().build()).execute();
    while let Some(route) = routes.try_next().await? {
        let (mut to, mut via, mut table) = (None, None, u32::from(route.header.table));
        for attribute in route.attributes {
            match attribute {
                RouteAttribute::Destination(RouteAddress::Inet(address)) => to = Some(address),
                RouteAttribute::Oif(index) => via = Some(index),
                RouteAttribute::Table(number) => table = number,
                _ => {}
            }
        }
        if table == TABLE {
            continue;
        }
        // Without a destination it is a default route.
        let network = to.and_then(|to| Ipv4Net::new(to, route.header.destination_prefix_length).ok());
        used.extend(network.map(|network| UsedNetwork { network: network.trunc(), interface: interface(via) }));
    }
    // Addresses without a route of their own (noprefixroute) are in use all the same.
    let mut addresses = handle.address().get().execute();
    while let Some(address) = addresses.try_next().await? {
        let ip = address.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Local(IpAddr::V4(ip)) => Some(*ip),
            _ => None,
        });
        let network = ip.and_then(|ip| Ipv4Net::new(ip, address.header.prefix_len).ok());
        let interface = interface(Some(address.header.index));
        used.extend(network.map(|network| UsedNetwork { network: network.trunc(), interface }));
    }
    Ok(used)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(network: &str, interface: &str) -> UsedNetwork {
        UsedNetwork { network: network.parse().unwrap(), interface: interface.to_owned() }
    }

    #[test]
    fn overlaps_are_found_in_both_directions() {
        let host = [
            used("0.0.0.0/0", "eth0"),
            used("10.0.0.0/8", "tun0"),
            used("10.77.3.0/24", "waifubr0"),
            used("10.77.9.0/24", "docker0"),
            used("10.78.0.0/16", "eth1"),
            used("192.168.0.0/24", "eth0"),
        ];
        let found = overlaps("10.77.0.0/16".parse().unwrap(), &host, &["waifubr0"]);
        assert_eq!(found, [used("10.0.0.0/8", "tun0"), used("10.77.9.0/24", "docker0")]);
        assert_eq!(overlaps("172.20.0.0/16".parse().unwrap(), &host, &[]), []);
    }

    #[test]
    fn what_nodes_offer_by_tailscale_cuts_nothing_off() {
        let cluster = "10.77.0.0/16".parse().unwrap();
        let nodes = ["10.77.1.0/24".parse().unwrap(), "10.77.2.0/24".parse().unwrap()];
        let host = [
            used("10.77.1.0/24", "tailscale0"),
            used("10.77.9.0/24", "tailscale0"),
            used("10.0.0.0/8", "tailscale0"),
            used("10.77.2.0/24", "eth1"),
            used("10.77.2.0/24", "waifu0"),
            used("0.0.0.0/1", "tun0"),
        ];
        let own = ["waifubr0", "waifu0"];
        assert_eq!(overlaps(cluster, &host, &own), [used("10.0.0.0/8", "tailscale0"), used("10.77.2.0/24", "eth1")]);
        // For people it is named, unless it is a node's for certain.
        let named =
            [used("10.0.0.0/8", "tailscale0"), used("10.77.2.0/24", "eth1"), used("10.77.9.0/24", "tailscale0")];
        assert_eq!(conflicts(cluster, &nodes, &host, &own), named);
        // A subnet that the cluster's range does not hold.
        let outside = "192.168.50.0/24".parse().unwrap();
        let lan = [used("192.168.0.0/16", "eth0")];
        assert_eq!(conflicts(cluster, &nodes, &lan, &own), []);
        assert_eq!(conflicts(cluster, &[outside], &lan, &own), lan);
    }

    const INSIDE: &str = "WAIFUD_TEST_ROUTES";

    #[test]
    fn the_meshs_table_is_left_out() {
        if std::env::var_os(INSIDE).is_some() {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let found = runtime.block_on(conflicting("10.77.0.0/16".parse().unwrap(), &[], &[])).unwrap();
            assert_eq!(found, [used("10.77.6.0/24", "other0")]);
            return;
        }
        let script = "ip link add other0 type veth peer name other1; ip link set other0 up; ip link set other1 up
            ip route add 10.77.5.0/24 dev other0 table 7744; ip route add 10.77.6.0/24 dev other0 table 7745; exec \"$@\"";
        let output = std::process::Command::new("unshare")
            .args(["--map-root-user", "--net", "sh", "-ec", script, "sh"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "net::routes::tests::the_meshs_table_is_left_out", "--nocapture"])
            .env(INSIDE, "yes")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
    }

    #[tokio::test]
    async fn the_kernel_is_asked() {
        // The loopback has this network on every host and in every namespace in which it is up.
        let error = refuse_overlap("127.0.0.0/16".parse().unwrap(), &[]).await.unwrap_err();
        assert!(error.to_string().contains("127.0.0.0/8 on lo"), "{error}");
        assert!(refuse_overlap("127.0.0.0/16".parse().unwrap(), &["lo"]).await.is_ok());
        // TEST-NET-3, which no host has (RFC 5737).
        refuse_overlap("203.0.113.0/24".parse().unwrap(), &[]).await.unwrap();
    }
}

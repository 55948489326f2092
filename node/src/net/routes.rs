//! Is the cluster's address range free on this host? In: the kernel's routes and addresses; out: those that would be cut off.
//! Changes nothing.

use super::NetworkError;
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
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr},
};

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

/// The networks that overlap `cidr`. Default routes lead everywhere and count as nothing; `own` interfaces are ours.
#[must_use]
pub(super) fn overlaps(cidr: Ipv4Net, used: &[UsedNetwork], own: &[&str]) -> Vec<UsedNetwork> {
    let meets =
        |net: &Ipv4Net| net.prefix_len() > 0 && (net.contains(&cidr.network()) || cidr.contains(&net.network()));
    let mut found: Vec<_> =
        used.iter().filter(|u| meets(&u.network) && !own.contains(&u.interface.as_str())).cloned().collect();
    found.sort();
    found.dedup();
    found
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

/// All IPv4 networks this host has routes to or addresses in.
async fn used_networks() -> Result<Vec<UsedNetwork>, rtnetlink::Error> {
    let (connection, handle, _) =
        rtnetlink::new_connection().map_err(|e| rtnetlink::Error::NamespaceError(e.to_string()))?;
    let connection = tokio::spawn(connection);
    let used = read(&handle).await;
    connection.abort();
    used
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
        let (mut to, mut via) = (None, None);
        for attribute in route.attributes {
            match attribute {
                RouteAttribute::Destination(RouteAddress::Inet(address)) => to = Some(address),
                RouteAttribute::Oif(index) => via = Some(index),
                _ => {}
            }
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

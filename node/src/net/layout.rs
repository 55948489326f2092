//! What the guests' network of a node looks like: pure values that the libvirt network and the packet filter are
//! rendered from. In: the node's subnet, the cluster's addresses, the configuration. No calls go out from here.

use ipnet::Ipv4Net;
use std::net::{Ipv4Addr, SocketAddr};
pub use waifud_cloudinit::instance::DOMAIN;
pub use waifud_mesh::METADATA_ADDRESS as METADATA;

/// The name of the libvirt network.
pub const NETWORK: &str = "waifud";
/// The name of the packet filter on each guest's own interface.
pub const FILTER: &str = "waifud-guest";
/// The interface of the mesh between the nodes: what comes out of it comes from a guest of another node.
pub const MESH: &str = "waifu0";

/// The guests' network of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkLayout {
    /// The bridge guests are plugged into; at most 15 characters.
    pub bridge: String,
    /// Largest packet, in bytes.
    pub mtu: u32,
    /// This node's part of the cluster's addresses.
    pub subnet: Ipv4Net,
    /// All of the cluster's addresses.
    pub cluster: Ipv4Net,
    /// Networks that know their way back to the guests: reached without masquerade, and allowed to reach the guests.
    pub no_masquerade: Vec<Ipv4Net>,
    /// Where names outside of the cluster are resolved; empty means where the host resolves them.
    pub dns: Vec<Ipv4Addr>,
    /// Where this node resolves names of VMs; see [`names`](crate::names).
    pub names: SocketAddr,
}

impl NetworkLayout {
    /// The node's own address on the bridge: the subnet's first.
    #[must_use]
    pub fn gateway(&self) -> Ipv4Addr {
        let network = u32::from(self.subnet.network());
        Ipv4Addr::from(network.saturating_add(1))
    }

    /// Classless static routes (RFC 3442) for DHCP. A client that takes these ignores the router option, so the default
    /// route is among them; the metadata address is, because some images hold all of 169.254/16 to be on the link.
    #[must_use]
    pub fn routes(&self) -> String {
        let gateway = self.gateway();
        format!("{METADATA}/32,{gateway},0.0.0.0/0,{gateway}")
    }
}

#[cfg(test)]
pub(super) fn example() -> NetworkLayout {
    let net = |text: &str| text.parse().unwrap();
    NetworkLayout {
        bridge: "waifubr0".to_owned(),
        mtu: 1420,
        subnet: net("10.77.3.0/24"),
        cluster: net("10.77.0.0/16"),
        no_masquerade: vec![net("192.168.10.0/24")],
        dns: vec![Ipv4Addr::new(9, 9, 9, 9)],
        names: crate::names::DEFAULT_LISTEN,
    }
}

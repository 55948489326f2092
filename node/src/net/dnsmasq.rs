//! What dnsmasq is told beside what libvirt tells it. Pure. In: the layout of the network; out: lines of its
//! configuration.
//!
//! It answers for no name of a VM by itself. Would it know them, from reservations or from what guests call themselves,
//! it would say them for as long as a lease lasts, also when the VM is gone and another node has a new one of that
//! name; and it would know this node's only. It asks the [name server](crate::names) of this node instead. While that
//! is away, names of VMs do not resolve (never wrongly); addresses are given out, and all other names resolve, as ever.

use super::layout::{DOMAIN, MESH, NetworkLayout};
use crate::names::reverse_zones;

/// The lines, in their order.
pub(super) fn options(layout: &NetworkLayout) -> Vec<String> {
    let asked = |zone: &str| format!("server=/{zone}/{}#{}", layout.names.ip(), layout.names.port());
    let fixed = [
        format!("dhcp-option=3,{}", layout.gateway()),
        format!("dhcp-option=121,{}", layout.routes()),
        // The domain to complete names with; option 15, for those who do not know this one, is libvirt's.
        format!("dhcp-option=119,{DOMAIN}"),
        "dhcp-ignore-names".to_owned(),
        // The host's own names, completed with the domain, would come before those of VMs.
        "no-hosts".to_owned(),
        // Laptops and other nodes may ask too; addresses are given to guests only. The interface may come later.
        format!("interface={MESH}"),
        format!("no-dhcp-interface={MESH}"),
        // A VM is found by those, too, who asked for it before it was there.
        "no-negcache".to_owned(),
        asked(DOMAIN),
    ];
    fixed.into_iter().chain(reverse_zones(layout.cluster).iter().map(|zone| asked(zone))).collect()
}

#[cfg(test)]
mod tests;

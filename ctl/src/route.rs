//! Is there a way from this machine to a guest, other than the one to the rest of the world?
//!
//! The kernel is asked which of its addresses it would speak from (a datagram socket is connected; nothing is sent), once for the
//! guest and once for an address that is nobody's. A node, a WireGuard peer and a machine with Tailscale have a route of their own
//! to the guests and so another address. What a router further on knows cannot be seen from here.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

/// TEST-NET-1 (RFC 5737): routed like everything that is nowhere in particular.
const ANYWHERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The discard service: what stands in a connected socket that never sends.
const DISCARD: u16 = 9;

/// Does this machine have a route of its own to `guest`?
pub(crate) fn leads_to(guest: Ipv4Addr) -> bool {
    own(source(guest), source(ANYWHERE))
}

fn source(to: Ipv4Addr) -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    // No route at all is an error here, and the answer.
    socket.connect((to, DISCARD)).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}

fn own(to_guest: Option<IpAddr>, to_anywhere: Option<IpAddr>) -> bool {
    to_guest.is_some() && to_guest != to_anywhere
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_of_its_own_has_an_address_of_its_own() {
        let ip = |last| Some(IpAddr::from([10, 0, 0, last]));
        assert!(own(ip(1), ip(2)));
        assert!(own(ip(1), None), "a machine without a way to the rest of the world");
        assert!(!own(ip(1), ip(1)), "it would go to the default gateway");
        assert!(!own(None, ip(1)) && !own(None, None));
        assert!(leads_to(Ipv4Addr::LOCALHOST));
    }
}

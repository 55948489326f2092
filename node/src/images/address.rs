//! Which addresses an image may be downloaded from. The daemon runs inside of networks that a client of its API may not be
//! able to reach; it must not fetch from there in the client's place. In: names and addresses; out: yes or no. Pure but for
//! the list of the host's own addresses.

use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What may be downloaded from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AddressPolicy {
    /// Everything.
    pub allow_private: bool,
    /// These too: a host's name, `.example.org` for all hosts below it, an address, or a network.
    pub allowed_hosts: Vec<String>,
}

impl AddressPolicy {
    /// Is every address of this name allowed?
    pub(super) fn allows_name(&self, name: &str) -> bool {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        self.allow_private
            || self
                .allowed_hosts
                .iter()
                .map(|allowed| allowed.to_ascii_lowercase())
                .any(|allowed| name == allowed || (allowed.starts_with('.') && name.ends_with(&allowed)))
    }

    /// Is this address allowed, whatever name it was found by? `own` are the host's own addresses.
    pub(super) fn allows_address(&self, address: IpAddr, own: &[IpAddr]) -> bool {
        let listed = |allowed: &String| {
            allowed.parse::<IpAddr>().is_ok_and(|a| a == address)
                || allowed.parse::<IpNet>().is_ok_and(|net| net.contains(&address))
        };
        self.allow_private
            || self.allowed_hosts.iter().any(listed)
            || (is_public(address) && !own.contains(&address.to_canonical()))
    }
}

/// True for addresses that mean the same machine from everywhere (IANA special-purpose registries, RFC 6890).
fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = address.is_loopback()
        || address.is_private()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b)) // carriers' NAT, and Tailscale: RFC 6598
        || (a == 192 && b == 0 && c == 0) // protocol assignments
        || (a == 198 && (b == 18 || b == 19)); // benchmarks: RFC 2544
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let s = address.segments();
    let last = Ipv4Addr::from((u32::from(s[6]) << 16) | u32::from(s[7]));
    match s[0] {
        // NAT64 (RFC 6052) leads to the IPv4 address in its last 32 bits, 6to4 (RFC 3056) to the one behind its prefix.
        0x0064 if s[1] == 0xff9b && s[2..6] == [0; 4] => is_public_v4(last),
        0x2002 => is_public_v4(Ipv4Addr::from((u32::from(s[1]) << 16) | u32::from(s[2]))),
        // Teredo leads to an address that is hidden in it; documentation leads nowhere.
        0x2001 => s[1] != 0 && s[1] != 0x0db8,
        // Global unicast (RFC 4291); all else is loopback, unique local, link-local, multicast or unassigned.
        first => (0x2000..0x4000).contains(&first),
    }
}

/// The addresses of this host's interfaces.
pub(super) fn own_addresses() -> Vec<IpAddr> {
    let interfaces = match nix::ifaddrs::getifaddrs() {
        Ok(interfaces) => interfaces,
        Err(error) => {
            // Private ranges are refused all the same; what is lost is knowing this host's public addresses.
            tracing::warn!(%error, "cannot list this host's addresses");
            return Vec::new();
        }
    };
    let address = |interface: nix::ifaddrs::InterfaceAddress| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
    };
    interfaces.filter_map(address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_allowed() {
        let policy = AddressPolicy::default();
        for public in
            ["1.1.1.1", "93.184.215.14", "172.32.0.1", "2606:4700::1111", "64:ff9b::101:101", "::ffff:1.1.1.1"]
        {
            assert!(policy.allows_address(public.parse().unwrap(), &[]), "{public}");
        }
        for private in [
            "127.0.0.1",
            "127.8.8.8",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "::",
            "::1",
            "fe80::1",
            "fd00::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001::1",
            "2001:db8::1",
            "fec0::1",
        ] {
            assert!(!policy.allows_address(private.parse().unwrap(), &[]), "{private}");
        }
        let own = "1.1.1.1".parse().unwrap();
        assert!(!policy.allows_address(own, &[own]));
    }

    #[test]
    fn what_is_listed_is_allowed() {
        let allowed_hosts = ["mirror.lan", ".example.org", "10.0.0.5", "192.168.7.0/24"].map(str::to_owned).to_vec();
        let policy = AddressPolicy { allow_private: false, allowed_hosts };
        assert!(policy.allows_name("Mirror.LAN.") && policy.allows_name("a.example.org"));
        assert!(
            !policy.allows_name("example.org")
                && !policy.allows_name("xmirror.lan")
                && !policy.allows_name("badexample.org")
        );
        assert!(policy.allows_address("10.0.0.5".parse().unwrap(), &[]));
        assert!(policy.allows_address("192.168.7.9".parse().unwrap(), &[]));
        assert!(!policy.allows_address("10.0.0.6".parse().unwrap(), &[]));
    }
}

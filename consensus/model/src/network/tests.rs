//! Tests of address allocation: overlaps, order of handing out, and that nothing is given twice.

use super::*;
use proptest::{collection::btree_set, prelude::*};
use std::collections::BTreeSet;

fn net(text: &str) -> Ipv4Net {
    text.parse().unwrap()
}

#[test]
fn networks_are_checked() {
    check(DEFAULT_CIDR, DEFAULT_SUBNET_PREFIX).unwrap();
    check(net("192.168.7.0/24"), 24).unwrap();
    check(net("100.64.0.0/10"), 20).unwrap();
    let refused = |cidr, prefix| check(net(cidr), prefix).unwrap_err().to_string();
    assert_eq!(refused("10.77.1.0/16", 24), "10.77.1.0/16 is an address within a network; the network is 10.77.0.0/16");
    for cidr in ["8.8.8.0/24", "0.0.0.0/0", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "10.0.0.0/7"] {
        assert!(refused(cidr, 24).contains("not for private use") || refused(cidr, 24).contains("within a network"));
    }
    assert!(refused("10.77.0.0/16", 15).contains("/16 to /28"));
    assert!(refused("10.77.0.0/16", 29).contains("/16 to /28"));
    assert!(refused("10.77.0.0/25", 24).contains("does not fit"));
}

#[test]
fn routes_overlap_in_both_directions_but_default_routes_do_not_count() {
    let routes =
        ["0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1", "10.0.0.0/8", "10.77.3.0/24", "10.78.0.0/16", "192.168.1.0/24"];
    let routes: Vec<Ipv4Net> = routes.into_iter().map(net).collect();
    assert_eq!(overlaps(DEFAULT_CIDR, &routes), [net("10.0.0.0/8"), net("10.77.3.0/24")]);
}

#[test]
fn the_first_of_everything() {
    let first = next_subnet(DEFAULT_CIDR, 24, None, |_| false).unwrap();
    assert_eq!(first, net("10.77.0.0/24"));
    assert_eq!(gateway(first).to_string(), "10.77.0.1");
    assert_eq!(next_address(first, None, |_| false).unwrap().to_string(), "10.77.0.2");
    assert_eq!(guest_addresses(first, None).count(), 253);
}

#[test]
fn what_was_freed_last_is_given_last() {
    let subnet = net("10.77.0.0/28");
    let mut taken = BTreeSet::new();
    let mut last = None;
    while let Some(ip) = next_address(subnet, last, |ip| taken.contains(&ip)) {
        taken.insert(ip);
        last = Some(ip);
    }
    assert_eq!(taken.len(), 13);
    for freed in ["10.77.0.9", "10.77.0.4"] {
        taken.remove(&freed.parse().unwrap());
    }
    let next = next_address(subnet, last, |ip| taken.contains(&ip)).unwrap();
    assert_eq!(next.to_string(), "10.77.0.4");
    assert_eq!(next_address(subnet, Some(next), |ip| taken.contains(&ip)).unwrap().to_string(), "10.77.0.9");
}

#[test]
fn the_edges_of_the_address_space_do_not_overflow() {
    for subnet in ["255.255.255.0/24", "255.255.255.255/32", "0.0.0.0/0", "255.255.255.254/31"] {
        let subnet = net(subnet);
        let _ = next_address(subnet, Some(subnet.broadcast()), |_| false);
        assert_eq!(subnets(subnet, subnet.prefix_len(), Some(subnet)).collect::<Vec<_>>(), [subnet]);
    }
    assert_eq!(guest_addresses(net("255.255.255.255/32"), None).count(), 0);
    assert_eq!(subnets(DEFAULT_CIDR, 8, None).count(), 0);
    assert_eq!(subnets(DEFAULT_CIDR, 33, None).count(), 0);
}

proptest! {
    /// Every address is tried once, the one after `last` first, `last` itself at the very end.
    #[test]
    fn addresses_go_once_around(prefix in 24_u8..=29, host in 0_u32..256, taken in btree_set(0_u32..256, 0..300)) {
        let subnet = Ipv4Net::new(Ipv4Addr::new(10, 1, 2, 0), prefix).unwrap();
        let ip = |host: u32| Ipv4Addr::from_bits(subnet.network().to_bits() + host);
        let last = ip(host);
        let tried: Vec<_> = guest_addresses(subnet, Some(last)).collect();
        let set: BTreeSet<_> = tried.iter().copied().collect();
        prop_assert_eq!(tried.len(), set.len());
        prop_assert_eq!(set.len(), (1_usize << (32 - prefix)) - 3);
        prop_assert!(set.iter().all(|ip| is_guest(subnet, *ip)));
        if is_guest(subnet, last) {
            prop_assert_eq!(tried.last(), Some(&last));
        }
        let taken: BTreeSet<_> = taken.into_iter().map(ip).collect();
        match next_address(subnet, Some(last), |ip| taken.contains(&ip)) {
            Some(given) => prop_assert!(is_guest(subnet, given) && !taken.contains(&given)),
            None => prop_assert!(set.is_subset(&taken)),
        }
    }

    /// Subnets tile the CIDR: none overlaps another, all are inside, each is tried once.
    #[test]
    fn subnets_go_once_around(cidr_len in 16_u8..=20, more in 0_u8..=6, at in 0_usize..1024) {
        let cidr = Ipv4Net::new(Ipv4Addr::new(172, 16, 0, 0), cidr_len).unwrap();
        let prefix = cidr_len + more;
        let all: Vec<_> = subnets(cidr, prefix, None).collect();
        prop_assert_eq!(all.len(), 1 << more);
        prop_assert!(all.iter().all(|s| cidr.contains(s) && s.trunc() == *s));
        prop_assert!(all.windows(2).all(|pair| pair[0].broadcast() < pair[1].network()));
        let last = all[at % all.len()];
        let mut again: Vec<_> = subnets(cidr, prefix, Some(last)).collect();
        prop_assert_eq!(again.last(), Some(&last));
        again.sort();
        prop_assert_eq!(again, all);
    }
}

//! Tests of the table: longest prefix, and changes that leave the rest alone.

use super::*;
use proptest::prelude::*;
use tokio::sync::mpsc;

fn key(n: u8) -> PrivateKey {
    PrivateKey::from_bytes([n; 32])
}

fn peer(n: u8, networks: &[&str]) -> PeerConfig {
    PeerConfig {
        public_key: key(n).public(),
        endpoint: Some(SocketAddr::from(([192, 0, 2, n], 7444))),
        allowed_ips: networks.iter().map(|network| network.parse().unwrap()).collect(),
        keepalive: None,
    }
}

fn config(peers: Vec<PeerConfig>) -> MeshConfig {
    MeshConfig { private_key: key(200), listen_port: 0, peers }
}

fn empty() -> Table {
    let inside = Inside::new(1420, mpsc::channel(1).0).unwrap();
    Table::new(key(200), Arc::new(inside))
}

fn owner(table: &Table, address: &str) -> String {
    match table.towards(address.parse().unwrap()) {
        None => "nobody".into(),
        Some(Target::Inside(_)) => "metadata".into(),
        Some(Target::Peer(peer)) => (1..10).find(|n| key(*n).public() == peer.key).unwrap().to_string(),
    }
}

#[test]
fn the_longest_prefix_wins() {
    let (table, fresh) = empty().next(&config(vec![
        peer(1, &["10.77.1.0/24"]),
        peer(2, &["10.77.2.0/24", "10.77.1.9/32"]),
        peer(3, &["10.77.0.0/16"]),
    ]));
    assert_eq!(fresh.len(), 3);
    for (address, expected) in [
        ("10.77.1.8", "1"),
        ("10.77.1.9", "2"),
        ("10.77.2.1", "2"),
        ("10.77.9.1", "3"),
        ("10.78.0.1", "nobody"),
        ("169.254.169.254", "metadata"),
        ("169.254.169.253", "nobody"),
    ] {
        assert_eq!(owner(&table, address), expected, "{address}");
    }
}

#[test]
fn no_peer_has_the_metadata_address() {
    let (table, _) = empty().next(&config(vec![peer(1, &["169.254.169.254/32", "169.254.0.0/16"])]));
    assert_eq!(owner(&table, "169.254.169.254"), "metadata");
    assert_eq!(owner(&table, "169.254.1.1"), "1");
    assert!(!table.may_send(&table.peers[0], "169.254.169.254".parse().unwrap()));
}

#[test]
fn a_peer_sends_only_from_what_is_sent_to_it() {
    let (table, _) =
        empty().next(&config(vec![peer(1, &["10.77.1.0/24"]), peer(2, &["10.77.2.0/24", "10.77.1.9/32"])]));
    let may = |n: usize, address: &str| table.may_send(&table.peers[n], address.parse().unwrap());
    assert!(may(0, "10.77.1.1"));
    assert!(!may(0, "10.77.1.9"), "it has moved to the other");
    assert!(may(1, "10.77.1.9"));
    assert!(!may(0, "10.77.2.1"));
    assert!(!may(0, "192.0.2.1"));
}

#[test]
fn who_stays_is_the_same() {
    let (first, _) = empty().next(&config(vec![peer(1, &["10.77.1.0/24"]), peer(2, &["10.77.2.0/24"])]));
    let (second, fresh) = first.next(&config(vec![peer(3, &["10.77.3.0/24"]), peer(2, &["10.77.22.0/24"])]));
    assert_eq!(fresh.len(), 1);
    assert_eq!(fresh[0].key, key(3).public());
    assert!(Arc::ptr_eq(&second.peers[1], &first.peers[1]));
    assert_eq!(owner(&second, "10.77.22.1"), "2");
    assert_eq!(owner(&second, "10.77.2.1"), "nobody");
    assert_eq!(owner(&second, "10.77.1.1"), "nobody");
    let index = second.peers[1].index;
    assert!(second.by_receiver(index << 8 | 0x17).is_some_and(|peer| peer.key == key(2).public()));
    assert!(second.by_receiver(first.peers[0].index << 8).is_none(), "who has gone is not found");
    assert_ne!(second.peers[0].index, first.peers[0].index, "its number is not given to the next");
}

#[test]
fn where_a_peer_has_roamed_to_is_kept_until_the_configuration_changes() {
    let (first, _) = empty().next(&config(vec![peer(1, &[])]));
    let elsewhere = SocketAddr::from(([198, 51, 100, 1], 9));
    first.peers[0].lock().endpoint = Some(elsewhere);
    let (second, _) = first.next(&config(vec![peer(1, &["10.77.1.0/24"])]));
    assert_eq!(second.peers[0].lock().endpoint, Some(elsewhere));
    let mut moved = peer(1, &[]);
    moved.endpoint = None;
    let (third, _) = second.next(&config(vec![moved.clone()]));
    assert_eq!(third.peers[0].lock().endpoint, Some(elsewhere));
    moved.endpoint = Some(SocketAddr::from(([203, 0, 113, 1], 7)));
    moved.keepalive = Some(5);
    let (fourth, fresh) = third.next(&config(vec![moved.clone()]));
    assert!(fresh.is_empty());
    assert_eq!(fourth.peers[0].lock().endpoint, moved.endpoint);
    assert_eq!(fourth.peers[0].lock().keepalive, Some(5));
}

#[test]
fn a_new_key_of_our_own_begins_all_anew() {
    let (first, _) = empty().next(&config(vec![peer(1, &[])]));
    let (second, fresh) = first.next(&MeshConfig { private_key: key(201), ..config(vec![peer(1, &[])]) });
    assert_eq!(fresh.len(), 1);
    assert!(!Arc::ptr_eq(&second.peers[0], &first.peers[0]));
}

proptest! {
    /// The table against the plainest thing that could be right.
    #[test]
    fn as_a_linear_search_would_say(
        networks in proptest::collection::vec((1u8..5, 0u8..4, 0u8..4, 14u8..=32), 0..12),
        addresses in proptest::collection::vec((0u8..4, 0u8..4), 0..12),
    ) {
        let mut peers: Vec<PeerConfig> = (1..5).map(|n| peer(n, &[])).collect();
        for (n, third, fourth, length) in &networks {
            peers[usize::from(*n) - 1].allowed_ips.push(Ipv4Net::new_assert([10, 77, *third, *fourth].into(), *length));
        }
        let (table, _) = empty().next(&config(peers.clone()));
        for (third, fourth) in addresses {
            let address = Ipv4Addr::new(10, 77, third, fourth);
            // Of equal prefixes the last wins.
            let expected = peers
                .iter()
                .flat_map(|peer| peer.allowed_ips.iter().map(move |network| (network, peer)))
                .filter(|(network, _)| network.contains(&address))
                .max_by_key(|(network, _)| network.prefix_len())
                .map(|(_, peer)| peer.public_key);
            let found = match table.towards(address) {
                Some(Target::Peer(peer)) => Some(peer.key),
                _ => None,
            };
            prop_assert_eq!(found, expected);
        }
    }
}

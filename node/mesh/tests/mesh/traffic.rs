//! Packets get where they shall, whatever happens meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use waifud_mesh::{Kind, Mesh, PeerConfig, PrivateKey};

use crate::lab::{Host, Wire, apply, echo, eventually, reach, status_of, stop, transfer};

#[test]
fn two_nodes_reach_each_other_from_the_first_packet_on() {
    let wire = Wire::new();
    let (a, b) = (Host::new(&wire, 1), Host::new(&wire, 2));
    let (one, _link_one) = a.start(&[&b]);
    let (two, _link_two) = b.start(&[&a]);
    echo(&a);
    echo(&b);
    println!("first datagram there and back: {:?}", reach(&a, &b));
    println!("the other way: {:?}", reach(&b, &a));
    assert_eq!(one.kind(), Kind::Userspace);
    for (mesh, peer) in [(&one, &b), (&two, &a)] {
        let status = status_of(mesh, peer);
        assert_eq!(status.endpoint, Some(peer.endpoint()));
        assert!(status.last_handshake.is_some() && status.rx > 0 && status.tx > 0, "{status:?}");
    }
}

#[test]
fn bulk_arrives_whole_both_ways_at_once() {
    let wire = Wire::new();
    let (a, b) = (Host::new(&wire, 1), Host::new(&wire, 2));
    let _one = a.start(&[&b]);
    let _two = b.start(&[&a]);
    const BYTES: u64 = 128 << 20;
    std::thread::scope(|scope| {
        let there = scope.spawn(|| transfer(&a, &b, BYTES));
        let back = scope.spawn(|| transfer(&b, &a, BYTES));
        for (way, took) in [("there", there.join().unwrap()), ("back", back.join().unwrap())] {
            println!("{way}: {:.0} Mbit/s (this build)", BYTES as f64 * 8e-6 / took.as_secs_f64());
        }
    });
}

#[test]
fn a_network_that_carries_less_than_1500_bytes_carries_the_mesh() {
    let wire = Wire::new();
    let (a, b) = (Host::new(&wire, 1), Host::new(&wire, 2));
    for host in [&a, &b] {
        host.space.ip("link set e0 mtu 1300");
    }
    let _one = a.start(&[&b]);
    let _two = b.start(&[&a]);
    transfer(&a, &b, 4 << 20);
}

#[test]
fn peers_come_and_go_while_a_transfer_runs() {
    let wire = Wire::new();
    let (a, b) = (Host::new(&wire, 1), Host::new(&wire, 2));
    let (one, _link_one) = a.start(&[&b]);
    let (two, _link_two) = b.start(&[&a]);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let transfer = scope.spawn(|| {
            transfer(&a, &b, 256 << 20);
            done.store(true, Ordering::SeqCst);
        });
        let mut changes = 0u32;
        while !done.load(Ordering::SeqCst) && !transfer.is_finished() {
            for (host, mesh, peer) in [(&a, &one, &b), (&b, &two, &a)] {
                let mut config = host.config(&[peer]);
                // Another peer that is there every second time, and a network more for the one that matters.
                if changes.is_multiple_of(2) {
                    config.peers.push(PeerConfig {
                        public_key: PrivateKey::from_bytes([99; 32]).public(),
                        endpoint: Some(([192, 0, 2, 99], 9).into()),
                        allowed_ips: vec!["10.77.99.0/24".parse().unwrap()],
                        keepalive: Some(1),
                    });
                    config.peers[0].allowed_ips.push("10.77.98.1/32".parse().unwrap());
                    config.peers[0].keepalive = None;
                }
                apply(host, mesh, config);
            }
            changes += 1;
        }
        transfer.join().unwrap();
        println!("{changes} changes of both ends during the transfer");
        assert!(changes > 1);
    });
    // Had it begun anew, it would have forgotten what it carried.
    assert!(status_of(&one, &b).tx > 256 << 20);
    assert!(status_of(&two, &a).rx > 256 << 20);
}

#[test]
fn a_peer_is_found_where_it_has_gone() {
    let wire = Wire::new();
    let (a, b) = (Host::new(&wire, 1), Host::new(&wire, 2));
    let (one, _link_one) = a.start(&[&b]);
    let (_two, _link_two) = b.start(&[&a]);
    echo(&a);
    echo(&b);
    reach(&a, &b);
    b.space.ip("addr del 192.0.2.2/24 dev e0");
    b.space.ip("addr add 192.0.2.77/24 dev e0");
    // It says something from its new address, and is answered there.
    reach(&b, &a);
    assert_eq!(status_of(&one, &b).endpoint, Some(([192, 0, 2, 77], 7444).into()));
    reach(&a, &b);
    // The same configuration does not call it back.
    apply(&a, &one, a.config(&[&b]));
    assert_eq!(status_of(&one, &b).endpoint, Some(([192, 0, 2, 77], 7444).into()));
    reach(&a, &b);
}

#[test]
fn another_port_in_passing() {
    let wire = Wire::new();
    let (a, b) = (Host::new(&wire, 1), Host::new(&wire, 2));
    let (_one, _link_one) = a.start(&[&b]);
    let (two, _link_two) = b.start(&[&a]);
    echo(&a);
    echo(&b);
    reach(&a, &b);
    let mut config = b.config(&[&a]);
    config.listen_port = 7555;
    apply(&b, &two, config);
    assert_eq!(two.port(), Some(7555));
    reach(&b, &a);
    reach(&a, &b);
}

#[test]
fn a_restart_is_a_short_gap_and_the_interface_stays() {
    let wire = Wire::new();
    let (a, b) = (Host::new(&wire, 1), Host::new(&wire, 2));
    let (_one, _link_one) = a.start(&[&b]);
    let (mut two, mut _link_two) = b.start(&[&a]);
    echo(&a);
    echo(&b);
    reach(&a, &b);
    for round in 1..=3 {
        stop(&b, &two);
        let routes = b.space.ip("route show table 7744");
        assert!(routes.contains("10.77.1.0/24 dev waifu0"), "{routes}");
        assert!(b.space.ip("rule").contains("lookup 7744"));
        let stopped = Instant::now();
        (two, _link_two) = b.start(&[&a]);
        let started = stopped.elapsed();
        reach(&a, &b);
        println!(
            "restart {round}: started after {started:?}, reached from the other side after {:?}",
            stopped.elapsed()
        );
    }
}

#[test]
fn an_interface_that_somebody_deletes_is_said_to_be_gone() {
    let wire = Wire::new();
    let (a, b) = (Host::new(&wire, 1), Host::new(&wire, 2));
    let (one, _link) = a.start(&[&b]);
    a.space.ip("link del waifu0");
    let watched = Arc::clone(&one);
    let why = a.space.block_on(async move || watched.failed().await.to_string());
    assert!(why.contains("has stopped"), "{why}");
    stop(&a, &one);
    drop(one);
    // Starting again is the remedy.
    let (_one, _link_one) = a.start(&[&b]);
    let _two = b.start(&[&a]);
    echo(&b);
    eventually("reached", || Some(reach(&a, &b)));
}

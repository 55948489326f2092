//! Who is no peer, or speaks for another, is not heard.

use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519::{PublicKey, StaticSecret};
use waifud_mesh::{Mesh, MeshConfig, MeshError, UserspaceMesh};

use crate::lab::{Host, Wire, echo, interface, reach, reaches_once, status_of};

#[test]
fn a_stranger_gets_no_answer_and_changes_nothing() {
    let wire = Wire::new();
    let (a, b, stranger) = (Host::new(&wire, 1), Host::new(&wire, 2), Host::new(&wire, 3));
    let (one, _link_one) = a.start(&[&b]);
    let _two = b.start(&[&a]);
    echo(&a);
    echo(&b);
    reach(&a, &b);
    let before = status_of(&one, &b);
    let target = a.endpoint();
    let to = PublicKey::from(*a.key.public().as_bytes());
    let answered = stranger.space.run(move || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        // A proper handshake with a key that nobody knows.
        let mut tunn = Tunn::new(StaticSecret::from([77; 32]), to, None, None, 7, None);
        let mut message = [0; 2048];
        if let TunnResult::WriteToNetwork(message) = tunn.format_handshake_initiation(&mut message, false) {
            socket.send_to(message, target).unwrap();
            // The same, broken.
            message[140] ^= 1;
            socket.send_to(message, target).unwrap();
        }
        // Every type there is and some there are not, in every length that matters, for every session that may be.
        for kind in 0..6u8 {
            for length in [1, 4, 8, 16, 31, 32, 64, 92, 148, 1452, 9000] {
                for index in [0u32, 1 << 8, 2 << 8, u32::MAX] {
                    let mut nonsense = vec![0u8; length];
                    nonsense[0] = kind;
                    for at in [4, 8] {
                        if length >= at + 4 {
                            nonsense[at..at + 4].copy_from_slice(&index.to_le_bytes());
                        }
                    }
                    socket.send_to(&nonsense, target).unwrap();
                }
            }
        }
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        socket.recv(&mut message).is_ok()
    });
    assert!(!answered);
    reach(&a, &b);
    let after = status_of(&one, &b);
    assert_eq!(after.endpoint, before.endpoint);
    assert!(after.last_handshake >= before.last_handshake, "the session is the same");
}

#[test]
fn a_peer_speaks_for_no_one_else() {
    let wire = Wire::new();
    let (a, b) = (Host::new(&wire, 1), Host::new(&wire, 2));
    let _one = a.start(&[&b]);
    let _two = b.start(&[&a]);
    echo(&a);
    reach(&b, &a);
    // An address of a third node, and the metadata service's.
    for address in ["10.77.3.1", "169.254.169.254"] {
        b.space.ip(&format!("addr add {address}/32 dev lo"));
        assert!(!reaches_once(&b, address.parse().unwrap(), &a), "{address}");
    }
    assert!(reaches_once(&b, b.gateway(), &a));
}

#[test]
fn a_flood_of_handshakes_is_answered_with_cookies_and_stops_nobody() {
    let wire = Wire::new();
    let (a, b, flooder) = (Host::new(&wire, 1), Host::new(&wire, 2), Host::new(&wire, 3));
    let _one = a.start(&[&b]);
    let _two = b.start(&[&a]);
    echo(&a);
    echo(&b);
    reach(&a, &b);
    let target = a.endpoint();
    let to = PublicKey::from(*a.key.public().as_bytes());
    let cookies = flooder.space.run(move || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        for n in 0..2000u32 {
            let mut tunn = Tunn::new(StaticSecret::from([78; 32]), to, None, None, n, None);
            let mut message = [0; 148];
            if let TunnResult::WriteToNetwork(message) = tunn.format_handshake_initiation(&mut message, false) {
                socket.send_to(message, target).unwrap();
            }
        }
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let (mut cookies, mut message) = (0, [0; 256]);
        while let Ok(length) = socket.recv(&mut message) {
            assert_eq!((length, message[0]), (64, 3));
            cookies += 1;
        }
        cookies
    });
    println!("{cookies} cookies for 2000 initiations");
    assert!(cookies > 0);
    reach(&a, &b);
}

#[test]
fn what_makes_no_sense_is_refused_and_leaves_all_as_it_was() {
    let wire = Wire::new();
    let (a, b) = (Host::new(&wire, 1), Host::new(&wire, 2));
    let (one, _link_one) = a.start(&[&b]);
    let _two = b.start(&[&a]);
    echo(&b);
    reach(&a, &b);
    let twice = MeshConfig { peers: vec![b.as_peer(), b.as_peer()], ..a.config(&[]) };
    let own = MeshConfig { peers: vec![a.as_peer()], ..a.config(&[]) };
    let taken = MeshConfig { listen_port: 9999, ..a.config(&[&b]) };
    let mesh = Arc::clone(&one);
    a.space.block_on(async move || {
        let _holds = UdpSocket::bind("[::]:9999").unwrap();
        assert!(matches!(mesh.apply(&twice).await, Err(MeshError::DuplicatePeer(_))));
        assert!(matches!(mesh.apply(&own).await, Err(MeshError::OwnKey(_))));
        assert!(matches!(mesh.apply(&taken).await, Err(MeshError::Bind { port: 9999, .. })));
    });
    reach(&a, &b);
    // A second daemon on the same machine does not get in.
    let config = a.config(&[&b]);
    let second = a.space.block_on(async move || UserspaceMesh::start(&interface(), &config).await.err());
    assert!(matches!(second, Some(MeshError::Bind { port: 7444, .. })), "{second:?}");
    reach(&a, &b);
}

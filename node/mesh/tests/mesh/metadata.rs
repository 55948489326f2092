//! Guests reach the metadata service by the mesh's interface, as themselves, and nobody else does.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use bytes::Bytes;
use waifud_mesh::{METADATA_ADDRESS, PacketLink};

use crate::lab::{Host, Namespace, PATIENCE, Wire, try_run};

/// Serves as the metadata address would: sends every UDP packet back to where it came from. Gives the sources it saw.
fn serve(mut link: PacketLink, packets: usize) -> std::thread::JoinHandle<Vec<Ipv4Addr>> {
    std::thread::spawn(move || {
        let mut sources = Vec::new();
        while sources.len() < packets {
            let Some(packet) = link.rx.blocking_recv() else { break };
            let mut answer = packet.to_vec();
            assert_eq!(answer[9], 17, "only UDP is sent in this test");
            sources.push(Ipv4Addr::from(<[u8; 4]>::try_from(&answer[12..16]).unwrap()));
            // Both pairs change places, which leaves both checksums as they are.
            let (from, to) = (packet[12..16].to_vec(), packet[16..20].to_vec());
            answer[12..16].copy_from_slice(&to);
            answer[16..20].copy_from_slice(&from);
            let (from, to) = (packet[20..22].to_vec(), packet[22..24].to_vec());
            answer[20..22].copy_from_slice(&to);
            answer[22..24].copy_from_slice(&from);
            link.tx.blocking_send(Bytes::from(answer)).unwrap();
        }
        sources
    })
}

fn ask(guest: &Namespace, wait: Duration) -> bool {
    guest.run(move || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(wait)).unwrap();
        socket.send_to(b"who am I", (METADATA_ADDRESS, 80)).is_ok() && socket.recv(&mut [0; 64]).is_ok()
    })
}

fn forwards(host: &Host, rp_filter: &str) {
    for setting in ["conf.waifubr0.forwarding=1", rp_filter] {
        host.space.exec(&["sysctl", "-qw", &format!("net.ipv4.{setting}")]);
    }
}

#[test]
fn guests_are_answered_as_themselves_whatever_rp_filter_says() {
    for rp_filter in ["conf.all.rp_filter=1", "conf.all.rp_filter=2", "conf.all.rp_filter=0"] {
        let wire = Wire::new();
        let (a, b) = (Host::new(&wire, 1), Host::new(&wire, 2));
        let (_mesh, link) = a.start(&[&b]);
        forwards(&a, rp_filter);
        let (first, second) = (a.guest(&wire, 9), a.guest(&wire, 10));
        let service = serve(link, 4);
        for guest in [&first, &second, &first, &second] {
            assert!(ask(guest, PATIENCE), "{rp_filter}");
        }
        let seen = service.join().unwrap();
        let (first, second) = (Ipv4Addr::new(10, 77, 1, 9), Ipv4Addr::new(10, 77, 1, 10));
        assert_eq!(seen, [first, second, first, second]);
    }
}

#[test]
fn the_hosts_own_metadata_address_stays_its_own() {
    let wire = Wire::new();
    let (a, b) = (Host::new(&wire, 1), Host::new(&wire, 2));
    let (_mesh, link) = a.start(&[&b]);
    forwards(&a, "conf.all.rp_filter=0");
    // A host in a cloud has one.
    a.space.ip("route add 169.254.169.254/32 via 192.0.2.2 dev e0");
    let way = a.space.ip("route get 169.254.169.254");
    assert!(way.contains("dev e0"), "{way}");
    let guest = a.guest(&wire, 9);
    let service = serve(link, 1);
    assert!(ask(&guest, PATIENCE));
    assert_eq!(service.join().unwrap(), [Ipv4Addr::new(10, 77, 1, 9)]);
}

#[test]
fn nobody_on_another_node_gets_there() {
    let wire = Wire::new();
    let (a, b) = (Host::new(&wire, 1), Host::new(&wire, 2));
    let (_one, mut link) = a.start(&[&b]);
    let _two = b.start(&[&a]);
    forwards(&a, "conf.all.rp_filter=0");
    // The other node sends what is for the metadata address to ours, by the mesh and by the wire.
    b.space.ip("route add 169.254.169.254/32 via 192.0.2.1 dev e0");
    assert!(!ask(&b.space, Duration::from_millis(300)));
    assert!(link.rx.try_recv().is_err());
}

#[test]
fn a_service_that_is_gone_stops_nothing() {
    let wire = Wire::new();
    let (a, b) = (Host::new(&wire, 1), Host::new(&wire, 2));
    let (_one, link) = a.start(&[&b]);
    let _two = b.start(&[&a]);
    forwards(&a, "conf.all.rp_filter=0");
    drop(link);
    let guest = a.guest(&wire, 9);
    assert!(!ask(&guest, Duration::from_millis(200)));
    crate::lab::echo(&b);
    crate::lab::reach(&a, &b);
    assert!(try_run(&["true"]).status.success());
}

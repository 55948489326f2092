//! The kernel's WireGuard. Needs root, `ip` and a kernel that has it: `cargo test -p waifud-mesh --test kernel -- --ignored`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, missing_docs, unreachable_pub)]

mod lab;

use std::net::Ipv4Addr;
use std::sync::Arc;

use bytes::Bytes;
use lab::{Host, Wire, echo, interface, reach, status_of, transfer};
use waifud_mesh::{
    KernelMesh, Kind, METADATA_ADDRESS, Mesh, MeshConfig, PeerConfig, PrivateKey, host, kernel_available,
};

/// The mesh, its runtime (the metadata peer is a task of it) and the metadata link.
struct Running {
    mesh: Arc<KernelMesh>,
    link: Option<waifud_mesh::PacketLink>,
    runtime: tokio::runtime::Runtime,
}

fn start(on: &Host, peers: &[&Host]) -> Running {
    let (config, routing) = (on.config(peers), on.routing(peers));
    on.space.run(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (mesh, link) = runtime.block_on(async {
            let (mesh, link) = KernelMesh::start(&interface(), &config).await.unwrap();
            host::ensure(&routing).await.unwrap();
            (Arc::new(mesh), link)
        });
        Running { mesh, link: Some(link), runtime }
    })
}

impl Running {
    fn apply(&self, config: MeshConfig) {
        let mesh = Arc::clone(&self.mesh);
        // On the worker, which was started in the namespace.
        self.runtime.block_on(self.runtime.spawn(async move { mesh.apply(&config).await.unwrap() })).unwrap();
    }

    fn status(&self) -> Vec<waifud_mesh::PeerStatus> {
        let mesh = Arc::clone(&self.mesh);
        self.runtime.block_on(self.runtime.spawn(async move { mesh.status().await.unwrap() })).unwrap()
    }
}

#[test]
#[ignore = "needs a kernel with WireGuard"]
fn the_kernel_says_that_it_has_it_and_leaves_nothing_behind() {
    let wire = Wire::new();
    let a = Host::new(&wire, 1);
    assert!(a.space.block_on(kernel_available));
    assert!(!a.space.ip("-o link").contains("wgp"));
}

#[test]
#[ignore = "needs a kernel with WireGuard"]
fn kernel_and_data_plane_are_peers() {
    let wire = Wire::new();
    let (a, b) = (Host::new(&wire, 1), Host::new(&wire, 2));
    let one = start(&a, &[&b]);
    let (two, _link) = b.start(&[&a]);
    assert_eq!(one.mesh.kind(), Kind::Kernel);
    echo(&a);
    echo(&b);
    reach(&a, &b);
    reach(&b, &a);
    for (from, to) in [(&a, &b), (&b, &a)] {
        let took = transfer(from, to, 64 << 20);
        println!("{:.0} Mbit/s (this build)", (64u64 << 20) as f64 * 8e-6 / took.as_secs_f64());
    }
    let status = one.status();
    assert_eq!(status.len(), 1, "the metadata peer is not shown: {status:?}");
    assert!(status[0].last_handshake.is_some() && status[0].rx > 64 << 20, "{status:?}");
    assert_eq!(status[0].endpoint, Some(b.endpoint()));
    assert!(status_of(&two, &a).rx > 64 << 20);
}

#[test]
#[ignore = "needs a kernel with WireGuard"]
fn peers_change_and_sessions_stay_also_through_a_restart() {
    let wire = Wire::new();
    let (a, b) = (Host::new(&wire, 1), Host::new(&wire, 2));
    let one = start(&a, &[&b]);
    let _two = b.start(&[&a]);
    echo(&b);
    reach(&a, &b);
    let before = one.status()[0].tx;
    let mut config = a.config(&[&b]);
    config.peers.push(PeerConfig {
        public_key: PrivateKey::from_bytes([99; 32]).public(),
        endpoint: None,
        allowed_ips: (0..1200u32).map(|n| Ipv4Addr::from(0x0a4e_0000 + n).into()).collect(),
        keepalive: None,
    });
    config.peers[0].allowed_ips.push("10.77.98.1/32".parse().unwrap());
    one.apply(config.clone());
    one.apply(config);
    assert_eq!(one.status().len(), 2);
    one.apply(a.config(&[&b]));
    let status = one.status();
    assert_eq!(status.len(), 1);
    assert!(status[0].tx >= before, "the session is the same");
    drop(one);
    let again = start(&a, &[&b]);
    let status = again.status();
    assert!(status[0].tx >= before, "the session is the same after a restart");
    println!("reached {:?} after the restart", reach(&a, &b));
}

#[test]
#[ignore = "needs a kernel with WireGuard"]
fn guests_reach_the_metadata_service_as_themselves() {
    let wire = Wire::new();
    let a = Host::new(&wire, 1);
    let mut one = start(&a, &[]);
    for setting in ["conf.waifubr0.forwarding=1", "conf.all.rp_filter=1"] {
        a.space.exec(&["sysctl", "-qw", &format!("net.ipv4.{setting}")]);
    }
    let guest = a.guest(&wire, 9);
    let mut link = one.link.take().unwrap();
    let service = std::thread::spawn(move || {
        let packet = link.rx.blocking_recv().unwrap();
        let mut answer = packet.to_vec();
        answer[12..16].copy_from_slice(&packet[16..20]);
        answer[16..20].copy_from_slice(&packet[12..16]);
        answer[20..22].copy_from_slice(&packet[22..24]);
        answer[22..24].copy_from_slice(&packet[20..22]);
        link.tx.blocking_send(Bytes::from(answer)).unwrap();
        (Ipv4Addr::from(<[u8; 4]>::try_from(&packet[12..16]).unwrap()), link)
    });
    guest.run(|| {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(lab::PATIENCE)).unwrap();
        socket.send_to(b"who am I", (METADATA_ADDRESS, 80)).unwrap();
        socket.recv(&mut [0; 64]).unwrap();
    });
    assert_eq!(service.join().unwrap().0, Ipv4Addr::new(10, 77, 1, 9));
}

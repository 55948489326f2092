//! Stock WireGuard on the other end, told by the stock `wg`: a laptop, or a node with another implementation.

use std::process::{Child, Stdio};

use crate::lab::{Host, Wire, echo, eventually, installed, reach, status_of, transfer};

/// Another implementation on a host of ours, with the same plan of addresses.
struct Stock {
    child: Child,
    interface: String,
}

impl Stock {
    fn start(on: &Host, peer: &Host, interface: String, mut command: std::process::Command) -> Self {
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let stock = Self { child, interface };
        let name = &stock.interface;
        eventually("the interface is there", || {
            let links = on.space.ip("-o link");
            links.contains(name).then_some(())
        });
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("wg.conf");
        let text = format!(
            "[Interface]\nPrivateKey = {}\nListenPort = 7444\n[Peer]\nPublicKey = {}\nEndpoint = {}\nAllowedIPs = {}\nPersistentKeepalive = 25\n",
            on.key.to_base64(),
            peer.key.public(),
            peer.endpoint(),
            peer.subnet(),
        );
        std::fs::write(&path, text).unwrap();
        eventually("wg can speak to it", || {
            let words = ["wg", "setconf", name, path.to_str().unwrap()];
            on.space.command(words[0]).args(&words[1..]).output().unwrap().status.success().then_some(())
        });
        on.space.ip(&format!("link set {name} mtu 1420 up"));
        on.space.ip(&format!("route add {} dev {name} src {}", peer.subnet(), on.gateway()));
        stock
    }
}

impl Drop for Stock {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn works_with(program: &str, arguments: &[&str]) {
    if !installed(program) || !installed("wg") {
        println!("{program} or wg is not installed: nothing tried");
        return;
    }
    let wire = Wire::new();
    let (ours, theirs) = (Host::new(&wire, 1), Host::new(&wire, 2));
    let (mesh, _link) = ours.start(&[&theirs]);
    let mut command = theirs.space.command(program);
    // Their control sockets are in one directory for all namespaces, so each needs a name of its own.
    let interface = format!("wg{}{}", program.len(), std::process::id() % 1_000_000);
    command.args(arguments).arg(&interface);
    let stock = Stock::start(&theirs, &ours, interface, command);
    echo(&ours);
    echo(&theirs);
    println!("{program}: {:?} there and back", reach(&ours, &theirs));
    reach(&theirs, &ours);
    for (from, to) in [(&ours, &theirs), (&theirs, &ours)] {
        let took = transfer(from, to, 16 << 20);
        println!("{program}: {:.0} Mbit/s (this build)", (16u64 << 20) as f64 * 8e-6 / took.as_secs_f64());
    }
    let status = status_of(&mesh, &theirs);
    assert!(status.last_handshake.is_some() && status.rx > 16 << 20, "{status:?}");
    let shown = theirs.space.exec(&["wg", "show", &stock.interface]);
    assert!(shown.contains(&ours.key.public().to_string()) && shown.contains("latest handshake"), "{shown}");
}

#[test]
fn wireguard_go() {
    works_with("wireguard-go", &["-f"]);
}

#[test]
fn boringtun_cli() {
    works_with("boringtun-cli", &["-f", "--disable-drop-privileges"]);
}

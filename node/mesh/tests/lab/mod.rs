//! Machines for the mesh's tests: network namespaces on one wire, made by the test and gone with it.
//!
//! ```text
//!  host n:  e0 192.0.2.n/24 ──┐                        waifubr0 10.77.n.1/24, waifu0 by the mesh
//!                             ├── bridge "wire" in a namespace of its own
//!  host m:  e0 192.0.2.m/24 ──┘
//! ```
//!
//! Needs root. Threads enter a namespace, so the code under test runs in this process.

#![allow(dead_code, reason = "not every test and example needs every machine")]

use std::fs::File;
use std::future::Future;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use ipnet::Ipv4Net;
use nix::sched::{CloneFlags, setns};
use waifud_mesh::host::Routing;
use waifud_mesh::{Interface, Mesh, MeshConfig, PacketLink, PeerConfig, PrivateKey, UserspaceMesh};

/// How long anything may take before a test says that it will not come.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub const PORT: u16 = 7444;

/// A network namespace.
#[derive(Debug)]
pub struct Namespace {
    pub name: String,
}

impl Namespace {
    pub fn new(what: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let space = Self { name: format!("wm{}-{number}-{what}", std::process::id()) };
        run(&["ip", "netns", "add", &space.name]);
        space.ip("link set lo up");
        space
    }

    /// `ip -n <namespace> <words>`, which has to succeed.
    pub fn ip(&self, words: &str) -> String {
        let mut all = vec!["ip", "-n", &self.name];
        all.extend(words.split_whitespace());
        run(&all)
    }

    /// A command inside, which has to succeed.
    pub fn exec(&self, words: &[&str]) -> String {
        let mut all = vec!["ip", "netns", "exec", &self.name];
        all.extend(words);
        run(&all)
    }

    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Runs `work` in the namespace, on a thread of its own.
    pub fn spawn<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> std::thread::JoinHandle<T> {
        let path = format!("/run/netns/{}", self.name);
        std::thread::spawn(move || {
            setns(File::open(path).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
            work()
        })
    }

    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        self.spawn(work).join().unwrap()
    }

    /// Runs a future to its end in the namespace.
    pub fn block_on<T, F>(&self, work: impl FnOnce() -> F + Send + 'static) -> T
    where
        T: Send + 'static,
        F: Future<Output = T>,
    {
        self.run(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { tokio::time::timeout(PATIENCE, work()).await.expect("it takes too long") })
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).output();
    }
}

pub fn try_run(words: &[&str]) -> Output {
    Command::new(words[0]).args(&words[1..]).output().unwrap()
}

pub fn run(words: &[&str]) -> String {
    let output = try_run(words);
    assert!(output.status.success(), "{}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

pub fn installed(program: &str) -> bool {
    Command::new("sh")
        .args(["-c", &format!("command -v {program}")])
        .output()
        .is_ok_and(|output| output.status.success())
}

/// What the machines hang on.
#[derive(Debug)]
pub struct Wire {
    space: Namespace,
}

impl Wire {
    pub fn new() -> Self {
        let space = Namespace::new("wire");
        space.ip("link add wire type bridge");
        space.ip("link set wire up");
        Self { space }
    }

    fn attach(&self, space: &Namespace, interface: &str, bridge: &str, to: &Namespace) {
        let port = format!("p{}", space.name.split('-').nth(1).unwrap());
        space.ip(&format!("link add {interface} type veth peer name {port} netns {}", to.name));
        to.ip(&format!("link set {port} master {bridge} up"));
        space.ip(&format!("link set {interface} up"));
    }
}

/// A machine with a mesh address plan: number n is 192.0.2.n and has the guests of 10.77.n.0/24.
#[derive(Debug)]
pub struct Host {
    pub space: Namespace,
    pub number: u8,
    pub key: PrivateKey,
}

impl Host {
    pub fn new(wire: &Wire, number: u8) -> Self {
        let space = Namespace::new(&format!("h{number}"));
        wire.attach(&space, "e0", "wire", &wire.space);
        space.ip(&format!("addr add 192.0.2.{number}/24 dev e0"));
        space.ip("link add waifubr0 type bridge");
        space.ip(&format!("addr add 10.77.{number}.1/24 dev waifubr0"));
        space.ip("link set waifubr0 up");
        Self { space, number, key: PrivateKey::from_bytes([number; 32]) }
    }

    /// A guest on the host's bridge.
    pub fn guest(&self, wire: &Wire, last: u8) -> Namespace {
        let guest = Namespace::new("guest");
        wire.attach(&guest, "eth0", "waifubr0", &self.space);
        guest.ip(&format!("addr add 10.77.{}.{last}/24 dev eth0", self.number));
        guest.ip(&format!("route add default via 10.77.{}.1", self.number));
        guest
    }

    pub fn gateway(&self) -> Ipv4Addr {
        [10, 77, self.number, 1].into()
    }

    pub fn subnet(&self) -> Ipv4Net {
        Ipv4Net::new([10, 77, self.number, 0].into(), 24).unwrap()
    }

    pub fn endpoint(&self) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, self.number], PORT))
    }

    pub fn as_peer(&self) -> PeerConfig {
        PeerConfig {
            public_key: self.key.public(),
            endpoint: Some(self.endpoint()),
            allowed_ips: vec![self.subnet()],
            keepalive: Some(25),
        }
    }

    pub fn config(&self, peers: &[&Host]) -> MeshConfig {
        MeshConfig {
            private_key: self.key.clone(),
            listen_port: PORT,
            peers: peers.iter().map(|peer| peer.as_peer()).collect(),
        }
    }

    pub fn routing(&self, peers: &[&Host]) -> Routing {
        Routing {
            interface: "waifu0".into(),
            mtu: 1420,
            bridge: "waifubr0".into(),
            cluster: "10.77.0.0/16".parse().unwrap(),
            gateway: self.gateway(),
            remote: peers.iter().map(|peer| peer.subnet()).collect(),
            local: vec![],
        }
    }

    /// The data plane, with the host's rules and routes.
    pub fn start(&self, peers: &[&Host]) -> (Arc<UserspaceMesh>, PacketLink) {
        let (config, routing) = (self.config(peers), self.routing(peers));
        self.space.block_on(async move || {
            let (mesh, link) = UserspaceMesh::start(&interface(), &config).await.unwrap();
            waifud_mesh::host::ensure(&routing).await.unwrap();
            (Arc::new(mesh), link)
        })
    }
}

pub fn interface() -> Interface {
    Interface { name: "waifu0".into(), mtu: 1420 }
}

/// Waits until `what` gives something, and fails when it never does. For what no event tells of: another kernel's or
/// process's state.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "it never came to this: {what}");
        std::thread::yield_now();
    }
}

/// Answers every datagram on 10.77.n.1:7 with itself, until the namespace is gone or `None` is sent.
pub fn echo(host: &Host) {
    let address = SocketAddr::from((host.gateway(), 7));
    let socket = host.space.run(move || UdpSocket::bind(address).unwrap());
    std::thread::spawn(move || {
        let mut datagram = [0; 2000];
        while let Ok((length, from)) = socket.recv_from(&mut datagram) {
            let _ = socket.send_to(&datagram[..length], from);
        }
    });
}

/// A datagram there and back, sent again until it comes.
pub fn reach(from: &Host, to: &Host) -> Duration {
    let (source, target) = (from.gateway(), SocketAddr::from((to.gateway(), 7)));
    from.space.run(move || {
        let socket = UdpSocket::bind((source, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let started = Instant::now();
        eventually("a datagram comes back", || {
            // A route that is not there yet is no answer either.
            socket.send_to(b"hello", target).ok()?;
            match socket.recv(&mut [0; 16]) {
                Ok(_) => Some(()),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
                Err(_) => None,
            }
        });
        started.elapsed()
    })
}

/// Whether one datagram comes back within a short while: to see that something does *not* work.
pub fn reaches_once(from: &Host, source: Ipv4Addr, to: &Host) -> bool {
    let target = SocketAddr::from((to.gateway(), 7));
    from.space.run(move || {
        let socket = UdpSocket::bind((source, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        socket.send_to(b"hello", target).is_ok() && socket.recv(&mut [0; 16]).is_ok()
    })
}

/// Bytes whose place can be told from their value.
pub fn pattern(at: u64, bytes: &mut [u8]) {
    for (offset, byte) in bytes.iter_mut().enumerate() {
        let at = at + offset as u64;
        *byte = (at ^ (at >> 8) ^ (at >> 16)) as u8;
    }
}

/// Sends `total` bytes over TCP from one host to another and checks each; the time from the first byte to the last.
pub fn transfer(from: &Host, to: &Host, total: u64) -> Duration {
    let target = SocketAddr::from((to.gateway(), 5001));
    let listener = to.space.run(move || TcpListener::bind(target).unwrap());
    let receiver = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let (mut bytes, mut expected) = (vec![0; 1 << 18], vec![0; 1 << 18]);
        let (mut at, started) = (0, Instant::now());
        loop {
            let length = stream.read(&mut bytes).unwrap();
            if length == 0 {
                break;
            }
            pattern(at, &mut expected[..length]);
            assert!(bytes[..length] == expected[..length], "other bytes after {at}");
            at += length as u64;
        }
        assert_eq!(at, total);
        started.elapsed()
    });
    from.space.run(move || {
        let mut stream = TcpStream::connect_timeout(&target, PATIENCE).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let mut bytes = vec![0; 1 << 18];
        let mut at = 0;
        while at < total {
            let length = bytes.len().min((total - at) as usize);
            pattern(at, &mut bytes[..length]);
            stream.write_all(&bytes[..length]).unwrap();
            at += length as u64;
        }
    });
    receiver.join().unwrap()
}

pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// What a mesh says of a peer.
pub fn status_of(mesh: &Arc<UserspaceMesh>, peer: &Host) -> waifud_mesh::PeerStatus {
    let mesh = Arc::clone(mesh);
    let key = peer.key.public();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let all = runtime.block_on(async move { mesh.status().await.unwrap() });
    all.into_iter().find(|status| status.key == key).unwrap()
}

/// Applies a configuration in the host's namespace.
pub fn apply(host: &Host, mesh: &Arc<UserspaceMesh>, config: MeshConfig) {
    let mesh = Arc::clone(mesh);
    host.space.block_on(async move || mesh.apply(&config).await.unwrap());
}

pub fn stop(host: &Host, mesh: &Arc<UserspaceMesh>) {
    let mesh = Arc::clone(mesh);
    host.space.block_on(async move || mesh.stop().await);
}

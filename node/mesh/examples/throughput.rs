//! Bulk throughput between two network namespaces: our data plane beside whatever stock one is installed, in one run.
//!
//! `cargo run --profile fast -p waifud-mesh --example throughput [seconds a round] [rounds]`, as root. Each end is a process of its
//! own, so that its CPU can be told; the TCP stream between them is the same for all. It prints and asserts nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, missing_docs, unreachable_pub)]

#[path = "../tests/lab/mod.rs"]
mod lab;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lab::{Host, Wire, eventually, installed, interface};
use waifud_mesh::{Mesh, MeshConfig, UserspaceMesh};

const OURS: &str = "waifud-mesh";

struct End {
    child: Child,
}

impl End {
    /// User and system time of the process so far, in seconds.
    fn cpu(&self) -> f64 {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = text.rsplit(')').next().unwrap().split_whitespace().collect();
        // Fields 14 and 15 of proc(5), in ticks of a hundredth.
        (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Busy seconds of all CPUs so far.
fn machine() -> f64 {
    let text = std::fs::read_to_string("/proc/stat").unwrap();
    let fields: Vec<f64> =
        text.lines().next().unwrap().split_whitespace().skip(1).map(|field| field.parse().unwrap()).collect();
    // All but idle and waiting for disks (fields 4 and 5).
    (fields.iter().take(8).sum::<f64>() - fields[3] - fields[4]) / 100.0
}

fn start(program: &str, on: &Host, peer: &Host) -> End {
    // The others' control sockets are in one directory for all namespaces, so each needs a name of its own.
    let stock = format!("wg9{}", on.number);
    let name = if program == OURS { "waifu0" } else { &stock };
    let mut command = if program == OURS {
        let mut command = on.space.command(std::env::current_exe().unwrap().to_str().unwrap());
        command.args(["end", &on.number.to_string(), &peer.number.to_string()]);
        command
    } else {
        let mut command = on.space.command(program);
        command.args(if program == "boringtun-cli" {
            vec!["-f", "--disable-drop-privileges", name]
        } else {
            vec!["-f", name]
        });
        command
    };
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let end = End { child };
    eventually("the interface is there", || on.space.ip("-o link").contains(name).then_some(()));
    if program != OURS {
        let private = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(private.path(), on.key.to_base64()).unwrap();
        let (public, endpoint, subnet) =
            (peer.key.public().to_string(), peer.endpoint().to_string(), peer.subnet().to_string());
        let words = [
            "set",
            name,
            "private-key",
            private.path().to_str().unwrap(),
            "listen-port",
            "7444",
            "peer",
            &public,
            "endpoint",
            &endpoint,
            "allowed-ips",
            &subnet,
        ];
        eventually("wg can speak to it", || {
            on.space.command("wg").args(words).output().unwrap().status.success().then_some(())
        });
        on.space.ip(&format!("link set {name} mtu 1420 up"));
    } else {
        eventually("the interface is up", || on.space.ip("-o link show waifu0").contains(",UP").then_some(()));
    }
    on.space.ip(&format!("route add {subnet} dev {name} src {}", on.gateway(), subnet = peer.subnet()));
    end
}

/// One end of ours, until it is killed.
fn end(number: u8, peer: u8) {
    let key = |n| waifud_mesh::PrivateKey::from_bytes([n; 32]);
    let config = MeshConfig {
        private_key: key(number),
        listen_port: lab::PORT,
        peers: vec![waifud_mesh::PeerConfig {
            public_key: key(peer).public(),
            endpoint: Some(([192, 0, 2, peer], lab::PORT).into()),
            allowed_ips: vec![ipnet::Ipv4Net::new([10, 77, peer, 0].into(), 24).unwrap()],
            keepalive: None,
        }],
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (mesh, _link) = UserspaceMesh::start(&interface(), &config).await.unwrap();
        println!("{}", mesh.failed().await);
    });
}

/// Bytes that arrived within `time`, over `streams` connections.
fn stream(
    from: &Host,
    to: &Host,
    time: Duration,
    streams: usize,
    measured: impl FnOnce() -> (f64, f64),
) -> (u64, f64, (f64, f64)) {
    let target = SocketAddr::from((to.gateway(), 5001));
    let listener = to.space.run(move || TcpListener::bind(target).unwrap());
    let arrived = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&arrived);
    std::thread::spawn(move || {
        for stream in listener.incoming().take(streams) {
            let (mut stream, count) = (stream.unwrap(), Arc::clone(&count));
            std::thread::spawn(move || {
                let mut bytes = vec![0; 1 << 18];
                while let Ok(length @ 1..) = stream.read(&mut bytes) {
                    count.fetch_add(length as u64, Ordering::Relaxed);
                }
            });
        }
    });
    for _ in 0..streams {
        from.space.spawn(move || {
            let mut stream =
                eventually("connected", || TcpStream::connect_timeout(&target, Duration::from_secs(1)).ok());
            let bytes = vec![0; 1 << 18];
            // Ends when the receiver's namespace does.
            while stream.write_all(&bytes).is_ok() {}
        });
    }
    eventually("the first megabytes", || (arrived.load(Ordering::Relaxed) > 4 << 20).then_some(()));
    let (bytes, began) = (arrived.load(Ordering::Relaxed), Instant::now());
    std::thread::sleep(time);
    let bytes = arrived.load(Ordering::Relaxed) - bytes;
    (bytes, began.elapsed().as_secs_f64(), measured())
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [command, number, peer] = &arguments[..]
        && command == "end"
    {
        return end(number.parse().unwrap(), peer.parse().unwrap());
    }
    let seconds = arguments.first().map_or(5, |text| text.parse().unwrap());
    let rounds = arguments.get(1).map_or(3, |text| text.parse().unwrap());
    let programs: Vec<&str> = [OURS, "wireguard-go", "boringtun-cli"]
        .into_iter()
        .filter(|program| *program == OURS || installed(program))
        .collect();
    if let Ok(output) = Command::new("wireguard-go").arg("--version").output() {
        println!("{}", String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default());
    }
    for streams in [1, 8] {
        println!(
            "{streams} TCP stream(s), {seconds} s a round, MTU 1420, {} CPUs",
            std::thread::available_parallelism().unwrap()
        );
        let mut results: Vec<Vec<f64>> = vec![Vec::new(); programs.len()];
        for _ in 0..rounds {
            for (program, results) in programs.iter().zip(&mut results) {
                let wire = Wire::new();
                let (a, b) = (Host::new(&wire, 1), Host::new(&wire, 2));
                let ends = (start(program, &a, &b), start(program, &b, &a));
                let cpu = || (ends.0.cpu() + ends.1.cpu(), machine());
                let before = cpu();
                let (bytes, took, after) = stream(&a, &b, Duration::from_secs(seconds), streams, cpu);
                let (gigabit, gigabytes) = (bytes as f64 * 8e-9 / took, bytes as f64 * 1e-9);
                println!(
                    "  {program:14} {gigabit:6.2} Gbit/s   CPU of both ends {:5.2} s/GB   of the machine {:5.2} s/GB",
                    (after.0 - before.0) / gigabytes,
                    (after.1 - before.1) / gigabytes,
                );
                results.push(gigabit);
            }
        }
        let median = |values: &[f64]| {
            let mut values = values.to_vec();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        for (program, theirs) in programs.iter().zip(&results).skip(1) {
            println!("  median of ours is {:.2} times that of {program}", median(&results[0]) / median(theirs));
        }
    }
}

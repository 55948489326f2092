//! Requests a second of the whole service in memory: guest's TCP, our TCP, HTTP, lookup. Prints, asserts nothing.
//!
//! `cargo bench -p waifud-metadata -- [seconds] [connections]`. The guest runs in the same process and costs about as much
//! as the service, so the service alone is faster than what is shown.

#![allow(clippy::print_stdout, reason = "a benchmark is for reading")]
#![allow(clippy::unwrap_used, reason = "what helps a benchmark fails as it does")]

#[path = "../src/stack/tests/guest.rs"]
#[allow(unreachable_pub, dead_code, clippy::cast_possible_truncation, reason = "it belongs to the tests")]
mod guest;

use async_trait::async_trait;
use guest::{Guest, Wire};
use std::{
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;
use waifud_cloudinit::{Documents, Instance};
use waifud_metadata::{
    serve::{Guests, GuestsError, Rate, Service, Tokens, router, run},
    stack::{Limits, Stack},
};
use waifud_model::{
    cloud_init::{CloudDefaults, CloudInit, UserData},
    ids::VmId,
    name::{NodeName, TemplateName, VmName},
    node::Arch,
    size::ByteSize,
    time::Timestamp,
    vm::Mac,
};

const SERVICE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(169, 254, 169, 254), 80);
const GUEST: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const BODY: usize = 2048;

struct One(Arc<Documents>);

#[async_trait]
impl Guests for One {
    async fn by_address(&self, address: Ipv4Addr) -> Result<Option<Arc<Documents>>, GuestsError> {
        Ok((address == GUEST).then(|| self.0.clone()))
    }

    fn asked(&self, _: Ipv4Addr) {}

    async fn cloud_init_done(&self, _: &Documents) -> Result<(), GuestsError> {
        Ok(())
    }
}

fn documents() -> Documents {
    Documents::render(&Instance {
        id: VmId::from_random([2; 16]),
        instance: 1,
        name: VmName::new("vm").unwrap(),
        ip: GUEST,
        subnet: "10.77.0.0/24".parse().unwrap(),
        gateway: Ipv4Addr::new(10, 77, 0, 1),
        mac: Mac::of(GUEST),
        dns: Vec::new(),
        mtu: 1420,
        arch: Arch::X86_64,
        cpus: 1,
        memory: ByteSize::gib(1),
        cloud_init: CloudInit { user_data: Some(UserData::new(vec![b'x'; BODY]).unwrap()), ..CloudInit::default() },
        defaults: CloudDefaults::default(),
        node: NodeName::new("n1").unwrap(),
        template: TemplateName::new("debian-12").unwrap(),
        created_at: Timestamp(0),
    })
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().filter_map(|argument| argument.parse::<u16>().ok());
    let (seconds, connections) = (arguments.next().unwrap_or(3), arguments.next().unwrap_or(16));
    let (to_stack, rx) = mpsc::channel(1024);
    let (tx, from_stack) = mpsc::channel(1024);
    let wire = Wire::new(from_stack);
    let guest = Guest::new(GUEST, &wire, to_stack);
    let listener = Stack::start(rx, tx, SERVICE, Limits::default());
    let rate = Rate { per_second: 1_000_000, burst: 1_000_000 };
    let service = router(Service::new(Arc::new(One(Arc::new(documents()))), Tokens::new(b"secret"), rate));
    tokio::spawn(run(listener, service, CancellationToken::new()));

    let until = Instant::now() + Duration::from_secs(seconds.into());
    let clients: Vec<_> = (0..connections).map(|n| tokio::spawn(client(guest.clone(), 2000 + n, until))).collect();
    let mut latencies = Vec::new();
    for client in clients {
        latencies.extend(client.await.unwrap());
    }
    report("kept alive", &mut latencies, seconds);

    let until = Instant::now() + Duration::from_secs(seconds.into());
    let mut latencies = Vec::new();
    for port in (10_000..60_000).cycle().take_while(|_| Instant::now() < until) {
        let started = Instant::now();
        let mut flow = guest.connect(port, SERVICE).await.unwrap();
        flow.write_all(b"GET /user-data HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
        flow.read_to_end(&mut Vec::new()).await.unwrap();
        latencies.push(started.elapsed());
    }
    report("a connection each, one at a time", &mut latencies, seconds);
}

/// Asks on one connection until the time is up.
async fn client(guest: Guest, port: u16, until: Instant) -> Vec<Duration> {
    let mut flow = guest.connect(port, SERVICE).await.unwrap();
    let (mut latencies, mut answer) = (Vec::new(), Vec::with_capacity(4096));
    while Instant::now() < until {
        let started = Instant::now();
        flow.write_all(b"GET /user-data HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n").await.unwrap();
        answer.clear();
        let end = loop {
            assert!(flow.read_buf(&mut answer).await.unwrap() > 0, "closed");
            if let Some(head) = answer.windows(4).position(|four| four == b"\r\n\r\n") {
                break head + 4 + BODY;
            }
        };
        while answer.len() < end {
            assert!(flow.read_buf(&mut answer).await.unwrap() > 0, "closed");
        }
        latencies.push(started.elapsed());
    }
    latencies
}

fn report(what: &str, latencies: &mut [Duration], seconds: u16) {
    latencies.sort_unstable();
    let at = |hundredths: usize| latencies.get(latencies.len() * hundredths / 100).copied().unwrap_or_default();
    println!("{what}: {} requests/s, p50 {:?}, p99 {:?}", latencies.len() / usize::from(seconds), at(50), at(99));
}

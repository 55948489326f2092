//! Prints what gossip costs and how soon a death is seen, for a number of nodes in this process.
//!
//! `cargo run --release -p waifud-gossip --example pace -- 20 60` (20 nodes, measured for 60 s) in a network namespace of its own (`unshare -rn`, with
//! the loopback interface up), so that the interface's counters hold nothing else, and `tc` can make it lose packets.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a program for people who tune, not part of the daemon")]

use std::{
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{
    runtime::Runtime,
    sync::watch,
    time::{Instant, sleep, timeout},
};
use waifud_gossip::{
    Peer, PeerTable,
    identity::{Ca, Identity, NodeKey},
    membership::{Gossip, GossipConfig},
    peers::Peers,
};
use waifud_model::ids::{ClusterId, NodeId};

const DEATHS: usize = 5;

struct Node {
    runtime: Runtime,
    gossip: Gossip,
    _identity: watch::Sender<Arc<Identity>>,
    _peers: Peers,
}

fn start(n: u64, ca: &Ca, dir: &std::path::Path, table: &watch::Sender<Arc<PeerTable>>) -> Node {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (id, key) = (NodeId::from_random(n), NodeKey::generate().unwrap());
    let identity = Identity::issue(ca, id, key.clone(), SystemTime::now()).unwrap();
    let identity = watch::channel(Arc::new(identity)).0;
    let entered = runtime.enter();
    let peers = Peers::bind((Ipv4Addr::LOCALHOST, 0).into(), identity.subscribe(), table.subscribe()).unwrap();
    drop(entered);
    let peer = Peer {
        name: format!("n{n}").parse().unwrap(),
        addr: peers.local_addr().unwrap(),
        fingerprint: key.fingerprint(),
    };
    table.send_modify(|table| {
        Arc::make_mut(table).insert(id, peer);
    });
    let config = GossipConfig::new(dir.join(n.to_string()));
    let gossip = runtime.block_on(Gossip::start(peers.clone(), config)).unwrap();
    for vm in 0..10 {
        gossip.publish(format!("vm/{vm}"), "running 1 1760000000000").unwrap();
    }
    Node { runtime, gossip, _identity: identity, _peers: peers }
}

/// User and system time of this process, in hundredths of a second (proc(5), fields 14 and 15 of `stat`).
fn cpu() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// Bytes and packets sent over the loopback interface.
fn sent() -> (u64, u64) {
    let text = std::fs::read_to_string("/proc/net/dev").unwrap();
    let line = text.lines().find(|line| line.trim_start().starts_with("lo:")).unwrap();
    let fields: Vec<&str> = line.split_whitespace().collect();
    (fields[9].parse().unwrap(), fields[10].parse().unwrap())
}

async fn see_alive(node: &Gossip, count: usize) -> Duration {
    let start = Instant::now();
    let mut members = node.members();
    let wanted = members.wait_for(|m| m.values().filter(|member| member.alive).count() == count);
    timeout(Duration::from_secs(60), wanted).await.unwrap().unwrap();
    start.elapsed()
}

#[tokio::main]
async fn main() {
    let count: usize = std::env::args().nth(1).map_or(5, |n| n.parse().unwrap());
    let ca = Ca::generate(ClusterId::from_random([1; 16])).unwrap();
    let (dir, table) =
        (std::env::temp_dir().join(format!("pace-{}", std::process::id())), watch::channel(Arc::default()).0);
    std::fs::create_dir_all(&dir).unwrap();
    let mut nodes =
        tokio::task::block_in_place(|| (1..=count as u64).map(|n| start(n, &ca, &dir, &table)).collect::<Vec<_>>());
    let born = Instant::now();
    for node in &nodes {
        see_alive(&node.gossip, count).await;
    }
    println!("{count} nodes: all see all alive after {:?}", born.elapsed());

    // The first seconds spread ten values of each node and make the connections.
    sleep(Duration::from_secs(5)).await;
    let measuring = Instant::now();
    let (cpu_before, sent_before) = (cpu(), sent());
    let measure = Duration::from_secs(std::env::args().nth(2).map_or(20, |n| n.parse().unwrap()));
    sleep(measure).await;
    let per_node = |total: u64| total as f64 / count as f64 / measure.as_secs_f64();
    let (bytes, packets) = (sent().0 - sent_before.0, sent().1 - sent_before.1);
    let flaps = |node: &Node| node.gossip.members().borrow().values().filter(|m| m.since > measuring).count();
    println!("  false deaths: {}", nodes.iter().map(flaps).sum::<usize>());
    println!("  a node: {:.2} % of a core", per_node(cpu() - cpu_before));
    println!("  a node sends {:.1} kbit/s, {:.0} packets/s", per_node(bytes) * 8.0 / 1000.0, per_node(packets));

    for _ in 0..DEATHS.min(count - 2) {
        let victim = nodes.pop().unwrap();
        tokio::task::block_in_place(|| victim.runtime.shutdown_timeout(Duration::from_millis(1)));
        let died = Instant::now();
        let left = nodes.len();
        let all = futures::future::join_all(nodes.iter().map(|node| see_alive(&node.gossip, left))).await;
        let (first, last) = (all.iter().min().unwrap(), died.elapsed());
        println!("  a death is seen first after {first:.2?}, by all after {last:.2?}");
        sleep(Duration::from_secs(3)).await;
    }
    std::fs::remove_dir_all(&dir).unwrap();
    std::process::exit(0);
}

//! Durable writes on three nodes: etcd, consensus alone, the API; then what happens to them when the leader ends, and what
//! the daemons take when there are none.
//!
//! One after the other on the same hosts and the same disk, never at the same time.

use super::{
    etcd::Etcd,
    floor,
    gap::{self, Gap},
    http::{self, Connection, Tokens},
    idle::{self, Usage},
    load::{self, Measured, Writer as _},
    raft::Raft,
    scale::Scale,
    table::{Figure, Table},
};
use crate::{
    cluster::{Cluster, WITHOUT_GUESTS, wait},
    lab::Lab,
};
use anyhow::{Context, Result, bail};
use std::{path::PathBuf, time::Duration};
use waifud_api::client::Endpoint;

/// Nodes of every cluster here.
const NODES: usize = 3;

/// Writes by so many clients: how long they took, and the commits that a write and a node took.
type Loads = Vec<(Measured, f64)>;

/// Leaders that were killed, and leaders that were stopped.
struct Losses {
    killed: Vec<Gap>,
    stopped: Vec<Gap>,
}

/// Measures and adds to the table.
pub(super) async fn measure(scale: &Scale, table: &mut Table, progress: &dyn Fn(&str)) -> Result<()> {
    let lab = Lab::plain(NODES)?;
    progress("the disk");
    let disk = floor::measure(&lab.host(1).path("/var/lib/waifud"), scale.syncs)?;

    let mut etcd = Etcd::start(&lab).await?;
    progress("etcd: idle");
    let etcd_idle = etcd.idle(scale).await?;
    progress("etcd: writes");
    let mut etcd_loads = Loads::new();
    for clients in scale.clients {
        etcd_loads.push(etcd.load(clients, scale).await?);
    }
    progress("etcd: losing its leader");
    let mut etcd_losses = Losses { killed: Vec::new(), stopped: Vec::new() };
    for _ in 0..scale.losses {
        etcd_losses.killed.push(etcd.lose_leader(true).await?);
        etcd_losses.stopped.push(etcd.lose_leader(false).await?);
    }
    etcd.end()?;

    progress("bare Raft: writes");
    let raft = Raft::start(&lab).await?;
    let mut raft_loads = Loads::new();
    for clients in scale.clients {
        raft_loads.push(raft.load(clients, scale).await?);
    }
    raft.end()?;

    let mut cluster = Cluster::start(lab, WITHOUT_GUESTS).await?;
    // Before anything is in it, and a moment after it was made: three nodes have just voted.
    progress("waifud: idle");
    let idle = daemons_idle(&mut cluster, scale).await?;
    progress("waifud: writes through the API");
    let mut loads = Loads::new();
    for clients in scale.clients {
        loads.push(api_load(&cluster, clients, scale).await?);
    }
    progress("waifud: losing its leader");
    let mut losses = Losses { killed: Vec::new(), stopped: Vec::new() };
    for _ in 0..scale.losses {
        losses.killed.push(lose_leader(&mut cluster, true).await?);
        losses.stopped.push(lose_leader(&mut cluster, false).await?);
    }

    rows_of_the_floor(table, &disk, &raft_loads, &loads);
    table.part("Durable writes by consensus alone, 3 nodes", "etcd");
    rows_of_loads(table, scale, &raft_loads, &etcd_loads, Goals { alone: "<= 0.8", rate: ">= 1.0", p99: "<= 1.0" });
    table.part("Durable writes through the HTTP API, 3 nodes", "etcd");
    let goals = Goals { alone: "<= 1.1", rate: ">= 3000/s", p99: "<= 60 ms, <= 1.0" };
    rows_of_loads(table, scale, &loads, &etcd_loads, goals);
    table.part(format!("No acknowledged write, at the most; {} losses each", scale.losses), "etcd");
    rows_of_losses(table, &losses, &etcd_losses);
    table.part("An idle node of an empty cluster of 3", "etcd");
    rows_of_idling(table, idle, etcd_idle);
    Ok(())
}

struct Goals {
    alone: &'static str,
    rate: &'static str,
    p99: &'static str,
}

fn rows_of_the_floor(table: &mut Table, disk: &Measured, raft: &Loads, api: &Loads) {
    table.part("One write, p50", "fdatasync");
    let disk = Figure::ms(disk.quantile(0.5));
    for (what, loads) in [("consensus alone, 1 client", raft), ("through the API, 1 client", api)] {
        table.row(what, Figure::ms(loads[0].0.quantile(0.5)), disk, "");
    }
}

fn rows_of_loads(table: &mut Table, scale: &Scale, ours: &Loads, etcd: &Loads, goals: Goals) {
    for ((clients, (ours, commits)), (etcd, syncs)) in scale.clients.iter().zip(ours).zip(etcd) {
        let (who, goals) = match clients {
            1 => ("1 client, at the leader".to_owned(), [goals.alone, "", ""]),
            64 => ("64 clients on all nodes".to_owned(), ["", goals.rate, goals.p99]),
            n => (format!("{n} clients on all nodes"), [""; 3]),
        };
        let [alone, rate, p99] = goals;
        if *clients == 1 {
            let p50 = |m: &Measured| Figure::ms(m.quantile(0.5));
            table.row(format!("{who}: p50"), p50(ours), p50(etcd), alone);
        } else {
            table.row(format!("{who}: acknowledged"), per_second(ours), per_second(etcd), rate);
        }
        let slow = |m: &Measured| Figure::ms(m.quantile(0.99));
        table.row(format!("{who}: p99"), slow(ours), slow(etcd), p99);
        table.row(format!("{who}: commits a write and node"), Figure::Mean(*commits), Figure::Mean(*syncs), "");
    }
}

fn per_second(measured: &Measured) -> Figure {
    Figure::PerSecond(measured.rate())
}

fn rows_of_losses(table: &mut Table, ours: &Losses, etcd: &Losses) {
    let all = |gaps: &[Gap]| Measured::of(gaps.iter().map(|gap| gap.longest).collect());
    let failed = |gaps: &[Gap]| {
        let sum: usize = gaps.iter().map(|gap| gap.failed).sum();
        Figure::Mean(sum as f64 / gaps.len().max(1) as f64)
    };
    let median = |gaps: &[Gap]| Figure::seconds(all(gaps).quantile(0.5));
    let max = |gaps: &[Gap]| Figure::seconds(all(gaps).max());
    table.row("leader killed: median", median(&ours.killed), median(&etcd.killed), "<= 0.8 s");
    table.row("leader killed: longest", max(&ours.killed), max(&etcd.killed), "<= 1.5 s");
    table.row("leader stopped: median", median(&ours.stopped), median(&etcd.stopped), "<= 0.05 s");
    table.row("leader stopped: longest", max(&ours.stopped), max(&etcd.stopped), "");
    table.row("leader stopped: failed writes, mean", failed(&ours.stopped), failed(&etcd.stopped), "0");
}

/// The busiest node's.
pub(super) fn rows_of_idling(table: &mut Table, ours: Usage, etcd: Usage) {
    table.row("resident memory", ours.rss(), etcd.rss(), "<= 40 MiB");
    table.row("CPU, of one core", ours.cpu(), etcd.cpu(), "<= 0.5 %");
}

/// What the daemons of a cluster take.
pub(super) async fn daemons_idle(cluster: &mut Cluster, scale: &Scale) -> Result<Usage> {
    let nodes = cluster.lab().hosts().len();
    let pids: Vec<_> = (1..=nodes).map(|index| cluster.daemon(index).pid()).collect();
    idle::measure(&pids, scale.idle).await
}

/// A node's socket.
pub(super) fn socket(cluster: &Cluster, index: usize) -> Result<PathBuf> {
    match cluster.endpoint(index) {
        Endpoint::Unix(path) => Ok(path),
        endpoint @ Endpoint::Https { .. } => bail!("{endpoint} is no socket"),
    }
}

async fn api_load(cluster: &Cluster, clients: usize, scale: &Scale) -> Result<(Measured, f64)> {
    let leader = cluster.leader(1).await?;
    let mut writers = Vec::new();
    for client in 0..clients {
        let node = if clients == 1 { leader } else { 1 + client % NODES };
        writers.push(Tokens::new(Connection::open(&socket(cluster, node)?).await?)?);
    }
    let before = commits(cluster).await?;
    let measured = load::drive(writers, scale.pace).await?;
    let commits = commits(cluster).await? - before;
    let each = commits / NODES as f64 / measured.written();
    Ok((measured, each))
}

/// Transactions of all nodes' logs until now.
async fn commits(cluster: &Cluster) -> Result<f64> {
    let mut sum = 0.0;
    for index in 1..=NODES {
        let text = http::metrics(&socket(cluster, index)?).await?;
        sum += http::metric(&text, "waifud_raft_log_commits_total").context("a node counts its commits")?;
    }
    Ok(sum)
}

async fn lose_leader(cluster: &mut Cluster, kill: bool) -> Result<Gap> {
    let leader = cluster.leader(1).await?;
    let socket = socket(cluster, if leader == 1 { 2 } else { 1 })?;
    let probe = move || {
        let socket = socket.clone();
        async move { Tokens::new(Connection::open(&socket).await?)?.write().await }
    };
    let daemon = cluster.daemon(leader);
    let gap =
        gap::around(probe, || if kill { daemon.kill9() } else { daemon.terminate(Duration::from_secs(20)).map(drop) })
            .await?;
    cluster.start_daemon(leader)?;
    all_well(cluster).await?;
    Ok(gap)
}

/// Waits until every node hears every other, knows who leads, and has what the others have.
pub(super) async fn all_well(cluster: &Cluster) -> Result<()> {
    wait("all nodes to be well again", async || {
        let mut seen = Vec::new();
        for index in 1..=cluster.lab().hosts().len() {
            let status = cluster.status(index).await.ok()?;
            let heard = status.members.iter().all(|member| member.alive);
            seen.push((status.leader.filter(|_| heard && status.quorum)?, status.state.digest));
        }
        seen.windows(2).all(|pair| pair[0] == pair[1]).then_some(())
    })
    .await
}

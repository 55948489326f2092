//! Ten thousand VMs on hundreds of nodes, three of which are daemons: what a list of all of them takes, and what it is to hold
//! them. The other nodes are a [`crowd`](super::crowd), silent as soon as their VMs are agreed to, so that those are listed as
//! *unknown*; what it takes to merge what live nodes tell is measured where it can be made up honestly, in the web crate's
//! tests (`what_a_thousand_vms_cost`).
//!
//! Beside it etcd, with as many keys that hold as many bytes, asked for all of them.

use super::{
    crowd::Made,
    etcd::Etcd,
    http::{Connection, Tokens},
    load::{self, Measured, Writer},
    records::{CLIENTS, add_tiny},
    scale::Scale,
    stand_in::stopped,
    table::{Figure, Table},
    writes::{daemons_idle, socket},
};
use crate::{
    cluster::{Cluster, WITHOUT_GUESTS, wait},
    lab::Lab,
};
use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::Method;
use std::{fs, path::Path, time::Instant};
use waifud_api::{client::IdempotencyKey, paths};

/// The nodes that are daemons.
const DAEMONS: usize = 3;
/// Room for 1024 subnets; the default has 256.
const NETWORK: &str = "[network]\ncidr = \"10.64.0.0/14\"\n";
/// The VM that the others are made after.
const LIKE: &str = "like-this";
/// Where the daemons keep their replicas.
const REPLICA: &str = "/var/lib/waifud/cluster/raft";
/// Where the one of the crowd that speaks keeps its own.
const SPEAKER: &str = "/var/lib/waifud/crowd";
/// How many VMs a list that is cut by a filter still has, about: those of one node.
const FILTER: &str = "filter=node%3Dcrowd-0";

/// Measures and adds to the table.
pub(super) async fn measure(scale: &Scale, table: &mut Table, progress: &dyn Fn(&str)) -> Result<()> {
    let mut cluster = Cluster::start(Lab::plain(DAEMONS)?, &format!("{WITHOUT_GUESTS}{NETWORK}")).await?;
    add_tiny(&cluster).await?;
    let follower = 1 + cluster.leader(1).await? % DAEMONS;
    cluster.client(1).create_vm(&stopped(1, LIKE)?, &IdempotencyKey::random()).await?;

    progress("waifud: a crowd of nodes joins and has VMs created");
    let made = crowd(&cluster, scale)?;
    let all = scale.crowd + 1;
    for index in 1..=DAEMONS {
        let client = cluster.client(index);
        wait("all VMs", async || (client.vms(&Default::default()).await.ok()?.value.len() == all).then_some(()))
            .await?;
    }

    progress("waifud: listing them");
    let mut lists = Connection::open(&socket(&cluster, follower)?).await?;
    let mut writer = Tokens::new(Connection::open(&socket(&cluster, follower)?).await?)?;
    let bytes = lists.send(Method::GET, paths::VMS, Bytes::new()).await?.len();
    let again = ask(&mut lists, paths::VMS, scale.lists, None).await?;
    let fresh = ask(&mut lists, paths::VMS, scale.lists, Some(&mut writer)).await?;
    let filtered = format!("{}?{FILTER}", paths::VMS);
    let filtered = ask(&mut lists, &filtered, scale.lists, Some(&mut writer)).await?;
    progress("waifud: idle with them");
    let idle = daemons_idle(&mut cluster, scale).await?;
    let sizes = Sizes::of(&cluster.host(follower).path(REPLICA))?;
    drop(cluster);

    let lab = Lab::plain(DAEMONS)?;
    progress("etcd: as many keys, of as many bytes");
    let etcd = Etcd::start(&lab).await?;
    let (etcd_list, etcd_idle) = beside(&etcd, scale, all, bytes).await?;
    etcd.end()?;

    let title = format!("{} VMs on {} silent nodes, {DAEMONS} daemons", scale.crowd, scale.silent);
    let ms = |measured: &Measured, share| Figure::ms(measured.quantile(share));
    table.part(title, "etcd");
    table.row("joining: a node", Figure::ms(made.joining / u32::try_from(scale.silent)?), None, "<= 600 ms");
    table.row(format!("creating, {CLIENTS} clients in one node: acknowledged"), rate(&made.creating), None, "");
    table.row(format!("creating, {CLIENTS} clients in one node: p99"), ms(&made.creating, 0.99), None, "");
    table.row("list after a write, from a follower: p50", ms(&fresh, 0.5), ms(&etcd_list, 0.5), "<= 100 ms");
    table.row("list after a write, from a follower: p99", ms(&fresh, 0.99), ms(&etcd_list, 0.99), "");
    table.row("the same list again: p50", ms(&again, 0.5), ms(&etcd_list, 0.5), "<= 100 ms");
    table.row("list of one node's after a write: p50", ms(&filtered, 0.5), None, "");
    table.row("the list", Figure::MiB(bytes as f64 / MIB), None, "");
    table.row("a daemon's resident memory", idle.rss(), etcd_idle.rss(), "");
    table.row("an idle daemon's CPU, of one core", idle.cpu(), etcd_idle.cpu(), "<= 0.5 %");
    table.row("state.db", Figure::MiB(sizes.state), None, "");
    table.row("log.db", Figure::MiB(sizes.log), None, "");
    table.row("the newest snapshot", Figure::MiB(sizes.snapshot), None, "");
    Ok(())
}

fn rate(measured: &Measured) -> Figure {
    Figure::PerSecond(measured.rate())
}

/// Lets the crowd come.
fn crowd(cluster: &Cluster, scale: &Scale) -> Result<Made> {
    let uses = scale.silent.to_string();
    let token = cluster.waifuctl(1, &["cluster", "token", "create", "--uses", &uses])?;
    ensure!(token.status.success(), "no token: {}", String::from_utf8_lossy(&token.stderr));
    let host = cluster.host(1);
    fs::write(host.path("/run/waifud/crowd-token"), &token.stdout)?;
    let this = std::env::current_exe().context("this program has no path")?;
    let (address, nodes, vms) = (host.address().to_string(), uses, scale.crowd.to_string());
    let clients = CLIENTS.min(scale.crowd).to_string();
    let told = host.exec(
        &this,
        [
            "crowd",
            SPEAKER,
            "--token-file",
            "/run/waifud/crowd-token",
            "--address",
            &address,
            "--nodes",
            &nodes,
            "--vms",
            &vms,
            "--clients",
            &clients,
            "--like",
            LIKE,
        ],
    )?;
    Ok(serde_json::from_str(told.trim())?)
}

/// Asks for a list so often. After a write nothing that was kept from the last time is true any more.
async fn ask(lists: &mut Connection, path: &str, times: usize, mut writer: Option<&mut Tokens>) -> Result<Measured> {
    let mut took = Vec::with_capacity(times);
    for _ in 0..times {
        if let Some(writer) = &mut writer {
            writer.write().await?;
        }
        let begun = Instant::now();
        lists.send(Method::GET, path, Bytes::new()).await?;
        took.push(begun.elapsed());
    }
    Ok(Measured::of(took))
}

/// etcd with as many keys, which hold as many bytes together.
async fn beside(etcd: &Etcd<'_>, scale: &Scale, keys: usize, bytes: usize) -> Result<(Measured, super::idle::Usage)> {
    let connection = etcd.follower().await?;
    let value = Bytes::from(vec![b'x'; bytes / keys]);
    let mut puts: Vec<_> = (0..CLIENTS.min(keys))
        .map(|client| Fill { connection: connection.clone(), value: value.clone(), client, count: 0 })
        .collect();
    load::count(&mut puts, keys).await?;
    let mut connection = etcd.follower().await?;
    let mut took = Vec::with_capacity(scale.lists);
    for _ in 0..scale.lists {
        let begun = Instant::now();
        let answer = connection.range(b"vm/", b"vm0").await?;
        took.push(begun.elapsed());
        ensure!(answer.len() > bytes / keys * keys, "etcd has lost some");
    }
    Ok((Measured::of(took), etcd.idle(scale).await?))
}

/// Puts values of one size under keys of its own.
struct Fill {
    connection: super::grpc::Connection,
    value: Bytes,
    client: usize,
    count: usize,
}

impl Writer for Fill {
    async fn write(&mut self) -> Result<()> {
        self.count += 1;
        let key = format!("vm/{}-{}", self.client, self.count);
        self.connection.put(key.as_bytes(), &self.value).await
    }
}

const MIB: f64 = 1024.0 * 1024.0;

/// What a replica takes of the disk, in MiB.
#[derive(Debug)]
struct Sizes {
    state: f64,
    log: f64,
    snapshot: f64,
}

impl Sizes {
    fn of(replica: &Path) -> Result<Self> {
        let size = |path: &Path| fs::metadata(path).map_or(0.0, |file| file.len() as f64 / MIB);
        let database = |name: &str| size(&replica.join(name)) + size(&replica.join(format!("{name}-wal")));
        let snapshots = fs::read_dir(replica.join("snapshots"))?.map(|entry| Ok(size(&entry?.path())));
        let snapshot = snapshots.collect::<Result<Vec<_>>>()?.into_iter().fold(0.0, f64::max);
        Ok(Self { state: database("state.db"), log: database("log.db"), snapshot })
    }
}

//! Many VMs that are not started, on hosts without guests: what it takes to make them, to list them, and to hold them.
//!
//! They are made by requests, one like the other, and their nodes make a disk for each meanwhile, on the same machine.

use super::{
    http::Connection,
    load::{self, Measured, Writer},
    scale::Scale,
    table::{Figure, Table},
    writes::{all_well, daemons_idle, socket},
};
use crate::{
    cluster::{Cluster, WITHOUT_GUESTS, wait},
    lab::{Lab, tiny_image},
};
use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::Method;
use std::time::Instant;
use waifud_api::{paths, vm::VmCreate};
use waifud_model::size::ByteSize;

/// A node's subnet has addresses for 253 guests.
const VMS_A_NODE: usize = 250;
/// Clients that make most of them.
pub(super) const CLIENTS: usize = 64;

/// Measures and adds to the table.
pub(super) async fn measure(scale: &Scale, table: &mut Table, progress: &dyn Fn(&str)) -> Result<()> {
    let nodes = scale.vms.div_ceil(VMS_A_NODE).max(3);
    let mut cluster = Cluster::start(Lab::plain(nodes)?, WITHOUT_GUESTS).await?;
    add_tiny(&cluster).await?;
    let follower = 1 + cluster.leader(1).await? % nodes;

    progress("waifud: creating VMs");
    let mut one = vec![Creates::open(&cluster, follower, "alone").await?];
    let alone = load::count(&mut one, scale.alone).await?;
    let rest = scale.vms.saturating_sub(scale.alone);
    let mut many = Vec::new();
    for client in 0..CLIENTS.min(rest) {
        many.push(Creates::open(&cluster, 1 + client % nodes, &format!("many-{client}")).await?);
    }
    let together = load::count(&mut many, rest).await?;
    settle(&cluster, follower, scale.vms).await?;

    progress("waifud: listing VMs");
    let mut connection = Connection::open(&socket(&cluster, follower)?).await?;
    let mut took = Vec::with_capacity(scale.lists);
    for _ in 0..scale.lists {
        let begun = Instant::now();
        connection.send(Method::GET, paths::VMS, Bytes::new()).await?;
        took.push(begun.elapsed());
    }
    let lists = Measured::of(took);
    progress("waifud: idle with VMs");
    all_well(&cluster).await?;
    let idle = daemons_idle(&mut cluster, scale).await?;

    table.part(format!("Creating {} VMs without starting them, {nodes} nodes", scale.vms), "");
    let ms = |measured: &Measured, share| Figure::ms(measured.quantile(share));
    table.row("1 client, at a follower: p50", ms(&alone, 0.5), None, "<= 5 ms");
    table.row("1 client, at a follower: p99", ms(&alone, 0.99), None, "");
    table.row(format!("{CLIENTS} clients on all nodes: acknowledged"), Figure::PerSecond(together.rate()), None, "");
    table.row(format!("{CLIENTS} clients on all nodes: p99"), ms(&together, 0.99), None, "<= 60 ms");
    table.part(format!("With {} VMs", scale.vms), "");
    table.row("list with state, from a follower: p50", ms(&lists, 0.5), None, "<= 10 ms");
    table.row("list with state, from a follower: p99", ms(&lists, 0.99), None, "");
    table.row("a node's resident memory", idle.rss(), None, "<= 100 MiB");
    table.row("an idle node's CPU, of one core", idle.cpu(), None, "<= 0.5 %");
    Ok(())
}

/// Adds the tiny guest as a template and waits until every node knows it.
pub(super) async fn add_tiny(cluster: &Cluster) -> Result<()> {
    let image = tiny_image()?;
    let file = image.to_str().context("the image's path is no text")?;
    let added = cluster.waifuctl(1, &["template", "add", "tiny", "--file", file])?;
    ensure!(added.status.success(), "no template: {}", String::from_utf8_lossy(&added.stderr));
    let name = "tiny".parse()?;
    for index in 1..=cluster.lab().hosts().len() {
        let client = cluster.client(index);
        wait("the template", async || client.template(&name).await.ok()).await?;
    }
    Ok(())
}

/// Waits until no node has anything left to do for its VMs. However many there are, some are done every minute.
pub(super) async fn settle(cluster: &Cluster, asked: usize, vms: usize) -> Result<()> {
    let client = cluster.client(asked);
    let mut left = vms + 1;
    while left > 0 {
        left = wait("the VMs' disks", async || {
            let listed = client.vms(&Default::default()).await.ok()?.value;
            let now = vms - listed.len() + listed.iter().filter(|vm| vm.status.pending).count();
            (now < left).then_some(now)
        })
        .await?;
    }
    Ok(())
}

/// Creates VMs under names of its own.
struct Creates {
    connection: Connection,
    name: String,
    count: usize,
}

impl Creates {
    async fn open(cluster: &Cluster, node: usize, name: &str) -> Result<Self> {
        let connection = Connection::open(&socket(cluster, node)?).await?;
        Ok(Self { connection, name: name.to_owned(), count: 0 })
    }
}

impl Writer for Creates {
    async fn write(&mut self) -> Result<()> {
        self.count += 1;
        let mut create = VmCreate::from_template("tiny".parse()?);
        create.name = Some(format!("{}-{}", self.name, self.count).parse()?);
        create.memory = ByteSize::mib(64);
        create.disk = Some(ByteSize::mib(32));
        create.start = false;
        self.connection.send(Method::POST, paths::VMS, serde_json::to_vec(&create)?.into()).await.map(drop)
    }
}

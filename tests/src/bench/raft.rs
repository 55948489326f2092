//! Consensus without anything around it, on all hosts of a lab: see [`raft_node`](super::raft_node).

use super::{
    load::Measured,
    raft_node::{IDENTITY, Order, PEERS, SOCKET, Told},
    scale::Scale,
};
use crate::{
    cluster::wait,
    lab::{Lab, Process},
};
use anyhow::{Context, Result};
use std::{fs, time::SystemTime};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixStream,
};
use waifud_gossip::{
    Peer, PeerTable,
    identity::{Ca, Identity, IdentityDir, NodeKey},
};
use waifud_model::ids::{ClusterId, NodeId};

/// Each host's own directory.
const DIR: &str = "/var/lib/waifud/raft";

/// Running nodes; all end with it.
pub(super) struct Raft<'a> {
    lab: &'a Lab,
    nodes: Vec<Process>,
}

impl<'a> Raft<'a> {
    pub(super) async fn start(lab: &'a Lab) -> Result<Self> {
        let ca = Ca::generate(ClusterId::from_random([1; 16]))?;
        let mut table = PeerTable::new();
        for (host, number) in lab.hosts().iter().zip(1..) {
            let node = NodeId::from_random(number);
            let identity = Identity::issue(&ca, node, NodeKey::generate()?, SystemTime::now())?;
            let dir = host.path(DIR);
            fs::create_dir_all(&dir)?;
            IdentityDir::open(dir.join(IDENTITY))?.save(&identity)?;
            let (name, addr) = (host.name().parse()?, (host.address(), 7443).into());
            table.insert(node, Peer { name, addr, fingerprint: identity.fingerprint() });
        }
        let this = std::env::current_exe().context("this program has no path")?;
        let mut raft = Self { lab, nodes: Vec::new() };
        for host in lab.hosts() {
            fs::write(host.path(DIR).join(PEERS), serde_json::to_vec(&table)?)?;
            raft.nodes.push(host.spawn(&this, ["raft-node", DIR])?);
        }
        for index in 1..=raft.nodes.len() {
            wait("a node of bare Raft", async || raft.ask(index, &Order::Tell).await.ok()).await?;
        }
        raft.ask(1, &Order::Form).await.context("bare Raft did not form a cluster")?;
        Ok(raft)
    }

    async fn ask(&self, index: usize, order: &Order) -> Result<Told> {
        let mut stream = BufReader::new(UnixStream::connect(self.lab.host(index).path(DIR).join(SOCKET)).await?);
        let mut line = serde_json::to_vec(order)?;
        line.push(b'\n');
        stream.write_all(&line).await?;
        let mut answer = String::new();
        stream.read_line(&mut answer).await?;
        serde_json::from_str(&answer).with_context(|| format!("a node failed: {}", self.nodes[index - 1].log()))
    }

    async fn ask_all(&self, orders: &[Order]) -> Result<Vec<Told>> {
        futures::future::try_join_all(orders.iter().zip(1..).map(|(order, index)| self.ask(index, order))).await
    }

    /// Writes by this many clients, spread over the nodes; a single one is inside the leader. Gives the commits a write and
    /// a node took, too.
    pub(super) async fn load(&self, clients: usize, scale: &Scale) -> Result<(Measured, f64)> {
        let nodes = self.nodes.len();
        let tell: Vec<_> = (0..nodes).map(|_| Order::Tell).collect();
        let before = self.ask_all(&tell).await?;
        let leader = before.iter().position(|told| told.leads).context("nobody leads")?;
        let share = |node: usize| (clients + nodes - 1 - node) / nodes;
        let orders: Vec<_> = (0..nodes)
            .map(|node| if clients > 1 { share(node) } else { usize::from(node == leader) })
            .map(|clients| if clients > 0 { Order::Load { clients, pace: scale.pace } } else { Order::Tell })
            .collect();
        let measured: Measured =
            self.ask_all(&orders).await?.into_iter().map(|told| told.measured).fold(Measured::default(), Measured::and);
        let after = self.ask_all(&tell).await?;
        let commits: u64 = after.iter().zip(&before).map(|(after, before)| after.commits - before.commits).sum();
        let each = commits as f64 / nodes as f64 / measured.written();
        Ok((measured, each))
    }

    /// Ends it, data and all.
    pub(super) fn end(self) -> Result<()> {
        drop(self.nodes);
        for host in self.lab.hosts() {
            fs::remove_dir_all(host.path(DIR))?;
        }
        Ok(())
    }
}

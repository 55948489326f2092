//! The other side: etcd with its defaults on all hosts of a lab, one process a host, its data on the same disk.

use super::{
    gap::{self, Gap},
    grpc::{Connection, Puts},
    http,
    idle::{self, Usage},
    load::{self, Measured},
    scale::Scale,
};
use crate::{
    cluster::wait,
    lab::{Lab, Process},
};
use anyhow::{Context, Result};
use std::{fs, path::PathBuf, time::Duration};

/// Each host's own directory.
const DIR: &str = "/var/lib/waifud/etcd";
/// How etcd names the socket that it is told to listen on as `unix://127.0.0.1:2379`, in the directory it runs in.
const SOCKET: &str = "127.0.0.1:2379";
/// Connections to one node that many clients share, as etcd's own load generator has it.
const CONNECTIONS: usize = 16;

/// Running daemons; all end with it.
pub(super) struct Etcd<'a> {
    lab: &'a Lab,
    nodes: Vec<Process>,
}

impl<'a> Etcd<'a> {
    pub(super) async fn start(lab: &'a Lab) -> Result<Self> {
        let mut etcd = Self { lab, nodes: Vec::new() };
        for index in 1..=lab.hosts().len() {
            let process = etcd.spawn(index)?;
            etcd.nodes.push(process);
        }
        etcd.ready().await?;
        Ok(etcd)
    }

    fn spawn(&self, index: usize) -> Result<Process> {
        let host = self.lab.host(index);
        fs::create_dir_all(host.path(DIR))?;
        let peer = |host: &crate::lab::Host| format!("http://{}:2380", host.address());
        let members: Vec<_> = self.lab.hosts().iter().map(|host| format!("{}={}", host.name(), peer(host))).collect();
        let command = format!(
            // One that was killed has left its socket, and does not take it over.
            "cd {DIR} && rm -f {SOCKET} && exec etcd --name {} --data-dir data \
             --listen-client-urls unix://{SOCKET} --advertise-client-urls unix://{SOCKET} \
             --listen-peer-urls {peer} --initial-advertise-peer-urls {peer} --initial-cluster {}",
            host.name(),
            members.join(","),
            peer = peer(host),
        );
        host.spawn("sh", ["-c", &command]).context("etcd does not run: is etcd-server installed?")
    }

    async fn ready(&self) -> Result<()> {
        for index in 1..=self.nodes.len() {
            wait("etcd to take writes", async || {
                Connection::open(&self.socket(index)).await.ok()?.put(b"ready", b"").await.ok()
            })
            .await
            .with_context(|| self.nodes[index - 1].log())?;
        }
        Ok(())
    }

    fn socket(&self, index: usize) -> PathBuf {
        self.lab.host(index).path(DIR).join(SOCKET)
    }

    /// A connection to a node that does not lead.
    pub(super) async fn follower(&self) -> Result<Connection> {
        let follower = 1 + self.leader().await? % self.nodes.len();
        Connection::open(&self.socket(follower)).await
    }

    async fn leader(&self) -> Result<usize> {
        wait("etcd's leader", async || {
            for index in 1..=self.nodes.len() {
                let Ok(text) = http::metrics(&self.socket(index)).await else { continue };
                if http::metric(&text, "etcd_server_is_leader") == Some(1.0) {
                    return Some(index);
                }
            }
            None
        })
        .await
    }

    /// What the write-ahead logs of all nodes synced until now.
    async fn syncs(&self) -> Result<f64> {
        let mut sum = 0.0;
        for index in 1..=self.nodes.len() {
            let text = http::metrics(&self.socket(index)).await?;
            sum +=
                http::metric(&text, "etcd_disk_wal_fsync_duration_seconds_count").context("etcd counts its syncs")?;
        }
        Ok(sum)
    }

    /// Writes by this many clients, spread over the nodes; a single one asks the leader. Gives the syncs a write and a
    /// node took, too.
    pub(super) async fn load(&self, clients: usize, scale: &Scale) -> Result<(Measured, f64)> {
        let nodes = self.nodes.len();
        let leader = self.leader().await?;
        let mut connections = Vec::new();
        for client in 0..clients.min(nodes * CONNECTIONS) {
            let node = if clients == 1 { leader } else { 1 + client % nodes };
            connections.push(Connection::open(&self.socket(node)).await?);
        }
        let writers = (0..clients).map(|c| Puts::new(connections[c % connections.len()].clone(), c)).collect();
        let before = self.syncs().await?;
        let measured = load::drive(writers, scale.pace).await?;
        let syncs = self.syncs().await? - before;
        let each = syncs / nodes as f64 / measured.written();
        Ok((measured, each))
    }

    /// Kills the leader, or asks it to end, and lets it come back.
    pub(super) async fn lose_leader(&mut self, kill: bool) -> Result<Gap> {
        let leader = self.leader().await?;
        let socket = self.socket(if leader == 1 { 2 } else { 1 });
        let probe = move || {
            let socket = socket.clone();
            async move { Connection::open(&socket).await?.put(b"probe", b"").await }
        };
        let process = &mut self.nodes[leader - 1];
        let gap = gap::around(probe, || {
            if kill { process.kill9() } else { process.terminate(Duration::from_secs(20)).map(drop) }
        })
        .await?;
        self.nodes[leader - 1] = self.spawn(leader)?;
        self.ready().await?;
        Ok(gap)
    }

    pub(super) async fn idle(&self, scale: &Scale) -> Result<Usage> {
        idle::measure(&self.nodes.iter().map(Process::pid).collect::<Vec<_>>(), scale.idle).await
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

//! A crowd of nodes that is one process: it joins as often as it is told to, as machines do, and speaks for one of those nodes.
//! The others never say a word. Then it has the cluster agree to VMs on all of them, by the command itself: no node that is
//! silent would be given a VM by the API, which places them by what is alive.
//!
//! In: a join token for as many machines, a VM to make the others after. Out: [`Made`], a line of JSON.

use super::{
    load::{self, Measured, Writer},
    raft_node::{Calls, Link, now},
};
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::watch, time::timeout};
use waifud_consensus::{Config, Handle, Liveness, Proposal};
use waifud_gossip::{
    PeerTable,
    identity::{Identity, NodeKey},
    join::{JoinToken, Joined, Newcomer, redeem},
    peers::{Peers, Protocol},
};
use waifud_model::{
    command::{Actor, Command, CreateVm, Origin, RequestKey},
    digest::Blake3,
    ids::{NodeId, VmId},
    name::VmName,
    node::{Arch, Capacity},
    size::ByteSize,
    vm::{Desired, VmSpec},
};

/// Where the one that speaks listens.
const PORT: u16 = 7543;
/// The others are said to be here: addresses set aside for benchmarks (RFC 2544), to which the lab has no route.
const NOWHERE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);
/// For the replica of the one that speaks to have what the cluster has.
const CATCH_UP: Duration = Duration::from_secs(60);

/// What is to be made.
#[derive(Debug, Clone, clap::Args)]
pub struct Crowd {
    /// The replica of the one that speaks
    dir: std::path::PathBuf,
    /// A file with a token
    #[arg(long)]
    token_file: std::path::PathBuf,
    /// Where the one that speaks is reached
    #[arg(long)]
    address: Ipv4Addr,
    /// How many join
    #[arg(long)]
    nodes: usize,
    /// How many VMs they have together
    #[arg(long)]
    vms: usize,
    /// How many are created at once
    #[arg(long)]
    clients: usize,
    /// The VM that all are made after
    #[arg(long)]
    like: VmName,
}

/// What was made.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Made {
    /// From the first join to the last.
    pub(super) joining: Duration,
    /// The VMs.
    pub(super) creating: Measured,
}

/// Makes it, and says so.
///
/// # Errors
/// When anything is refused.
pub async fn make(crowd: &Crowd) -> Result<String> {
    let token: JoinToken = std::fs::read_to_string(&crowd.token_file)?.trim().parse()?;
    let begun = Instant::now();
    let speaker = join(&token, 0, (crowd.address, PORT).into()).await?;
    let mut nodes = vec![speaker.identity.node()];
    for number in 1..crowd.nodes {
        let at = Ipv4Addr::from_bits(NOWHERE.to_bits() + u32::try_from(number)?);
        nodes.push(join(&token, number, (at, PORT).into()).await?.identity.node());
    }
    let joining = begun.elapsed();

    let speaker = Speaker::start(&crowd.dir, speaker).await?;
    let handle = &speaker.handle;
    let like = crowd.like.clone();
    let spec = timeout(CATCH_UP, async {
        loop {
            let like = like.clone();
            if let Some(vm) = handle.read(move |view| view.vm_by_name(&like)).await? {
                return anyhow::Ok(vm.spec);
            }
            handle.applied().changed().await?;
        }
    })
    .await
    .context("the VM to make the others after did not come")??;
    let creator = |client| Creator {
        handle: handle.clone(),
        nodes: nodes.clone(),
        spec: spec.clone(),
        client,
        clients: crowd.clients,
        count: 0,
    };
    let mut creators: Vec<_> = (0..crowd.clients).map(creator).collect();
    let creating = load::count(&mut creators, crowd.vms).await?;
    handle.stop().await;
    Ok(serde_json::to_string(&Made { joining, creating })?)
}

async fn join(token: &JoinToken, number: usize, advertise: SocketAddr) -> Result<Joined> {
    let size = ByteSize::gib(1024);
    let capacity = Capacity {
        cpus: 64,
        threads: 64,
        memory: size,
        disk: size,
        arch: Arch::X86_64,
        kvm: false,
        bridges: Vec::new(),
    };
    let newcomer = Newcomer { name: format!("crowd-{number}").parse()?, advertise, capacity };
    Ok(redeem(token, &newcomer, &NodeKey::generate()?).await?)
}

/// The one that speaks: a replica of its own, and the way to the leader.
struct Speaker {
    handle: Handle,
    /// What it knows does not change any more; these are what tells it so.
    _told: (watch::Sender<Arc<Identity>>, watch::Sender<Arc<PeerTable>>, watch::Sender<Liveness>),
}

impl Speaker {
    async fn start(dir: &Path, joined: Joined) -> Result<Self> {
        let me = joined.identity.node();
        let (alive, liveness) =
            watch::channel(Liveness { alive: joined.peers.keys().copied().collect(), ..Liveness::default() });
        let (identity, shown) = watch::channel(Arc::new(joined.identity));
        let (table, known) = watch::channel(Arc::new(joined.peers));
        let peers = Peers::bind((Ipv4Addr::UNSPECIFIED, PORT).into(), shown, known)?;
        let config = Config::new(dir, me, Arc::new(now));
        let handle = Handle::start(config, Arc::new(Link(peers.clone())), liveness).await?;
        peers.register(Protocol::Raft, Arc::new(Calls(handle.clone())));
        Ok(Self { handle, _told: (identity, table, alive) })
    }
}

/// A client that has VMs created.
struct Creator {
    handle: Handle,
    nodes: Vec<NodeId>,
    spec: VmSpec,
    client: usize,
    clients: usize,
    count: usize,
}

impl Writer for Creator {
    async fn write(&mut self) -> Result<()> {
        // All together count through the nodes, so that none gets much more than its share: a subnet has room for 253.
        let node = self.nodes[(self.client + self.count * self.clients) % self.nodes.len()];
        self.count += 1;
        let name = format!("crowd-{}-{}", self.client, self.count);
        let request = RequestKey { body: Blake3::of(name.as_bytes()), key: name.clone(), origin: Origin::Client };
        let create = CreateVm {
            id: VmId::from_random(rand::random()),
            name: name.parse()?,
            node,
            spec: self.spec.clone(),
            desired: Desired::Stopped,
        };
        let actor = Actor::Local { node: self.nodes[0], uid: 0 };
        let command = Command::CreateVm(Box::new(create));
        let committed = self.handle.propose(Proposal { request, actor, command, request_id: None }).await?;
        ensure!(!committed.replayed, "{name} was there already");
        Ok(())
    }
}

//! One node of consensus alone: no API, no reconcile, nothing but replicas that talk over the peers' QUIC streams. It runs
//! as a process of its own on a host of the lab, and makes its load itself: what stands between a caller inside of waifud
//! and a durable write is all that is measured.
//!
//! In: a directory with its identity and the table of peers; [`Order`]s over a socket, a line of JSON each. Out: answers,
//! the same way.

use super::load::{self, Measured, Pace, Writer};
use anyhow::{Context, Result};
use async_trait::async_trait;
use bytes::{BufMut as _, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixListener,
    sync::watch,
};
use waifud_consensus::{Config, Handle, Liveness, Proposal, Role, RpcKind, Transport, TransportError};
use waifud_gossip::{
    Peer, PeerTable,
    identity::IdentityDir,
    peers::{PeerStream, Peers, Protocol, Service},
};
use waifud_model::{
    command::{Actor, AddNode, Command, InitCluster, NewNode, Origin, RequestKey},
    digest::Blake3,
    ids::{ClusterId, NodeId, TokenId},
    node::{Arch, Capacity},
    scope::Scope,
    size::ByteSize,
    time::Timestamp,
    token::{ApiToken, JoinToken, Role as TokenRole},
};

/// In a node's directory: its identity, the peers, its replica, the socket for orders.
pub(super) const IDENTITY: &str = "identity";
pub(super) const PEERS: &str = "peers.json";
const REPLICA: &str = "replica";
pub(super) const SOCKET: &str = "orders.sock";

/// The largest call: a batch of entries.
const MESSAGE_MAX: usize = 64 << 20;

/// What a node is told to do.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Order {
    /// Make a cluster of all peers, and answer when all vote.
    Form,
    /// Write.
    Load {
        /// How many at once.
        clients: usize,
        /// For how long.
        pace: Pace,
    },
    /// Tell how it is.
    Tell,
}

/// What a node answers.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Told {
    /// What came of the load.
    pub(super) measured: Measured,
    /// Transactions of its log since it began.
    pub(super) commits: u64,
    /// Does it lead?
    pub(super) leads: bool,
}

/// Runs until it is killed.
///
/// # Errors
/// When it cannot begin, or an order cannot be carried out.
pub async fn serve(dir: &Path) -> Result<()> {
    let identity = IdentityDir::open(dir.join(IDENTITY))?.load()?.context("there is no identity")?;
    let me = identity.node();
    let table: PeerTable = serde_json::from_slice(&std::fs::read(dir.join(PEERS))?)?;
    let listen = table.get(&me).context("not among the peers")?.addr;
    let (_identity, shown) = watch::channel(Arc::new(identity));
    let (_table, known) = watch::channel(Arc::new(table.clone()));
    let peers = Peers::bind(listen, shown, known)?;
    let alive = Liveness { alive: table.keys().copied().collect(), ..Liveness::default() };
    let (_alive, liveness) = watch::channel(alive);
    let config = Config::new(dir.join(REPLICA), me, Arc::new(now));
    let handle = Handle::start(config, Arc::new(Link(peers.clone())), liveness).await?;
    peers.register(Protocol::Raft, Arc::new(Calls(handle.clone())));

    let orders = UnixListener::bind(dir.join(SOCKET))?;
    loop {
        let (stream, _) = orders.accept().await?;
        let mut stream = BufReader::new(stream);
        let mut order = String::new();
        if stream.read_line(&mut order).await? == 0 {
            continue;
        }
        let told = carry_out(serde_json::from_str(&order)?, &handle, me, &table).await?;
        let mut answer = serde_json::to_vec(&told)?;
        answer.push(b'\n');
        stream.write_all(&answer).await?;
    }
}

async fn carry_out(order: Order, handle: &Handle, me: NodeId, table: &PeerTable) -> Result<Told> {
    let mut told = Told::default();
    match order {
        Order::Form => form(handle, me, table).await?,
        Order::Load { clients, pace } => {
            let actor = Actor::Local { node: me, uid: 0 };
            let writers = (0..clients).map(|_| Proposer { handle: handle.clone(), actor: actor.clone() }).collect();
            told.measured = load::drive(writers, pace).await?;
        }
        Order::Tell => {}
    }
    told.commits = handle.metrics().log_commits;
    told.leads = handle.status().borrow().role == Role::Leader;
    Ok(told)
}

/// The first command, and one for each other node.
async fn form(handle: &Handle, me: NodeId, table: &PeerTable) -> Result<()> {
    handle.bootstrap().await?;
    let first = InitCluster {
        cluster: ClusterId::from_random([1; 16]),
        ca_cert: b"none".to_vec(),
        ca_key: b"none".to_vec(),
        cidr: "10.77.0.0/16".parse()?,
        subnet_prefix: 24,
        node: new_node(me, table.get(&me).context("not among the peers")?),
    };
    let actor = Actor::Node(me);
    propose(handle, &actor, Command::InitCluster(Box::new(first))).await?;
    let actor = Actor::Local { node: me, uid: 0 };
    let token = JoinToken {
        id: TokenId::from_random(rand::random()),
        key: [1; 32],
        expires_at: Timestamp(u64::MAX >> 1),
        uses_left: u32::MAX,
        created_at: Timestamp(0),
    };
    let id = token.id;
    propose(handle, &actor, Command::CreateJoinToken(token)).await?;
    for (node, peer) in table.iter().filter(|(node, _)| **node != me) {
        let add = AddNode { node: new_node(*node, peer), token: id };
        propose(handle, &actor, Command::AddNode(Box::new(add))).await?;
    }
    let mut status = handle.status();
    status.wait_for(|status| status.voters.len() == table.len() && !status.membership_changing).await?;
    Ok(())
}

fn new_node(id: NodeId, peer: &Peer) -> NewNode {
    let size = ByteSize::gib(1);
    let capacity =
        Capacity { cpus: 1, threads: 1, memory: size, disk: size, arch: Arch::X86_64, kvm: false, bridges: Vec::new() };
    NewNode { id, name: peer.name.clone(), advertise: peer.addr, fingerprint: peer.fingerprint, capacity }
}

async fn propose(handle: &Handle, actor: &Actor, command: Command) -> Result<()> {
    let key = format!("{:032x}", rand::random::<u128>());
    let request = RequestKey { body: Blake3::of(key.as_bytes()), key, origin: Origin::Client };
    handle.propose(Proposal { request, actor: actor.clone(), command, request_id: None }).await?;
    Ok(())
}

/// A client inside the node: the same write as the API's, an API token.
struct Proposer {
    handle: Handle,
    actor: Actor,
}

impl Writer for Proposer {
    async fn write(&mut self) -> Result<()> {
        let number: u64 = rand::random();
        let token = ApiToken {
            id: TokenId::from_random(number),
            description: "x".repeat(200),
            hash: Blake3::of(&number.to_le_bytes()),
            role: TokenRole::Viewer,
            expires_at: None,
            created_at: Timestamp(0),
            scope: Scope::default(),
        };
        propose(&self.handle, &self.actor, Command::CreateApiToken(Box::new(token))).await
    }
}

/// The wall clock.
pub(super) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Calls as the daemon carries them: a byte for the kind, then the body. No node falls so far behind here that it would need
/// a snapshot.
#[derive(Debug)]
pub(super) struct Link(pub(super) Peers);

#[async_trait]
impl Transport for Link {
    async fn call(&self, to: NodeId, kind: RpcKind, body: Bytes, timeout: Duration) -> Result<Bytes, TransportError> {
        let mut request = BytesMut::with_capacity(body.len() + 1);
        request.put_u8(kind.byte());
        request.put(body);
        let answer = self.0.call(to, Protocol::Raft, request.freeze(), timeout, MESSAGE_MAX).await;
        answer.map_err(|error| TransportError::Broken { node: to, why: error.to_string() })
    }

    async fn send_snapshot(&self, to: NodeId, _: Bytes, _: PathBuf) -> Result<Bytes, TransportError> {
        Err(TransportError::Unreachable { node: to, why: "snapshots are not carried here".to_owned() })
    }
}

/// Serves peers' calls.
#[derive(Debug)]
pub(super) struct Calls(pub(super) Handle);

#[async_trait]
impl Service for Calls {
    async fn serve(&self, from: NodeId, mut stream: PeerStream) {
        let Ok(request) = stream.recv.read_to_end(MESSAGE_MAX).await.map(Bytes::from) else { return };
        let Some(kind) = request.first().copied().and_then(RpcKind::from_byte) else { return };
        if let Ok(answer) = self.0.serve_call(from, kind, request.slice(1..)).await {
            // The caller has gone; its own deadline tells it.
            let _ = stream.send.write_chunk(answer).await;
        }
    }
}

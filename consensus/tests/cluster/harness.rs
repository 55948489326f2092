//! Nodes in one process, with a network in memory that can lose, delay and cut.

use crate::commands::{add_node, id, init, join_token};
use async_trait::async_trait;
use bytes::Bytes;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use waifud_consensus::{
    Committed, Config, Handle, Liveness, Proposal, ProposeError, Role, RpcKind, SnapshotRule, Storage, Timing,
    Transport, TransportError, VoterRule,
};
use waifud_model::{command::Actor, digest::Blake3, ids::NodeId, time::Timestamp};

/// Nothing that is waited for takes this long; in paused time it costs nothing.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// One way through the network.
const LATENCY: Duration = Duration::from_micros(200);

#[derive(Debug, Default)]
struct Shared {
    nodes: BTreeMap<NodeId, Handle>,
    /// Nothing goes in or out.
    cut: BTreeSet<NodeId>,
    /// What it sends arrives, what others send it does not.
    deaf: BTreeSet<NodeId>,
    /// Of a thousand requests or answers, so many are lost.
    loss: u64,
    /// Each way has dice of its own: tokio wakes those who wait for the same value in an order that is not the same in every
    /// run, and with shared dice it would matter which of two followers is sent its entries first.
    dice: BTreeMap<(NodeId, NodeId), u64>,
}

impl Shared {
    fn loses(&mut self, from: NodeId, to: NodeId) -> bool {
        let dice = self.dice.entry((from, to)).or_insert(from.get() << 8 | to.get());
        // Knuth's MMIX generator: good enough to lose packets, and the same in every run.
        *dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*dice >> 33) % 1000 < self.loss
    }
}

#[derive(Debug, Clone, Default)]
struct Net(Arc<Mutex<Shared>>);

impl Net {
    /// The other end, if this message gets there.
    fn reach(&self, from: NodeId, to: NodeId) -> Result<Option<Handle>, TransportError> {
        let mut shared = self.0.lock().unwrap();
        if shared.cut.contains(&from) || shared.cut.contains(&to) || shared.deaf.contains(&to) {
            return Ok(None);
        }
        if shared.loses(from, to) {
            return Ok(None);
        }
        let found = shared.nodes.get(&to).cloned();
        found.map(Some).ok_or_else(|| TransportError::Unreachable { node: to, why: "nobody listens".into() })
    }
}

/// One node's end of the network.
#[derive(Debug)]
struct Line {
    from: NodeId,
    net: Net,
}

#[async_trait]
impl Transport for Line {
    async fn call(&self, to: NodeId, kind: RpcKind, body: Bytes, within: Duration) -> Result<Bytes, TransportError> {
        let late = TransportError::Timeout { node: to, after: within };
        let call = async {
            sleep(LATENCY).await;
            let Some(peer) = self.net.reach(self.from, to)? else { return std::future::pending().await };
            let answer = peer.serve_call(self.from, kind, body).await;
            sleep(LATENCY).await;
            if self.net.reach(to, self.from)?.is_none() {
                return std::future::pending().await;
            }
            answer.map_err(|error| TransportError::Broken { node: to, why: error.to_string() })
        };
        timeout(within, call).await.unwrap_or(Err(late))
    }

    async fn send_snapshot(&self, to: NodeId, header: Bytes, file: PathBuf) -> Result<Bytes, TransportError> {
        let Some(peer) = self.net.reach(self.from, to)? else { return std::future::pending().await };
        let bytes = std::fs::read(file).unwrap();
        let answer = peer.serve_snapshot(self.from, header, bytes.as_slice()).await;
        answer.map_err(|error| TransportError::Broken { node: to, why: error.to_string() })
    }
}

/// Some nodes, numbered from 1.
pub(crate) struct Cluster {
    net: Net,
    storage: Storage,
    snapshot: SnapshotRule,
    timing: Timing,
    voters: VoterRule,
    dirs: BTreeMap<u64, TempDir>,
    handles: BTreeMap<u64, Handle>,
    liveness: BTreeMap<u64, watch::Sender<Liveness>>,
    dead: BTreeMap<NodeId, Instant>,
    began: Instant,
}

impl Cluster {
    pub(crate) fn new(storage: Storage) -> Self {
        Self {
            net: Net::default(),
            storage,
            snapshot: SnapshotRule::default(),
            timing: Timing::default(),
            voters: VoterRule::default(),
            dirs: BTreeMap::new(),
            handles: BTreeMap::new(),
            liveness: BTreeMap::new(),
            dead: BTreeMap::new(),
            began: Instant::now(),
        }
    }

    /// In simulated time, on one thread.
    pub(crate) fn simulated() -> Self {
        waifud_consensus::seed_this_thread(1);
        Self::new(Storage::Inline { durable: false })
    }

    pub(crate) fn with_snapshots(mut self, every: u64, keep: u64) -> Self {
        self.snapshot = SnapshotRule { every, keep };
        self
    }

    /// Answers may take long: the machine that runs the tests may be busy with others.
    pub(crate) fn patient(mut self) -> Self {
        self.timing.answer_within = PATIENCE;
        self
    }

    pub(crate) fn replacing_after(mut self, dead: Duration) -> Self {
        self.voters = VoterRule { replace_dead_after: dead };
        self
    }

    /// `count` nodes, of which as many vote as should.
    pub(crate) async fn grown(mut self, count: u64) -> Self {
        self.start(1).await;
        self.node(1).bootstrap().await.unwrap();
        self.propose(1, init()).await.unwrap();
        self.propose(1, join_token()).await.unwrap();
        for n in 2..=count {
            self.join(n).await;
        }
        let voters = waifud_consensus::voters::target(usize::try_from(count).unwrap());
        self.until(1, "enough voters", |status| status.voters.len() == voters && !status.membership_changing).await;
        self
    }

    pub(crate) fn dir(&self, n: u64) -> PathBuf {
        self.dirs[&n].path().to_owned()
    }

    pub(crate) fn config(&mut self, n: u64) -> Config {
        let dir = self.dirs.entry(n).or_insert_with(|| tempfile::tempdir().unwrap()).path().to_owned();
        let began = self.began;
        let clock = move || Timestamp(1_000_000).plus(began.elapsed());
        Config {
            storage: self.storage,
            snapshot: self.snapshot,
            timing: self.timing,
            voters: self.voters,
            ..Config::new(dir, id(n), Arc::new(clock))
        }
    }

    /// Starts a node, on what it left on disk if it was there before. Gossip hears it at once.
    pub(crate) async fn start(&mut self, n: u64) {
        let config = self.config(n);
        let (sender, receiver) = watch::channel(Liveness::default());
        let line = Arc::new(Line { from: id(n), net: self.net.clone() });
        let handle = Handle::start(config, line, receiver).await.unwrap();
        self.net.0.lock().unwrap().nodes.insert(id(n), handle.clone());
        self.handles.insert(n, handle);
        self.liveness.insert(n, sender);
        self.dead.remove(&id(n));
        self.gossip();
    }

    /// Starts a node and makes it a member.
    pub(crate) async fn join(&mut self, n: u64) {
        self.start(n).await;
        let at = self.leader().await;
        self.propose(at, add_node(n)).await.unwrap();
        self.until(n, "membership", |status| status.applied > 0).await;
    }

    /// A node is gone without a word.
    pub(crate) async fn kill(&mut self, n: u64) {
        let handle = self.take(n);
        handle.stop().await;
    }

    /// A node shuts down cleanly.
    pub(crate) async fn shut_down(&mut self, n: u64) {
        let handle = self.node(n).clone();
        handle.shutdown().await;
        drop(self.take(n));
    }

    fn take(&mut self, n: u64) -> Handle {
        self.net.0.lock().unwrap().nodes.remove(&id(n));
        self.liveness.remove(&n);
        self.handles.remove(&n).unwrap()
    }

    /// Nothing goes in or out of a node.
    pub(crate) fn cut(&self, n: u64) {
        self.net.0.lock().unwrap().cut.insert(id(n));
    }

    /// Nothing goes in.
    pub(crate) fn deafen(&self, n: u64) {
        self.net.0.lock().unwrap().deaf.insert(id(n));
    }

    pub(crate) fn mend(&self, n: u64) {
        let mut shared = self.net.0.lock().unwrap();
        shared.cut.remove(&id(n));
        shared.deaf.remove(&id(n));
    }

    /// Of a thousand messages, so many are lost.
    pub(crate) fn lose(&self, permille: u64) {
        self.net.0.lock().unwrap().loss = permille;
    }

    /// Gossip finds a node dead.
    pub(crate) fn declare_dead(&mut self, n: u64) {
        self.dead.insert(id(n), Instant::now());
        self.gossip();
    }

    /// A node's clock is off.
    pub(crate) fn skew(&self, n: u64, offset_ms: i64) {
        self.liveness[&n].send_modify(|liveness| liveness.clock_offset_ms = offset_ms);
    }

    fn gossip(&self) {
        let known = self.dirs.keys().map(|n| id(*n));
        let alive: BTreeSet<_> = known.filter(|node| !self.dead.contains_key(node)).collect();
        for sender in self.liveness.values() {
            sender.send_modify(|liveness| {
                liveness.alive.clone_from(&alive);
                liveness.dead_since.clone_from(&self.dead);
            });
        }
    }

    pub(crate) fn node(&self, n: u64) -> &Handle {
        &self.handles[&n]
    }

    pub(crate) fn running(&self) -> Vec<u64> {
        self.handles.keys().copied().collect()
    }

    /// Somebody at node `n` proposes.
    pub(crate) async fn propose(&self, n: u64, proposal: Proposal) -> Result<Committed, ProposeError> {
        let actor = Actor::Local { node: id(n), uid: 0 };
        self.node(n).propose(Proposal { actor, ..proposal }).await
    }

    /// Waits until a node's status is as wanted.
    pub(crate) async fn until(
        &self,
        n: u64,
        what: &str,
        wanted: impl FnMut(&waifud_consensus::Status) -> bool,
    ) -> waifud_consensus::Status {
        let mut status = self.node(n).status();
        let reached = timeout(PATIENCE, status.wait_for(wanted)).await;
        match reached {
            Ok(Ok(status)) => status.clone(),
            Ok(Err(_)) => panic!("node {n} ended before: {what}"),
            Err(_) => panic!("node {n} never had: {what}; {:?}", self.node(n).status().borrow()),
        }
    }

    /// Who leads, by its own account, once all nodes that are not cut off agree.
    pub(crate) async fn leader(&self) -> u64 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let cut = self.net.0.lock().unwrap().cut.clone();
            let mut seen = BTreeSet::new();
            for (n, handle) in self.handles.iter().filter(|(n, _)| !cut.contains(&id(**n))) {
                let status = handle.status().borrow().clone();
                let belongs = status.voters.contains(&id(*n)) || status.learners.contains(&id(*n));
                if belongs {
                    seen.insert(status.leader);
                }
            }
            if seen.len() == 1
                && let Some(Some(leader)) = seen.first()
                && let Some((n, _)) = self.handles.iter().find(|(n, handle)| {
                    id(**n) == *leader && handle.status().borrow().role == Role::Leader && !cut.contains(leader)
                })
            {
                return *n;
            }
            assert!(Instant::now() < deadline, "no leader that all agree on: {seen:?}");
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until all running nodes have applied the same, and checks that it is the same.
    pub(crate) async fn digest(&self) -> Blake3 {
        let leader = self.leader().await;
        let upto = self.node(leader).linearize(PATIENCE).await.unwrap();
        let mut digests = BTreeSet::new();
        for n in self.running() {
            assert!(self.node(n).wait_applied(upto, PATIENCE).await, "node {n} stays behind {upto}");
            digests.insert(self.node(n).state_digest().await.unwrap().1);
        }
        assert_eq!(digests.len(), 1, "equal logs must give equal states");
        *digests.first().unwrap()
    }
}

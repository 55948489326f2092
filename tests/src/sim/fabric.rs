//! The network between the nodes: every message takes its time, and may be late, lost or delivered twice. Nodes may be cut
//! from each other, in one direction or both.
//!
//! In: calls of consensus. Out: the same calls at the other end, or silence. As with QUIC, whether a request was served can
//! only be told from its answer; a proposal is never delivered twice, for a stream's bytes arrive once.

use super::{dice::Dice, lock, planted::Planted, trace::Trace};
use async_trait::async_trait;
use bytes::Bytes;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    sync::oneshot,
    time::{sleep, timeout},
};
use waifud_consensus::{Handle, RpcKind, Transport, TransportError};
use waifud_model::ids::NodeId;

/// How bad the network is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quality {
    /// Of a thousand messages, so many are lost.
    pub(crate) loss: u64,
    /// Of a thousand messages of Raft, so many arrive twice.
    pub(crate) twice: u64,
    /// Of a thousand messages, so many take up to three seconds.
    pub(crate) late: u64,
    /// The others take at most so many microseconds.
    pub(crate) micros: u64,
}

impl Quality {
    /// A network that works.
    pub(crate) const GOOD: Self = Self { loss: 0, twice: 0, late: 0, micros: 1_000 };
}

#[derive(Debug)]
struct Inner {
    up: BTreeMap<NodeId, Handle>,
    /// Nothing goes from the first to the second.
    cut: BTreeSet<(NodeId, NodeId)>,
    quality: Quality,
    dice: Dice,
    messages: u64,
    snapshots: u64,
    /// Whose replica is to get other bytes.
    corrupted: Option<NodeId>,
}

/// All wires. Cloning gives another hand on the same ones.
#[derive(Debug, Clone)]
pub(crate) struct Fabric {
    inner: Arc<Mutex<Inner>>,
    trace: Trace,
}

/// What becomes of one message.
struct Journey {
    number: u64,
    takes: Duration,
    lost: bool,
    again: Option<Duration>,
}

impl Fabric {
    pub(crate) fn new(dice: Dice, trace: Trace) -> Self {
        let inner = Inner {
            up: BTreeMap::new(),
            cut: BTreeSet::new(),
            quality: Quality::GOOD,
            dice,
            messages: 0,
            snapshots: 0,
            corrupted: None,
        };
        Self { inner: Arc::new(Mutex::new(inner)), trace }
    }

    /// One node's end.
    pub(crate) fn line(&self, from: NodeId) -> Arc<dyn Transport> {
        Arc::new(Line { from, fabric: self.clone() })
    }

    /// A node answers from now on.
    pub(crate) fn attach(&self, node: NodeId, handle: Handle) {
        lock(&self.inner).up.insert(node, handle);
    }

    /// A node answers no more.
    pub(crate) fn detach(&self, node: NodeId) {
        lock(&self.inner).up.remove(&node);
    }

    /// Nothing goes from one node to another.
    pub(crate) fn cut(&self, from: NodeId, to: NodeId) {
        lock(&self.inner).cut.insert((from, to));
    }

    /// All wires are whole again.
    pub(crate) fn join(&self) {
        lock(&self.inner).cut.clear();
    }

    /// The network is as bad as this from now on.
    pub(crate) fn set_quality(&self, quality: Quality) {
        lock(&self.inner).quality = quality;
    }

    /// Log entries on their way to a node are changed: see [`Planted::Divergence`].
    pub(crate) fn corrupt(&self, planted: Option<Planted>, node: NodeId) {
        lock(&self.inner).corrupted = (planted == Some(Planted::Divergence)).then_some(node);
    }

    /// Can a message get from one node to another, luck aside?
    pub(crate) fn reaches(&self, from: NodeId, to: NodeId) -> bool {
        let inner = lock(&self.inner);
        inner.up.contains_key(&from) && inner.up.contains_key(&to) && !inner.cut.contains(&(from, to))
    }

    /// Messages and snapshots sent so far.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let inner = lock(&self.inner);
        (inner.messages, inner.snapshots)
    }

    fn send(&self, from: NodeId, to: NodeId, kind: Option<RpcKind>, size: usize) -> Journey {
        let mut inner = lock(&self.inner);
        inner.messages += 1;
        let number = inner.messages;
        let Quality { loss, twice, late, micros } = inner.quality;
        let raft = matches!(kind, Some(RpcKind::AppendEntries | RpcKind::Vote | RpcKind::PreVote));
        let takes = if inner.dice.permille(late) {
            inner.dice.millis(100..3000)
        } else {
            Duration::from_micros(inner.dice.within(100..micros.max(101)))
        };
        let lost = inner.dice.permille(loss);
        let again = (raft && inner.dice.permille(twice)).then(|| inner.dice.millis(1..1500));
        drop(inner);
        let what = kind.map_or_else(|| "Snapshot".to_owned(), |kind| format!("{kind:?}"));
        self.trace.line(format_args!(
            "msg {number} {from}>{to} {what} {size} takes {takes:?}{}{}",
            if lost { ", lost" } else { "" },
            if again.is_some() { ", twice" } else { "" }
        ));
        Journey { number, takes, lost, again }
    }

    /// The other end of a message that arrives now.
    fn arrive(&self, from: NodeId, to: NodeId) -> Arrival {
        let inner = lock(&self.inner);
        if inner.cut.contains(&(from, to)) {
            return Arrival::Silence;
        }
        inner.up.get(&to).cloned().map_or(Arrival::Nobody, Arrival::At)
    }

    /// The way back of an answer.
    async fn back(&self, from: NodeId, to: NodeId, number: u64, size: usize) -> bool {
        let (takes, lost) = {
            let mut inner = lock(&self.inner);
            let Quality { loss, late, micros, .. } = inner.quality;
            let takes = if inner.dice.permille(late) {
                inner.dice.millis(100..3000)
            } else {
                Duration::from_micros(inner.dice.within(100..micros.max(101)))
            };
            (takes, inner.dice.permille(loss))
        };
        self.trace.line(format_args!("ans {number} {size} takes {takes:?}{}", if lost { ", lost" } else { "" }));
        sleep(takes).await;
        !lost && !lock(&self.inner).cut.contains(&(from, to))
    }

    fn bytes_for(&self, to: NodeId, kind: RpcKind, body: Bytes) -> Bytes {
        let corrupted = kind == RpcKind::AppendEntries && lock(&self.inner).corrupted == Some(to);
        if !corrupted {
            return body;
        }
        // The VMs' names begin so; another letter in the name is another state.
        let mut bytes = body.to_vec();
        let found = bytes.windows(6).position(|window| window == b"guest-");
        if let Some(at) = found {
            bytes[at] = b'q';
        }
        bytes.into()
    }
}

enum Arrival {
    At(Handle),
    /// The machine answers that nobody listens.
    Nobody,
    Silence,
}

#[derive(Debug)]
struct Line {
    from: NodeId,
    fabric: Fabric,
}

type Answer = Result<Bytes, TransportError>;

impl Line {
    /// Brings a message to the other end and its answer back, whether or not anybody still waits for it.
    async fn carry(self, to: NodeId, kind: RpcKind, body: Bytes, journey: Journey, answer: oneshot::Sender<Answer>) {
        sleep(journey.takes).await;
        if journey.lost {
            return hold(answer).await;
        }
        let peer = match self.fabric.arrive(self.from, to) {
            Arrival::At(peer) => peer,
            Arrival::Silence => return hold(answer).await,
            Arrival::Nobody => return drop(answer.send(Err(nobody(to)))),
        };
        let served = peer.serve_call(self.from, kind, self.fabric.bytes_for(to, kind, body)).await;
        drop(peer);
        let size = served.as_ref().map_or(0, Bytes::len);
        if self.fabric.back(to, self.from, journey.number, size).await {
            // Whoever asked may have given up.
            let _ = answer.send(served.map_err(|error| broken(to, &error)));
        } else {
            hold(answer).await;
        }
    }
}

#[async_trait]
impl Transport for Line {
    async fn call(&self, to: NodeId, kind: RpcKind, body: Bytes, within: Duration) -> Answer {
        let mut journey = self.fabric.send(self.from, to, Some(kind), body.len());
        if let Some(after) = journey.again.take() {
            let line = Self { from: self.from, fabric: self.fabric.clone() };
            let again = Journey { number: journey.number, takes: journey.takes + after, lost: false, again: None };
            let (nobody, _) = oneshot::channel();
            tokio::spawn(line.carry(to, kind, body.clone(), again, nobody));
        }
        let (sender, receiver) = oneshot::channel();
        let line = Self { from: self.from, fabric: self.fabric.clone() };
        tokio::spawn(line.carry(to, kind, body, journey, sender));
        match timeout(within, receiver).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(TransportError::Timeout { node: to, after: within }),
        }
    }

    async fn send_snapshot(&self, to: NodeId, header: Bytes, file: PathBuf) -> Answer {
        let bytes = std::fs::read(file).map_err(|error| broken(to, &error))?;
        lock(&self.fabric.inner).snapshots += 1;
        let journey = self.fabric.send(self.from, to, None, bytes.len());
        sleep(journey.takes).await;
        let peer = match self.fabric.arrive(self.from, to) {
            Arrival::Nobody => return Err(nobody(to)),
            Arrival::At(peer) if !journey.lost => peer,
            Arrival::At(_) | Arrival::Silence => return std::future::pending().await,
        };
        let served = peer.serve_snapshot(self.from, header, bytes.as_slice()).await;
        drop(peer);
        let size = served.as_ref().map_or(0, Bytes::len);
        if !self.fabric.back(to, self.from, journey.number, size).await {
            return std::future::pending().await;
        }
        served.map_err(|error| broken(to, &error))
    }
}

/// Silence: the asker's deadline ends it.
async fn hold(mut answer: oneshot::Sender<Answer>) {
    answer.closed().await;
}

fn nobody(node: NodeId) -> TransportError {
    TransportError::Unreachable { node, why: "nobody listens".to_owned() }
}

fn broken(node: NodeId, why: &dyn std::error::Error) -> TransportError {
    TransportError::Broken { node, why: why.to_string() }
}

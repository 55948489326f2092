//! Gets an image from other nodes. In: a version and the nodes that say they have it; out: every missing byte, checked
//! against the version's BLAKE3 as it came. Several nodes are asked at once; each takes the next missing part when it is done
//! with the last, so that a fast one gives more. A node that fails is left, one that lies is left and named; the parts that
//! others gave stay, and so does what an earlier attempt brought.

use super::{
    peers::{ImagePeers, PeerReader, PeerWriter},
    tree::{GROUP_BYTES, Tree},
    wire::{self, Answer, PART_MAX, Request},
};
use bao_tree::io::DecodeError;
use futures::future::join_all;
use std::{
    collections::VecDeque,
    fmt, io,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{io::AsyncWriteExt, sync::watch};
use waifud_model::{digest::Blake3, ids::NodeId};

/// Nodes that are asked at once: more would not make a disk faster, and would load the whole cluster for one VM.
const SOURCES: usize = 4;

/// How patient a fetch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For a connection to a node.
    pub open: Duration,
    /// For one part of at most 4 MiB.
    pub part: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        // A part in 30 s is 1 Mbit/s: slower than any link that a cluster is built on.
        Self { open: Duration::from_secs(10), part: Duration::from_secs(30) }
    }
}

/// Why a node gave nothing more.
#[derive(Debug, thiserror::Error)]
pub enum PeerFault {
    /// It could not be reached, or the connection broke.
    #[error("the connection failed: {0}")]
    Connection(io::Error),
    /// It did not answer in time.
    #[error("it did not answer within {0:?}")]
    Silent(Duration),
    /// It does not have the image after all.
    #[error("it no longer has the image")]
    NotHere,
    /// It cannot read the image.
    #[error("it cannot read the image from its disk")]
    Unreadable,
    /// It sent bytes that are not the image's.
    #[error("it sent bytes that do not match the image's digest")]
    Lied,
}

/// The nodes that were asked, and why each gave nothing more.
#[derive(Debug, Default)]
pub struct PeerFaults(pub Vec<(NodeId, PeerFault)>);

impl fmt::Display for PeerFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (node, fault)) in self.0.iter().enumerate() {
            write!(f, "{}node {node}: {fault}", if i == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

/// Why an image could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Nobody has it.
    #[error("no reachable node has image {}", .0.short())]
    NoHolder(Blake3),
    /// All who have it failed.
    #[error("image {} could not be fetched: {faults}", version.short())]
    Failed {
        /// Which.
        version: Blake3,
        /// Who, and why.
        faults: PeerFaults,
    },
    /// What came could not be stored.
    #[error("image {} could not be stored", version.short())]
    Store {
        /// Which.
        version: Blake3,
        /// Why not.
        source: io::Error,
    },
}

/// The parts that are still to come.
#[derive(Debug)]
struct Work {
    missing: VecDeque<Range<u64>>,
    /// Parts that someone was asked for and has not given yet; they may come back to `missing`.
    asked: usize,
}

/// One fetch.
struct Fetch<'a> {
    version: Blake3,
    peers: &'a dyn ImagePeers,
    patience: Patience,
    tree: Arc<Mutex<Tree>>,
    work: watch::Sender<Work>,
    spare: Mutex<VecDeque<NodeId>>,
    faults: Mutex<PeerFaults>,
    /// Told the length of each part that is proven and written.
    arrived: &'a (dyn Fn(u64) + Sync),
}

/// How asking one node for one part ended, if not well.
enum Fault {
    /// The node is at fault; another may do.
    Peer(PeerFault),
    /// We are.
    Local(io::Error),
}

/// Fetches `missing` into `tree`. Gives the nodes that failed on the way, although others made up for them.
pub(super) async fn fetch(
    version: Blake3,
    tree: Tree,
    missing: Vec<Range<u64>>,
    peers: &dyn ImagePeers,
    patience: Patience,
    arrived: &(dyn Fn(u64) + Sync),
) -> Result<PeerFaults, FetchError> {
    let missing: VecDeque<_> = missing.into_iter().flat_map(parts).collect();
    if missing.is_empty() {
        return Ok(PeerFaults::default());
    }
    let holders: VecDeque<_> = peers.holders(version).await.into();
    if holders.is_empty() {
        return Err(FetchError::NoHolder(version));
    }
    let sources = SOURCES.min(holders.len());
    let fetch = Fetch {
        version,
        peers,
        patience,
        tree: Arc::new(Mutex::new(tree)),
        work: watch::Sender::new(Work { missing, asked: 0 }),
        spare: Mutex::new(holders),
        faults: Mutex::default(),
        arrived,
    };
    let ended = join_all((0..sources).map(|_| fetch.source())).await;
    ended.into_iter().collect::<io::Result<Vec<()>>>().map_err(|source| FetchError::Store { version, source })?;
    let faults = fetch.faults.into_inner().unwrap_or_else(PoisonError::into_inner);
    for (node, fault) in &faults.0 {
        tracing::warn!(%version, %node, %fault, "a node failed to give an image");
    }
    if fetch.work.borrow().missing.is_empty() { Ok(faults) } else { Err(FetchError::Failed { version, faults }) }
}

/// Cuts a range into parts that may be asked for; parts begin with a group, so that none travels twice.
fn parts(range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let first = range.start / GROUP_BYTES * GROUP_BYTES;
    (first..range.end).step_by(PART_MAX as usize).map(move |start| start..(start + PART_MAX).min(range.end))
}

impl Fetch<'_> {
    /// Works through the nodes, one after the other, until nothing is missing or no node is left.
    async fn source(&self) -> io::Result<()> {
        while !self.done() {
            let Some(node) = lock(&self.spare).pop_front() else { break };
            match self.node(node).await {
                Ok(()) => {}
                Err(Fault::Peer(fault)) => lock(&self.faults).0.push((node, fault)),
                Err(Fault::Local(error)) => {
                    // Nobody can store anything, so the others need not go on.
                    self.work.send_modify(|work| work.missing.clear());
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn done(&self) -> bool {
        let work = self.work.borrow();
        work.missing.is_empty() && work.asked == 0
    }

    /// Asks one node for part after part.
    async fn node(&self, node: NodeId) -> Result<(), Fault> {
        let Some(mut part) = self.take().await else { return Ok(()) };
        let opened = tokio::time::timeout(self.patience.open, self.peers.open(node)).await;
        let (mut reader, mut writer) = match opened {
            Ok(Ok(pipe)) => pipe,
            Ok(Err(error)) => return self.give_back(part, Fault::Peer(PeerFault::Connection(error))),
            Err(_) => return self.give_back(part, Fault::Peer(PeerFault::Silent(self.patience.open))),
        };
        loop {
            if let Err(fault) = self.part(part.clone(), &mut reader, &mut writer).await {
                return self.give_back(part, fault);
            }
            (self.arrived)(part.end - part.start);
            self.work.send_modify(|work| work.asked -= 1);
            match self.take().await {
                Some(next) => part = next,
                None => {
                    // All is here; whether the other side hears the end of the stream no longer matters.
                    writer.shutdown().await.ok();
                    return Ok(());
                }
            }
        }
    }

    /// The next part, waiting while others may still give theirs back. `None` when all is here.
    async fn take(&self) -> Option<Range<u64>> {
        let mut changes = self.work.subscribe();
        loop {
            let mut taken = None;
            self.work.send_if_modified(|work| {
                taken = work.missing.pop_front();
                work.asked += usize::from(taken.is_some());
                taken.is_some()
            });
            if taken.is_some() || self.done() {
                return taken;
            }
            // The sender lives in `self`, so there is always a next change.
            changes.changed().await.ok()?;
        }
    }

    fn give_back(&self, part: Range<u64>, fault: Fault) -> Result<(), Fault> {
        self.work.send_modify(|work| {
            work.missing.push_front(part);
            work.asked -= 1;
        });
        Err(fault)
    }

    /// Asks for one part, checks it and writes it.
    async fn part(&self, part: Range<u64>, reader: &mut PeerReader, writer: &mut PeerWriter) -> Result<(), Fault> {
        let request = Request { version: self.version, start: part.start, end: part.end };
        let exchange = async {
            wire::send(writer, &request).await?;
            writer.flush().await?;
            match wire::receive::<Answer>(reader).await? {
                Some(Answer::Part(len)) => {
                    wire::receive_part(reader, len, part.end - part.start).await.map(|bytes| (Answer::Part(len), bytes))
                }
                Some(other) => Ok((other, Vec::new())),
                None => Err(io::ErrorKind::UnexpectedEof.into()),
            }
        };
        let answer = tokio::time::timeout(self.patience.part, exchange).await;
        let bytes = match answer {
            Ok(Ok((Answer::Part(_), bytes))) => bytes,
            Ok(Ok((Answer::Unreadable, _))) => return Err(Fault::Peer(PeerFault::Unreadable)),
            // Refused means that its image of this name has another length than ours should have.
            Ok(Ok((Answer::NotHere | Answer::Refused, _))) => return Err(Fault::Peer(PeerFault::NotHere)),
            Ok(Err(error)) => return Err(Fault::Peer(PeerFault::Connection(error))),
            Err(_) => return Err(Fault::Peer(PeerFault::Silent(self.patience.part))),
        };
        let tree = self.tree.clone();
        let decoded = tokio::task::spawn_blocking(move || lock(&tree).decode(part, &bytes)).await;
        match decoded.map_err(|e| Fault::Local(e.into()))? {
            Ok(()) => Ok(()),
            Err(DecodeError::Io(error)) if error.kind() != io::ErrorKind::UnexpectedEof => Err(Fault::Local(error)),
            Err(_) => Err(Fault::Peer(PeerFault::Lied)),
        }
    }
}

/// The values under these locks are never left half changed, so a panic elsewhere is no reason to stop.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! Who is alive, and what the nodes see: chitchat (Scuttlebutt reconciliation, phi-accrual failure detection) over the
//! [`Peers`] endpoint.
//!
//! ```text
//!   publish/withdraw ──> own observations ──┐
//!                                           v
//!   Peers ──(messages)──> transport ──> chitchat ──> watcher ──> Members, Observations
//!   PeerTable ──(who may be heard of)──────┘
//! ```
//!
//! In: what this node publishes, messages of members. Out: two `watch` channels. Nothing here is stored, nothing decides
//! anything, and no wall clock of another node is ever compared: who is alive is a matter of how long ago, by this
//! node's own monotonic clock, something was heard of him. What was published stays published: it is put back whenever
//! chitchat is found to have lost it. Nodes outside the peer table are neither listened to nor shown.

mod generation;
mod observations;
mod outbox;
mod roster;
mod transport;
mod watcher;
mod wire;

pub use observations::{KEY_MAX, KEYS_MAX, NodeObservations, Observations, PublishError, VALUE_MAX};
pub use roster::{Member, Members};

use crate::peers::Peers;
use observations::Published;
use std::{io, path::PathBuf, sync::Arc, time::Duration};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How fast gossip goes, and how soon silence means death.
///
/// Every `interval` a node exchanges digests with three others. What it has heard of a node is some tenths of a second
/// old in any cluster size, because every exchange brings news of everybody. A node is taken for dead when it has not
/// been heard of for `phi` times the mean pause between news, and that mean is taken over the last `window` pauses and
/// five imagined ones of length `prior`. With a small window the imagined ones act as a floor: however good the
/// network, a node that stalls for a second is not dead yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Pace {
    /// Between two rounds.
    pub interval: Duration,
    /// How many mean pauses of silence mean death.
    pub phi: f64,
    /// How many pauses are remembered.
    pub window: usize,
    /// The pause that is assumed before any was seen.
    pub prior: Duration,
}

impl Default for Pace {
    /// Silence of about a second and a half means death. Among five nodes all see one within three seconds, among twenty
    /// within four; a node among twenty sends 60 kbit/s and uses 0.3 % of a core for it (see `examples/pace.rs`).
    fn default() -> Self {
        Self { interval: Duration::from_millis(500), phi: 6.0, window: 10, prior: Duration::from_millis(400) }
    }
}

/// What gossip needs to start.
#[derive(Debug, Clone)]
pub struct GossipConfig {
    /// Where the number of this node's lives is kept; it grows with every start.
    pub generation_file: PathBuf,
    /// How fast.
    pub pace: Pace,
}

impl GossipConfig {
    /// The usual pace, with the generation kept in `generation_file`.
    #[must_use]
    pub fn new(generation_file: impl Into<PathBuf>) -> Self {
        Self { generation_file: generation_file.into(), pace: Pace::default() }
    }
}

/// Why gossip could not start.
#[derive(Debug, thiserror::Error)]
pub enum GossipError {
    /// Without a generation that grows, peers would take this life's news for old.
    #[error("the gossip generation in {path} could not be kept", path = path.display())]
    Generation {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// chitchat could not start.
    #[error("gossip could not start: {0}")]
    Spawn(String),
    /// chitchat ended.
    #[error("gossip ended: {0}")]
    Ended(String),
}

/// Gossip of this node. Clones share it.
#[derive(Debug, Clone)]
pub struct Gossip {
    published: Arc<Published>,
    members: watch::Receiver<Arc<Members>>,
    observations: watch::Receiver<Arc<Observations>>,
    stop: CancellationToken,
}

impl Gossip {
    /// Starts to gossip with the members in the table of `peers`. Runs until [`shutdown`](Self::shutdown); when
    /// chitchat ends or panics it is started again with a new generation.
    ///
    /// # Errors
    /// The generation cannot be kept.
    pub async fn start(peers: Peers, config: GossipConfig) -> Result<Self, GossipError> {
        // Once here, so that a disk that refuses is told to the one who starts the daemon, not only to the log.
        generation::next(config.generation_file.clone()).await?;
        let published = Arc::new(Published::default());
        let (members_out, members) = watch::channel(Arc::default());
        let (observations_out, observations) = watch::channel(Arc::default());
        let stop = CancellationToken::new();
        let outputs = watcher::Outputs { members: members_out, observations: observations_out };
        tokio::spawn(watcher::run(peers, config, published.clone(), outputs, stop.clone()));
        Ok(Self { published, members, observations, stop })
    }

    /// Who is alive, this node included; every member is listed, also one never heard of.
    #[must_use]
    pub fn members(&self) -> watch::Receiver<Arc<Members>> {
        self.members.clone()
    }

    /// What every member published, this node included, dead ones too: the last that was heard.
    #[must_use]
    pub fn observations(&self) -> watch::Receiver<Arc<Observations>> {
        self.observations.clone()
    }

    /// Publishes `value` under `key` until it is replaced or withdrawn. Returns at once.
    ///
    /// # Errors
    /// Key or value too long, or too many keys. What was published before under the key stays.
    pub fn publish(&self, key: impl Into<String>, value: impl Into<String>) -> Result<(), PublishError> {
        self.published.set(key.into(), value.into())
    }

    /// Withdraws `key`. Returns at once; harmless if nothing is published under it.
    pub fn withdraw(&self, key: &str) {
        self.published.remove(key);
    }

    /// Stops to gossip. To the others this node falls silent.
    pub fn shutdown(&self) {
        self.stop.cancel();
    }
}

#[cfg(test)]
mod tests;

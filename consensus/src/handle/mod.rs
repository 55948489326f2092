//! The door to consensus: what the rest of a node holds.
//!
//! In: proposals, readers, requests of other nodes. Out: what was committed, the local state, [`Status`]. It works the same on
//! every node, whoever leads. It decides nothing about the cluster: that is apply's, Raft's and `voters`' business.

mod error;
mod linearize;
mod metrics;
mod propose;
mod quorum;
mod serve;
mod start;
mod status;
mod stop;

pub use crate::raft::{applied::Applied, wire::Proposal};
pub use error::{BootstrapError, LinearizeError, ProposeError, ReadError, ServeError, StartError, Stopped};
pub use metrics::Metrics;
pub use propose::Committed;
pub(crate) use status::halted;
pub use status::{Role, Status};

use crate::{
    config::{Config, Storage},
    database::{DirLock, Halted},
    liveness::Liveness,
    log::LogStore,
    raft::{Raft, applied::AppliedState},
    snapshot::Snapshots,
    state::{self, View},
    transport::Transport,
};
use metrics::Requests;
use openraft::{
    async_runtime::WatchReceiver,
    errors::{InitializeError, RaftError},
};
use rusqlite::TransactionBehavior;
use std::{
    collections::BTreeSet,
    fmt, io,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{sync::watch, task::AbortHandle};
use waifud_model::{digest::Blake3, ids::NodeId};

/// A node's part in the cluster's agreement. Cloning it gives another handle on the same one.
#[derive(Clone)]
pub struct Handle {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    raft: Raft,
    log: LogStore,
    state: AppliedState,
    snapshots: Snapshots,
    transport: Arc<dyn Transport>,
    liveness: watch::Receiver<Liveness>,
    status: watch::Receiver<Status>,
    halted: Halted,
    requests: Requests,
    /// What works on Raft by itself. It holds no handle, so that the last one dropped stops everything.
    tasks: Vec<AbortHandle>,
    lock: Mutex<Option<DirLock>>,
}

impl Handle {
    /// Begins a cluster of one: this node is the only voter. Returns when it leads.
    ///
    /// # Errors
    /// If this node was ever part of a cluster.
    pub async fn bootstrap(&self) -> Result<(), BootstrapError> {
        let me = self.inner.config.node;
        self.inner.raft.initialize(BTreeSet::from([me])).await.map_err(|error| match error {
            RaftError::APIError(InitializeError::NotAllowed(_) | InitializeError::NotInMembers(_)) => {
                BootstrapError::NotPristine
            }
            RaftError::Fatal(fatal) => BootstrapError::Halted(self.why(&fatal)),
        })?;
        // Its membership and its first leadership are entries like others; nothing can be built on them before.
        let mut status = self.inner.status.clone();
        let led =
            status.wait_for(|status| status.role == Role::Leader && status.applied > 0 || status.halted.is_some());
        match led.await {
            Ok(status) => status.halted.clone().map_or(Ok(()), |why| Err(BootstrapError::Halted(why))),
            Err(_) => Err(BootstrapError::Halted("the node is shutting down".into())),
        }
    }

    /// Reads the local state: `read` sees one moment of it.
    ///
    /// The local replica may be behind the cluster; [`linearize`](Self::linearize) first where that matters.
    ///
    /// # Errors
    /// If the state does not read, or `read` says so.
    pub async fn read<T, F>(&self, read: F) -> Result<T, ReadError>
    where
        F: FnOnce(&View<'_>) -> Result<T, state::ReadError> + Send + 'static,
        T: Send + 'static,
    {
        let readers = self.inner.state.readers();
        readers
            .run(move |db| {
                let tx = db.transaction_with_behavior(TransactionBehavior::Deferred).map_err(state::ReadError::from)?;
                Ok(read(&View::new(&tx))?)
            })
            .await
    }

    /// Waits until the local replica has applied the entry at `index`. False: it did not within `timeout`.
    pub async fn wait_applied(&self, index: u64, timeout: Duration) -> bool {
        let mut applied = self.inner.state.watch();
        let reached = applied.wait_for(|applied| applied.index >= index);
        matches!(tokio::time::timeout(timeout, reached).await, Ok(Ok(_)))
    }

    /// Makes what the local replica has applied survive a power cut. Nobody needs it for the cluster's sake: what a replica
    /// loses it applies again. It is for whoever is about to throw away what only an empty replica would need.
    ///
    /// # Errors
    /// If the disk fails.
    pub async fn sync(&self) -> io::Result<()> {
        let state = self.inner.state.clone();
        match self.inner.config.storage {
            Storage::Inline { .. } => state.sync(),
            Storage::Threads => tokio::task::spawn_blocking(move || state.sync())
                .await
                .unwrap_or_else(|error| Err(io::Error::other(error))),
        }
    }

    /// How far the local replica is, announced after every batch of entries.
    #[must_use]
    pub fn applied(&self) -> watch::Receiver<Applied> {
        self.inner.state.watch()
    }

    /// What this node knows of Raft. Changes of role, leader and membership come at once, the rest within 50 ms.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.inner.status.clone()
    }

    /// Builds a snapshot now, whatever the rule says.
    ///
    /// # Errors
    /// If consensus has stopped.
    pub async fn snapshot_now(&self) -> Result<(), Stopped> {
        self.inner.raft.trigger().snapshot().await.map_err(|fatal| Stopped(self.why(&fatal)))
    }

    /// The digest of the local state, and the index it belongs to.
    ///
    /// # Errors
    /// If the state does not read.
    pub async fn state_digest(&self) -> Result<(u64, Blake3), ReadError> {
        let readers = self.inner.state.readers();
        readers
            .run(move |db| {
                let tx = db.transaction_with_behavior(TransactionBehavior::Deferred).map_err(state::ReadError::from)?;
                let progress = crate::raft::applied::progress(&tx)?;
                Ok((progress.last.map_or(0, |id| id.index()), View::new(&tx).digest()?))
            })
            .await
    }

    /// How much was done since the start.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        Metrics::of(&self.inner.log, &self.inner.state, &self.inner.snapshots, &self.inner.requests)
    }

    /// Why this node's part in consensus ended, if it did.
    fn halted(&self) -> Option<String> {
        halted(&self.inner.halted, &self.inner.raft.metrics().borrow_watched().running_state)
    }

    fn why(&self, fatal: &dyn fmt::Display) -> String {
        self.inner.halted.get().map_or_else(|| fatal.to_string(), str::to_owned)
    }

    fn me(&self) -> NodeId {
        self.inner.config.node
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("node", &self.inner.config.node).finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

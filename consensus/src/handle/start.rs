//! From a directory to a running node.

use super::{Handle, Inner, StartError, metrics::Requests, status};
use crate::{
    config::{Config, SnapshotRule, Timing},
    database::{DirLock, Halted},
    liveness::Liveness,
    log::LogStore,
    raft::{Raft, applied::AppliedState, doubt, machine::StateMachine, network::Network, patience},
    snapshot::Snapshots,
    transport::Transport,
    voters,
};
use openraft::{LogIdOptionExt, SnapshotPolicy, storage::RaftLogStorage};
use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::watch;

/// A learner this close to the end of the log counts as caught up; openraft's own default is 5000.
const LAG: u64 = 100;

/// A heartbeat leaves when openraft looks at its timers for the first time after it is due, and it looks every 60 ms (see
/// `raft::runtime`): with one due after four fifths of 125 ms, one leaves every 120 ms.
const HEARTBEAT_DUE: (u32, u32) = (4, 5);

/// At most so many entries go to a follower at once; their bytes are bounded by the log.
const ENTRIES: u64 = 512;

impl Handle {
    /// Opens the databases and starts Raft. A node without a cluster waits until a leader finds it, or for
    /// [`bootstrap`](Self::bootstrap).
    ///
    /// # Errors
    /// If the directory is in use, its files are damaged, or the configuration contradicts itself.
    pub async fn start(
        config: Config,
        transport: Arc<dyn Transport>,
        liveness: watch::Receiver<Liveness>,
    ) -> Result<Self, StartError> {
        private_dir(&config.dir).map_err(StartError::Dir)?;
        let lock = DirLock::take(&config.dir).map_err(StartError::Locked)?;
        let halted = Halted::default();
        let mut log = LogStore::open(&config.dir, config.storage, halted.clone())?;
        let state = AppliedState::open(&config.dir, config.storage, halted.clone())?;
        let snapshots = Snapshots::open(config.dir.join("snapshots"), config.storage)?;
        no_hole(&mut log, &state, &snapshots).await?;

        let raft_config = raft_config(config.timing, config.snapshot)?;
        let network = Network::new(transport.clone(), liveness.clone());
        let machine = StateMachine::new(state.clone(), snapshots.clone());
        let raft = Raft::new(config.node, raft_config, network, log.clone(), machine)
            .await
            .map_err(|error| StartError::Raft(error.to_string()))?;

        let (status, follow) = status::follow(config.node, &raft, &halted);
        let voters = voters::run(config.node, config.voters, raft.clone(), state.clone(), liveness.clone());
        let doubt = doubt::watch(config.node, config.timing.election_max, raft.clone());
        let recall = patience::recall(raft.clone(), liveness.clone());
        // This one ends by itself when Raft does, and tells so.
        tokio::spawn(follow);
        let tasks =
            [tokio::spawn(voters), tokio::spawn(doubt), tokio::spawn(recall)].map(|task| task.abort_handle()).into();
        let inner = Inner {
            config,
            raft,
            log,
            state,
            snapshots,
            transport,
            liveness,
            status,
            halted,
            requests: Requests::default(),
            tasks,
            lock: Mutex::new(Some(lock)),
        };
        Ok(Self { inner: Arc::new(inner) })
    }
}

/// The state, the log and the snapshots hold the cluster's CA with its key, and users' secrets: whatever the umask, and
/// whoever made the directory, nobody else may enter it.
fn private_dir(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
}

/// What the log no longer has must be in the state, or in a snapshot that openraft then installs by itself.
async fn no_hole(log: &mut LogStore, state: &AppliedState, snapshots: &Snapshots) -> Result<(), StartError> {
    let log = log.get_log_state().await.map_err(|error| StartError::Storage(error.into()))?;
    let snapshot = snapshots.current().and_then(|snapshot| snapshot.meta().last_log_id);
    let (reached, purged) = (state.progress().last.max(snapshot), log.last_purged_log_id);
    if reached.next_index() < purged.next_index() {
        let (applied, purged) = (reached.map_or(0, |id| id.index()), purged.map_or(0, |id| id.index()));
        return Err(StartError::Hole { applied, purged });
    }
    Ok(())
}

fn raft_config(timing: Timing, snapshot: SnapshotRule) -> Result<Arc<openraft::Config>, StartError> {
    let config = openraft::Config {
        cluster_name: "waifud".into(),
        heartbeat_interval: millis(timing.heartbeat * HEARTBEAT_DUE.0 / HEARTBEAT_DUE.1),
        election_timeout_min: millis(timing.election_min),
        election_timeout_max: millis(timing.election_max),
        install_snapshot_timeout: millis(timing.snapshot_transfer),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(snapshot.every.max(1)),
        max_in_snapshot_log_to_keep: snapshot.keep,
        // Purging is a transaction of its own, so a little more than has to stay may stay.
        purge_batch_size: (snapshot.keep / 8).max(1),
        max_payload_entries: ENTRIES,
        replication_lag_threshold: LAG,
        enable_pre_vote: Some(true),
        // A power cut may take the end of `state.db` away. A leader that took its leadership up again without an election
        // would serve reads from such a state.
        enable_leader_restore: Some(false),
        ..openraft::Config::default()
    };
    config.validate().map(Arc::new).map_err(|error| StartError::Config(error.to_string()))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_else_may_enter() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("raft");
        let mode = || fs::metadata(&dir).unwrap().permissions().mode() & 0o777;
        private_dir(&dir).unwrap();
        assert_eq!(mode(), 0o700);
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        private_dir(&dir).unwrap();
        assert_eq!(mode(), 0o700, "one from before is closed too");
    }
}

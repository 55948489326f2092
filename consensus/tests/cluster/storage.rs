//! What is on disk: snapshots, restarts, and files that do not fit together.

use crate::{
    commands::write,
    harness::{Cluster, PATIENCE},
};
use std::{fs, sync::Arc};
use tokio::sync::watch;
use waifud_consensus::{Handle, Liveness, Role, RpcKind, StartError, Storage, Transport, TransportError};

async fn writes(cluster: &Cluster, range: std::ops::Range<u64>) {
    let at = cluster.leader().await;
    for n in range {
        cluster.propose(at, write(n)).await.unwrap();
    }
}

/// A snapshot is built and the log before it purged.
async fn compacted(cluster: &Cluster, n: u64) {
    cluster.node(n).snapshot_now().await.unwrap();
    let applied = cluster.node(n).status().borrow().applied;
    cluster.until(n, "a snapshot and a purged log", |status| status.purged > Some(applied / 2)).await;
}

async fn a_late_learner_gets_a_snapshot(cluster: Cluster) {
    let mut cluster = cluster.with_snapshots(50, 5).grown(3).await;
    writes(&cluster, 0..200).await;
    let leader = cluster.leader().await;
    cluster.until(leader, "a purged log", |status| status.purged.is_some_and(|index| index > 100)).await;
    assert!(cluster.node(leader).metrics().snapshots_built > 0);
    cluster.join(4).await;
    cluster.digest().await;
    assert_eq!(cluster.node(4).metrics().snapshots_received, 1);
    let kept = fs::read_dir(cluster.dir(4).join("snapshots")).unwrap().count();
    assert_eq!(kept, 1, "the newest snapshot and nothing else");
    // It stands on its own feet: the snapshot is its own now, too.
    cluster.kill(4).await;
    writes(&cluster, 200..210).await;
    cluster.start(4).await;
    cluster.digest().await;
}

#[tokio::test(start_paused = true)]
async fn a_late_learner_gets_a_snapshot_simulated() {
    a_late_learner_gets_a_snapshot(Cluster::simulated()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_learner_gets_a_snapshot_for_real() {
    a_late_learner_gets_a_snapshot(Cluster::new(Storage::Threads).patient()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_there_after_all_were_down() {
    let mut cluster = Cluster::new(Storage::Threads).patient().grown(3).await;
    writes(&cluster, 0..20).await;
    let before = cluster.digest().await;
    for n in 1..=3 {
        cluster.kill(n).await;
    }
    for n in 1..=3 {
        cluster.start(n).await;
    }
    assert_eq!(cluster.digest().await, before);
    writes(&cluster, 20..21).await;
}

/// As after a power cut that took the end of `state.db`, or all of it since a while.
#[tokio::test(start_paused = true)]
async fn an_older_state_beside_the_current_log_comes_back_to_the_same_digest() {
    for purge in [false, true] {
        let mut cluster = Cluster::simulated().with_snapshots(1_000_000, 5).grown(1).await;
        writes(&cluster, 0..30).await;
        cluster.kill(1).await;
        let (dir, kept) = (cluster.dir(1), tempfile::tempdir().unwrap());
        fs::copy(dir.join("state.db"), kept.path().join("state.db")).unwrap();
        cluster.start(1).await;
        writes(&cluster, 30..90).await;
        if purge {
            compacted(&cluster, 1).await;
        }
        writes(&cluster, 90..100).await;
        let digest = cluster.digest().await;
        cluster.kill(1).await;
        assert!(!dir.join("state.db-wal").exists(), "closing leaves one file");
        fs::copy(kept.path().join("state.db"), dir.join("state.db")).unwrap();
        cluster.start(1).await;
        assert_eq!(cluster.digest().await, digest, "purged: {purge}");
    }
}

#[derive(Debug)]
struct Nowhere;

#[async_trait::async_trait]
impl Transport for Nowhere {
    async fn call(
        &self,
        to: waifud_model::ids::NodeId,
        _: RpcKind,
        _: bytes::Bytes,
        _: std::time::Duration,
    ) -> Result<bytes::Bytes, TransportError> {
        Err(TransportError::Unreachable { node: to, why: "there is no network".into() })
    }

    async fn send_snapshot(
        &self,
        to: waifud_model::ids::NodeId,
        _: bytes::Bytes,
        _: std::path::PathBuf,
    ) -> Result<bytes::Bytes, TransportError> {
        Err(TransportError::Unreachable { node: to, why: "there is no network".into() })
    }
}

async fn try_start(cluster: &mut Cluster) -> Result<Handle, StartError> {
    let (_, liveness) = watch::channel(Liveness::default());
    Handle::start(cluster.config(1), Arc::new(Nowhere), liveness).await
}

#[tokio::test(start_paused = true)]
async fn a_directory_belongs_to_one_node_at_a_time() {
    let mut cluster = Cluster::simulated().grown(1).await;
    assert!(matches!(try_start(&mut cluster).await, Err(StartError::Locked(_))));
    cluster.shut_down(1).await;
    cluster.start(1).await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_state_without_a_snapshot_is_refused_not_invented() {
    let mut cluster = Cluster::simulated().with_snapshots(1_000_000, 5).grown(1).await;
    writes(&cluster, 0..50).await;
    compacted(&cluster, 1).await;
    cluster.kill(1).await;
    let dir = cluster.dir(1);
    fs::remove_file(dir.join("state.db")).unwrap();
    fs::remove_dir_all(dir.join("snapshots")).unwrap();
    let error = try_start(&mut cluster).await.unwrap_err();
    assert!(matches!(error, StartError::Hole { applied: 0, purged } if purged > 20), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_lost_state_comes_back_from_the_snapshot() {
    let mut cluster = Cluster::simulated().with_snapshots(1_000_000, 5).grown(1).await;
    writes(&cluster, 0..50).await;
    compacted(&cluster, 1).await;
    writes(&cluster, 50..60).await;
    let digest = cluster.digest().await;
    cluster.kill(1).await;
    fs::remove_file(cluster.dir(1).join("state.db")).unwrap();
    cluster.start(1).await;
    assert_eq!(cluster.digest().await, digest);
}

#[tokio::test(start_paused = true)]
async fn a_damaged_snapshot_is_never_installed() {
    let mut cluster = Cluster::simulated().with_snapshots(1_000_000, 5).grown(1).await;
    writes(&cluster, 0..50).await;
    compacted(&cluster, 1).await;
    cluster.kill(1).await;
    let dir = cluster.dir(1);
    fs::remove_file(dir.join("state.db")).unwrap();
    let snapshot = fs::read_dir(dir.join("snapshots")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = fs::read(&snapshot).unwrap();
    let last = bytes.len() - 100;
    bytes[last] ^= 1;
    fs::write(&snapshot, bytes).unwrap();
    let error = try_start(&mut cluster).await.unwrap_err();
    assert!(error.to_string().contains("does not match its digest"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_stopped_node_says_so() {
    let mut cluster = Cluster::simulated().grown(1).await;
    let handle = cluster.node(1).clone();
    cluster.kill(1).await;
    let error = handle.propose(write(1)).await.unwrap_err();
    assert!(matches!(error, waifud_consensus::ProposeError::Halted(_)), "{error:?}");
    assert!(handle.linearize(PATIENCE).await.is_err());
    let mut status = handle.status();
    let last = tokio::time::timeout(PATIENCE, status.wait_for(|status| status.role == Role::Halted)).await.unwrap();
    assert_eq!(last.unwrap().halted.as_deref(), Some("it was shut down"));
}

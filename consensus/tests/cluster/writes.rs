//! Proposing and reading, with everything well.

use crate::{
    commands::{id, proposal, write, written},
    harness::{Cluster, PATIENCE},
};
use std::{sync::Arc, time::Duration};
use tokio::task::JoinSet;
use waifud_consensus::{Proposal, ProposeError, RpcKind, ServeError, Storage};
use waifud_model::{
    command::{Actor, Command},
    reject::Reject,
};

async fn every_node_writes_and_reads_what_it_wrote(cluster: Cluster) {
    for n in 0..30 {
        let at = n % 3 + 1;
        let committed = cluster.propose(at, write(n)).await.unwrap();
        assert!(!committed.replayed);
        let found = cluster.node(at).read(move |view| view.api_token(written(n))).await.unwrap();
        assert!(found.is_some(), "node {at} does not see its own write {n}");
    }
    cluster.digest().await;
}

#[tokio::test(start_paused = true)]
async fn every_node_writes_and_reads_what_it_wrote_simulated() {
    every_node_writes_and_reads_what_it_wrote(Cluster::simulated().grown(3).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_writes_and_reads_what_it_wrote_for_real() {
    every_node_writes_and_reads_what_it_wrote(Cluster::new(Storage::Threads).patient().grown(3).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_writes_share_commits() {
    let cluster = Arc::new(Cluster::new(Storage::Threads).patient().grown(3).await);
    let leader = cluster.leader().await;
    let before = cluster.node(leader).metrics();
    let mut writers = JoinSet::new();
    for n in 0..300 {
        let cluster = cluster.clone();
        writers.spawn(async move { cluster.propose(n % 3 + 1, write(n)).await });
    }
    while let Some(written) = writers.join_next().await {
        written.unwrap().unwrap();
    }
    let commits = cluster.node(leader).metrics().log_commits - before.log_commits;
    assert!(commits < 300, "{commits} commits for 300 writes");
    cluster.digest().await;
}

#[tokio::test(start_paused = true)]
async fn a_repeated_request_gets_the_first_reply() {
    let cluster = Cluster::simulated().grown(3).await;
    // The same somebody, through different nodes.
    let first = cluster.node(1).propose(write(7)).await.unwrap();
    let second = cluster.node(2).propose(write(7)).await.unwrap();
    assert!(!first.replayed && second.replayed);
    assert_eq!(first.reply, second.reply);
    let mut other = write(8);
    other.request.key = write(7).request.key;
    let error = cluster.node(3).propose(other).await.unwrap_err();
    assert!(matches!(error, ProposeError::Rejected { reject: Reject::KeyReused, .. }), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_reject_comes_back_from_any_node() {
    let cluster = Cluster::simulated().grown(3).await;
    for n in 1..=3 {
        let error = cluster
            .propose(n, proposal("cordon", Command::SetCordon { node: id(99), cordoned: true }))
            .await
            .unwrap_err();
        assert!(matches!(error, ProposeError::Rejected { reject: Reject::NoSuchNode(_), .. }), "{error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_linearizable_read_sees_what_was_committed_elsewhere() {
    let cluster = Cluster::simulated().grown(3).await;
    for n in 0..10 {
        let committed = cluster.propose(n % 3 + 1, write(n)).await.unwrap();
        let reader = (n + 1) % 3 + 1;
        assert!(cluster.node(reader).linearize(PATIENCE).await.unwrap() >= committed.index);
        assert!(cluster.node(reader).read(move |view| view.api_token(written(n))).await.unwrap().is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_with_a_wrong_clock_stamps_nothing_and_lets_another_lead() {
    let cluster = Cluster::simulated().grown(1).await;
    cluster.skew(1, -6 * 60 * 1000);
    let error = cluster.propose(1, write(1)).await.unwrap_err();
    assert_eq!(error, ProposeError::ClockSkew { offset_ms: -360_000 });
    cluster.skew(1, 4 * 60 * 1000);
    cluster.propose(1, write(1)).await.unwrap();

    let cluster = Cluster::simulated().grown(3).await;
    let leader = cluster.leader().await;
    cluster.skew(leader, 6 * 60 * 1000);
    cluster.until(leader, "another leader", |status| status.leader.is_some_and(|other| other != id(leader))).await;
    cluster.propose(leader, write(1)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn waiting_for_what_never_comes_ends() {
    let cluster = Cluster::simulated().grown(1).await;
    assert!(!cluster.node(1).wait_applied(u64::MAX, Duration::from_millis(50)).await);
}

#[tokio::test(start_paused = true)]
async fn nobody_speaks_for_another_node() {
    let cluster = Cluster::simulated().grown(1).await;
    let said = |actor| bytes::Bytes::from(rmp_serde::to_vec_named(&Proposal { actor, ..write(1) }).unwrap());
    let serve = async |from, body| cluster.node(1).serve_call(id(from), RpcKind::Propose, body).await;
    let error = serve(2, said(Actor::Node(id(3)))).await.unwrap_err();
    assert!(matches!(error, ServeError::Impostor { from, claimed } if (from, claimed) == (id(2), id(3))), "{error:?}");
    serve(2, said(Actor::Node(id(2)))).await.unwrap();
    for kind in RpcKind::ALL.into_iter().filter(|kind| *kind != RpcKind::ReadIndex) {
        let error = cluster.node(1).serve_call(id(2), kind, b"\xff\xff garbage".as_slice().into()).await.unwrap_err();
        assert!(matches!(error, ServeError::Message(_)), "{kind:?}: {error:?}");
    }
}

//! Nodes come and go, and the voters follow.

use crate::{
    commands::{id, remove_node, write},
    harness::Cluster,
};
use std::{collections::BTreeSet, time::Duration};
use tokio::time::{Instant, sleep};
use waifud_consensus::BootstrapError;

fn ids(nodes: &[u64]) -> BTreeSet<waifud_model::ids::NodeId> {
    nodes.iter().map(|n| id(*n)).collect()
}

#[tokio::test(start_paused = true)]
async fn voters_grow_with_the_cluster() {
    let mut cluster = Cluster::simulated().grown(1).await;
    for (n, voters) in [(2, 1), (3, 3), (4, 3), (5, 5), (6, 5)] {
        cluster.join(n).await;
        let leader = cluster.leader().await;
        let status = cluster
            .until(leader, "all members", |status| {
                let known = status.voters.len() + status.learners.len();
                status.voters.len() == voters && !status.membership_changing && known as u64 == n
            })
            .await;
        assert!(status.voters.is_disjoint(&status.learners));
    }
    cluster.digest().await;
}

#[tokio::test(start_paused = true)]
async fn a_cluster_is_begun_once() {
    let cluster = Cluster::simulated().grown(1).await;
    assert_eq!(cluster.node(1).bootstrap().await, Err(BootstrapError::NotPristine));
}

#[tokio::test(start_paused = true)]
async fn a_voter_that_stays_dead_is_replaced_and_one_that_comes_back_is_not() {
    let patience = Duration::from_secs(60);
    let mut cluster = Cluster::simulated().replacing_after(patience).grown(4).await;
    let leader = cluster.leader().await;
    let status = cluster.node(leader).status().borrow().clone();
    let victim = (1..=4).find(|n| *n != leader && status.voters.contains(&id(*n))).unwrap();
    let learner = (1..=4).find(|n| status.learners.contains(&id(*n))).unwrap();
    cluster.kill(victim).await;
    cluster.declare_dead(victim);
    let died = Instant::now();
    sleep(patience - Duration::from_secs(5)).await;
    assert!(cluster.node(leader).status().borrow().voters.contains(&id(victim)), "replaced too early");
    let leader = cluster.leader().await;
    cluster
        .until(leader, "another voter", |status| {
            status.voters.contains(&id(learner)) && !status.voters.contains(&id(victim)) && !status.membership_changing
        })
        .await;
    assert!(died.elapsed() >= patience);
    cluster.start(victim).await;
    cluster.until(victim, "a seat among the learners", |status| status.learners.contains(&id(victim))).await;
    cluster.digest().await;
}

#[tokio::test(start_paused = true)]
async fn a_removed_leader_hands_over_and_leaves() {
    let mut cluster = Cluster::simulated().grown(4).await;
    let leader = cluster.leader().await;
    cluster.propose(leader, remove_node(leader)).await.unwrap();
    let other = cluster.running().into_iter().find(|n| *n != leader).unwrap();
    cluster
        .until(other, "a cluster without it", |status| {
            !status.voters.contains(&id(leader))
                && !status.learners.contains(&id(leader))
                && status.voters.len() == 3
                && !status.membership_changing
        })
        .await;
    cluster.kill(leader).await;
    cluster.propose(other, write(1)).await.unwrap();
    cluster.digest().await;
}

#[tokio::test(start_paused = true)]
async fn of_two_nodes_the_only_voter_can_leave() {
    let mut cluster = Cluster::simulated().grown(2).await;
    assert_eq!(cluster.leader().await, 1);
    cluster.propose(1, remove_node(1)).await.unwrap();
    cluster.until(2, "only itself", |status| status.voters == ids(&[2]) && status.learners.is_empty()).await;
    cluster.kill(1).await;
    cluster.propose(2, write(1)).await.unwrap();
}

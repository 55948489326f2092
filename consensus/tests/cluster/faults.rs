//! Nodes die, are cut off, and come back.

use crate::{
    commands::{id, write, write_sized, written},
    harness::Cluster,
};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use waifud_consensus::{LinearizeError, ProposeError, Role, Storage};

async fn writes_go_on_after_the_leader_is_killed(mut cluster: Cluster) {
    cluster.propose(1, write(0)).await.unwrap();
    let leader = cluster.leader().await;
    cluster.kill(leader).await;
    let other = cluster.running()[0];
    // The old leader's silence lasts longer than one answer may take, as for a client that tries again with its key.
    let mut tries = 0;
    while let Err(error) = cluster.propose(other, write(1)).await {
        assert!(matches!(error, ProposeError::NoLeaderYet | ProposeError::Unknown), "{error:?}");
        tries += 1;
        assert!(tries < 5, "no leader after {tries} tries");
    }
    cluster.start(leader).await;
    cluster.digest().await;
    for n in 0..2 {
        assert!(cluster.node(leader).read(move |view| view.api_token(written(n))).await.unwrap().is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn writes_go_on_after_the_leader_is_killed_simulated() {
    writes_go_on_after_the_leader_is_killed(Cluster::simulated().grown(3).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_go_on_after_the_leader_is_killed_for_real() {
    writes_go_on_after_the_leader_is_killed(Cluster::new(Storage::Threads).grown(3).await).await;
}

#[tokio::test(start_paused = true)]
async fn a_proposal_on_its_way_to_a_dying_leader_is_answered_by_its_successor() {
    let mut cluster = Cluster::simulated().grown(3).await;
    let leader = cluster.leader().await;
    let other = cluster.running().into_iter().find(|n| *n != leader).unwrap();
    cluster.cut(leader);
    let committed = cluster.propose(other, write(1)).await.unwrap();
    assert!(!committed.replayed, "it never reached the first");
    cluster.mend(leader);
    cluster.until(leader, "the new leader", |status| status.role == Role::Follower).await;
    cluster.digest().await;
    cluster.kill(leader).await;
}

#[tokio::test(start_paused = true)]
async fn a_clean_shutdown_hands_over() {
    let mut cluster = Cluster::simulated().grown(3).await;
    let leader = cluster.leader().await;
    let term = cluster.node(leader).status().borrow().term;
    let began = Instant::now();
    cluster.shut_down(leader).await;
    let next = cluster.leader().await;
    assert_eq!(cluster.node(next).status().borrow().term, term + 1, "one election, authorised by the old leader");
    assert!(
        began.elapsed() < Duration::from_millis(200),
        "it took {:?}: nobody may wait for a timeout",
        began.elapsed()
    );
    cluster.propose(next, write(1)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn without_a_majority_the_answer_is_no_quorum_within_a_second() {
    let mut cluster = Cluster::simulated().grown(3).await;
    let leader = cluster.leader().await;
    for n in cluster.running().into_iter().filter(|n| *n != leader).collect::<Vec<_>>() {
        cluster.kill(n).await;
        cluster.declare_dead(n);
    }
    // Let the lease run out: a leader that still holds it takes the write, and then cannot know.
    sleep(Duration::from_secs(1)).await;
    let began = Instant::now();
    let error = cluster.propose(leader, write(1)).await.unwrap_err();
    assert_eq!(error, ProposeError::NoQuorum { alive: 1, voters: 3 });
    assert!(began.elapsed() < Duration::from_millis(50), "gossip knew at once, it took {:?}", began.elapsed());
    let error = cluster.node(leader).linearize(Duration::from_secs(1)).await.unwrap_err();
    assert_eq!(error, LinearizeError::NoQuorum { alive: 1, voters: 3 });
    assert!(cluster.node(leader).read(|view| view.cluster()).await.unwrap().is_some(), "reads go on");
}

#[tokio::test(start_paused = true)]
async fn a_cut_off_leader_refuses_in_time_and_never_lies() {
    let cluster = Cluster::simulated().grown(3).await;
    let leader = cluster.leader().await;
    cluster.cut(leader);
    let began = Instant::now();
    let error = cluster.propose(leader, write(1)).await.unwrap_err();
    assert_eq!(error, ProposeError::Unknown, "it was taken under the lease");
    assert!(began.elapsed() <= Duration::from_millis(1100), "it took {:?}", began.elapsed());
    let began = Instant::now();
    let error = cluster.propose(leader, write(2)).await.unwrap_err();
    assert_eq!(error, ProposeError::NoLeaderYet, "gossip has not noticed");
    assert!(began.elapsed() <= Duration::from_millis(1100), "it took {:?}", began.elapsed());
    assert!(cluster.node(leader).linearize(Duration::from_secs(1)).await.is_err(), "its state may be old");
    let other = cluster.leader().await;
    cluster.propose(other, write(3)).await.unwrap();
    cluster.node(other).linearize(Duration::from_secs(1)).await.unwrap();
    cluster.mend(leader);
    cluster.until(leader, "a follower's place", |status| status.role == Role::Follower).await;
    cluster.propose(leader, write(1)).await.unwrap();
    cluster.digest().await;
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_was_cut_off_deposes_nobody() {
    let cluster = Cluster::simulated().grown(3).await;
    let leader = cluster.leader().await;
    let term = cluster.node(leader).status().borrow().term;
    let follower = cluster.running().into_iter().find(|n| *n != leader).unwrap();
    cluster.cut(follower);
    sleep(Duration::from_secs(60)).await;
    cluster.mend(follower);
    cluster.propose(follower, write(1)).await.unwrap();
    sleep(Duration::from_secs(5)).await;
    assert_eq!((cluster.leader().await, cluster.node(leader).status().borrow().term), (leader, term));
}

/// Whether it gets entries or a snapshot: it would wait for the next try for many seconds.
async fn whoever_gossip_hears_again_is_caught_up_at_once(mut cluster: Cluster, writes: u64) {
    let leader = cluster.leader().await;
    let follower = cluster.running().into_iter().find(|n| *n != leader).unwrap();
    cluster.kill(follower).await;
    cluster.declare_dead(follower);
    let mut last = 0;
    for n in 0..writes {
        last = cluster.propose(leader, write(n)).await.unwrap().index;
    }
    sleep(Duration::from_secs(100)).await;
    cluster.start(follower).await;
    let began = Instant::now();
    assert!(cluster.node(follower).wait_applied(last, Duration::from_secs(30)).await, "it is never caught up");
    assert!(began.elapsed() < Duration::from_secs(1), "it took {:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn whoever_gossip_hears_again_gets_its_entries_at_once() {
    whoever_gossip_hears_again_is_caught_up_at_once(Cluster::simulated().grown(3).await, 1).await;
}

#[tokio::test(start_paused = true)]
async fn whoever_gossip_hears_again_gets_its_snapshot_at_once() {
    let cluster = Cluster::simulated().with_snapshots(20, 5).grown(3).await;
    whoever_gossip_hears_again_is_caught_up_at_once(cluster, 60).await;
}

#[tokio::test(start_paused = true)]
async fn loss_alone_deposes_nobody_and_stops_no_write() {
    let cluster = Cluster::simulated().grown(3).await;
    let leader = cluster.leader().await;
    let term = cluster.node(leader).status().borrow().term;
    cluster.lose(200);
    let mut refused = 0;
    for n in 0..120 {
        // A lost answer costs a try; the key makes it harmless.
        if let Err(error) = cluster.propose(n % 3 + 1, write(n)).await {
            assert!(matches!(error, ProposeError::Unknown), "{error:?}");
            refused += 1;
        }
        sleep(Duration::from_secs(1)).await;
    }
    cluster.lose(0);
    assert_eq!(
        (cluster.leader().await, cluster.node(leader).status().borrow().term),
        (leader, term),
        "after minutes of it"
    );
    assert!(refused < 36, "{refused} of 120 writes were not answered");
    cluster.digest().await;
}

/// Its heartbeats would hold the others for ever.
#[tokio::test(start_paused = true)]
async fn a_leader_that_hears_nobody_makes_room() {
    let cluster = Cluster::simulated().grown(3).await;
    let leader = cluster.leader().await;
    let other = cluster.running().into_iter().find(|n| *n != leader).unwrap();
    cluster.deafen(leader);
    let began = Instant::now();
    cluster.until(other, "another leader", |status| status.leader.is_some_and(|now| now != id(leader))).await;
    assert!(began.elapsed() < Duration::from_secs(5), "it took {:?}", began.elapsed());
    cluster.propose(other, write(1)).await.unwrap();
    cluster.mend(leader);
    cluster.propose(leader, write(2)).await.unwrap();
    cluster.digest().await;
}

#[tokio::test(start_paused = true)]
async fn large_commands_do_not_make_followers_fall_behind() {
    let mut cluster = Cluster::simulated().grown(3).await;
    let leader = cluster.leader().await;
    let follower = cluster.running().into_iter().find(|n| *n != leader).unwrap();
    cluster.kill(follower).await;
    for n in 0..60 {
        cluster.propose(leader, write_sized(n, 256)).await.unwrap();
    }
    cluster.start(follower).await;
    cluster.digest().await;
}

/// What happened, told without times of day.
async fn trace() -> Vec<String> {
    let mut cluster = Cluster::simulated().grown(3).await;
    let mut trace = Vec::new();
    cluster.lose(100);
    for n in 0..20 {
        if n == 10 {
            let leader = cluster.leader().await;
            trace.push(format!("kill {leader}"));
            cluster.kill(leader).await;
        }
        let at = cluster.running()[0];
        let began = Instant::now();
        let result = cluster.propose(at, write(n)).await;
        trace.push(format!("{n} {:?} {:?}", result.map(|committed| committed.index), began.elapsed()));
    }
    cluster.lose(0);
    trace.push(cluster.digest().await.to_string());
    trace
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(trace())
    };
    let first = run();
    assert_eq!(run(), first);
    assert_eq!(first.len(), 22, "{first:#?}");
    assert!(first.iter().any(|line| line.contains(&format!("kill {}", id(1).get())) || line.contains("kill ")));
}

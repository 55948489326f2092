//! Without a majority: what is known is told at once, what cannot be agreed is refused at once, with the reason.

use super::support::{key, small, three_with_template};
use anyhow::Result;
use bytes::Bytes;
use std::time::{Duration, Instant};
use waifud_api::{
    client::{RelayBody, RelayRequest, reqwest},
    paths,
    problem::{Problem, ProblemCode},
};
use waifud_tests::cluster::{Cluster, wait};

/// "Within a second", and what a loaded machine adds to it.
const HONEST: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread")]
async fn a_lone_survivor_lists_and_refuses() -> Result<()> {
    let mut cluster = three_with_template().await?;
    cluster.client(1).create_vm(&small("before"), &key("before")).await?;
    cluster.daemon(2).kill9()?;
    cluster.daemon(3).kill9()?;
    wait("the survivor to notice", async || {
        let status = cluster.status(1).await.ok()?;
        (!status.quorum).then_some(())
    })
    .await?;

    let (status, problem) = readiness(&cluster, 1).await?;
    let problem: Problem = serde_json::from_str(&problem)?;
    assert_eq!((status, problem.code, problem.errors[0].field.as_str()), (503, ProblemCode::NoQuorum, "quorum"));

    let begun = Instant::now();
    let listed = cluster.client(1).vms(&Default::default()).await?;
    assert!(begun.elapsed() < HONEST, "the list took {:?}", begun.elapsed());
    assert_eq!(listed.value.len(), 1);
    assert!(listed.freshness.stale.is_some(), "the list says that it may be old: {:?}", listed.freshness);

    let begun = Instant::now();
    let refused = cluster.waifuctl(1, &["create", "-t", "disk", "-n", "after", "--no-start"])?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(4), "{said}");
    assert!(begun.elapsed() < HONEST, "the refusal took {:?}", begun.elapsed());
    assert!(said.contains("quorum"), "{said}");

    // Majority back: it goes on, and what was refused was not done.
    cluster.start_daemon(2)?;
    let client = cluster.client(1);
    wait("a create to be taken again", async || client.create_vm(&small("again"), &key("again")).await.ok()).await?;
    wait("the survivor to be ready", async || readiness(&cluster, 1).await.ok().filter(|(status, _)| *status == 200))
        .await?;
    let names: Vec<_> = client.vms(&Default::default()).await?.value.into_iter().map(|vm| vm.name).collect();
    assert_eq!(names.iter().map(|n| n.as_str()).collect::<Vec<_>>(), ["again", "before"]);
    Ok(())
}

/// What a load balancer hears: status and body.
async fn readiness(cluster: &Cluster, index: usize) -> Result<(u16, String)> {
    let request = RelayRequest {
        method: reqwest::Method::GET,
        path: paths::READYZ.to_owned(),
        headers: reqwest::header::HeaderMap::new(),
        body: RelayBody::Whole(Bytes::new()),
    };
    let answer = cluster.client(index).relay(request).await?;
    Ok((answer.status().as_u16(), answer.text().await?))
}

/// A leader that is cut off from the others: they go on without it; it refuses, and catches up when it is back.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_cut_off_promises_nothing() -> Result<()> {
    let cluster = three_with_template().await?;
    let leader = cluster.leader(1).await?;
    let others: Vec<usize> = (1..=3).filter(|i| *i != leader).collect();
    let sides: (Vec<_>, Vec<_>) = (vec![cluster.host(leader)], others.iter().map(|i| cluster.host(*i)).collect());
    cluster.lab().wire().partition(&sides.0, &sides.1)?;

    let majority = cluster.client(others[0]);
    wait("the majority to go on", async || majority.create_vm(&small("there"), &key("there")).await.ok()).await?;
    let begun = Instant::now();
    let alone = cluster.client(leader).create_vm(&small("here"), &key("here")).await;
    let code = alone.expect_err("a minority cannot create").problem().map(|p| p.code);
    assert!(
        matches!(code, Some(ProblemCode::NoQuorum | ProblemCode::NoLeaderYet | ProblemCode::OutcomeUnknown)),
        "{code:?}"
    );
    assert!(begun.elapsed() < Duration::from_secs(15), "the client's own patience is ten seconds");

    cluster.lab().wire().heal()?;
    let client = cluster.client(leader);
    wait("the old leader to catch up", async || {
        let vms = client.vms(&Default::default()).await.ok()?.value;
        vms.iter().any(|vm| vm.name.as_str() == "there").then_some(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_node_is_refused_from_then_on() -> Result<()> {
    let mut cluster = three_with_template().await?;
    let leader = cluster.leader(1).await?;
    let (removed, asked) = if leader == 3 { (2, 1) } else { (3, if leader == 1 { 2 } else { 1 }) };
    let name = cluster.host(removed).name().to_owned();
    let gone = cluster.waifuctl(asked, &["node", "remove", &name, "--yes"])?;
    assert!(gone.status.success(), "{}", String::from_utf8_lossy(&gone.stderr));
    let client = cluster.client(asked);
    wait("two members", async || (client.cluster().await.ok()?.value.members.len() == 2).then_some(())).await?;
    let refused = cluster.client(removed).create_vm(&small("x"), &key("x")).await;
    assert!(refused.is_err(), "a removed node cannot write");
    cluster.client(asked).create_vm(&small("y"), &key("y")).await?;
    // It cannot come back by itself either, whether or not it has heard that it was removed.
    cluster.daemon(removed).kill9()?;
    match cluster.start_daemon(removed) {
        Ok(()) => assert!(cluster.client(removed).create_vm(&small("z"), &key("z")).await.is_err()),
        Err(_) => assert!(cluster.daemon(removed).log().contains("removed from its cluster")),
    }
    assert_eq!(cluster.status(asked).await?.members.len(), 2);
    Ok(())
}

//! Creating VMs while the leader dies, and the same name twice at once: nothing is lost, nothing is there twice.

use super::support::{key, small, three_with_template};
use anyhow::Result;
use std::collections::BTreeSet;
use tokio::task::JoinSet;
use waifud_api::{client::ClientError, problem::ProblemCode};
use waifud_tests::cluster::{SOON, wait};

const CREATES: usize = 100;

#[tokio::test(flavor = "multi_thread")]
async fn killing_the_leader_loses_no_acknowledged_vm() -> Result<()> {
    let mut cluster = three_with_template().await?;
    let leader = cluster.leader(1).await?;
    let others: Vec<usize> = (1..=3).filter(|i| *i != leader).collect();

    let mut creates = JoinSet::new();
    for n in 0..CREATES {
        let client = cluster.client(others[n % others.len()]);
        let (request, key) = (small(&format!("vm-{n}")), key(&format!("create-{n}")));
        creates.spawn(async move { (n, client.create_vm(&request, &key).await) });
    }
    // The kill is to hit requests that are under way: some are done, most are not.
    let watcher = cluster.client(others[0]);
    wait("the first VMs", async || {
        let vms = watcher.vms(&Default::default()).await.ok()?.value;
        (vms.len() >= 5).then_some(())
    })
    .await?;
    cluster.daemon(leader).kill9()?;

    let mut acknowledged = Vec::new();
    while let Some(done) = tokio::time::timeout(SOON, creates.join_next()).await? {
        let (n, answer) = done?;
        if let Ok(answer) = answer {
            acknowledged.push((n, answer.value.vm));
        }
    }
    assert!(!acknowledged.is_empty(), "nothing was acknowledged at all");

    // A repetition with the same key gives the VM there is, or makes it now; either way exactly one.
    for n in 0..CREATES {
        let client = cluster.client(others[(n + 1) % others.len()]);
        let again = client.create_vm(&small(&format!("vm-{n}")), &key(&format!("create-{n}"))).await?;
        if let Some((_, first)) = acknowledged.iter().find(|(m, _)| *m == n) {
            assert_eq!((again.value.vm.id, again.value.vm.ip), (first.id, first.ip), "vm-{n}");
        }
    }
    cluster.start_daemon(leader)?;
    for index in 1..=3 {
        let client = cluster.client(index);
        let vms = wait("all VMs on every node", async || {
            let vms = client.vms(&Default::default()).await.ok()?.value;
            (vms.len() == CREATES).then_some(vms)
        })
        .await?;
        let names: BTreeSet<_> = vms.iter().map(|vm| vm.name.clone()).collect();
        let ids: BTreeSet<_> = vms.iter().map(|vm| vm.id).collect();
        let addresses: BTreeSet<_> = vms.iter().map(|vm| vm.ip).collect();
        assert_eq!((names.len(), ids.len(), addresses.len()), (CREATES, CREATES, CREATES), "n{index}");
        for (_, vm) in &acknowledged {
            assert!(ids.contains(&vm.id), "n{index} does not know {}, which was acknowledged", vm.name);
        }
    }
    the_digests_agree(&cluster).await
}

async fn the_digests_agree(cluster: &waifud_tests::cluster::Cluster) -> Result<()> {
    wait("equal states", async || {
        let mut states = BTreeSet::new();
        for index in 1..=3 {
            let state = cluster.status(index).await.ok()?.state;
            states.insert((state.index, state.digest.to_string()));
        }
        (states.len() == 1).then_some(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_equal_names_wins() -> Result<()> {
    let cluster = three_with_template().await?;
    let (one, two) = (cluster.client(2), cluster.client(3));
    let (request, first, second) = (small("twin"), key("one"), key("two"));
    let (a, b) = tokio::join!(one.create_vm(&request, &first), two.create_vm(&request, &second));
    let (won, lost) = match (a, b) {
        (Ok(won), Err(lost)) | (Err(lost), Ok(won)) => (won.value.vm, lost),
        other => panic!("exactly one was to win: {other:?}"),
    };
    let problem = lost.problem().expect("a refusal by the cluster");
    assert_eq!(problem.code, ProblemCode::NameTaken, "{problem:?}");
    assert_eq!(problem.status, 409);
    let said = problem.detail.clone();
    assert!(said.contains("twin") && said.contains(won.node.as_str()), "it names the VM and its node: {said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_does_not_serve_two_requests() -> Result<()> {
    let cluster = three_with_template().await?;
    cluster.client(1).create_vm(&small("first"), &key("k")).await?;
    let other = cluster.client(2).create_vm(&small("second"), &key("k")).await;
    let Err(error @ ClientError::Problem(_)) = other else { panic!("it was to be refused: {other:?}") };
    assert_eq!(error.problem().map(|p| p.code), Some(ProblemCode::KeyReused));
    Ok(())
}

/// The answer is the same from every node, byte for byte.
#[tokio::test(flavor = "multi_thread")]
async fn all_nodes_list_alike() -> Result<()> {
    let cluster = three_with_template().await?;
    for n in 0..5 {
        cluster.client(1 + n % 3).create_vm(&small(&format!("vm-{n}")), &key(&format!("k{n}"))).await?;
    }
    wait("the same list from all nodes", async || {
        let lists: Vec<_> = (1..=3)
            .map(|i| cluster.waifuctl(i, &["list", "-o", "json"]).ok().map(|o| o.stdout))
            .collect::<Option<_>>()?;
        let all_there = String::from_utf8_lossy(&lists[0]).matches("\"stopped\"").count() >= 10;
        (all_there && lists.iter().all(|list| *list == lists[0])).then_some(())
    })
    .await
}

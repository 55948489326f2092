//! Power without quorum, on three real daemons: what the owner was asked for alone it does, keeps over its own death, and takes
//! to the cluster when that can agree again; what somebody decided otherwise there stands.

use super::{
    guest::Guest,
    support::{ctl, three_with_tiny, tiny, until},
};
use anyhow::{Context, Result};
use std::fs;
use waifud_api::{
    event::{Change, Event, EventsQuery, Subject},
    vm_change::VmUpdate,
};
use waifud_model::{event::EventKind, observed::VmState, vm::Desired};
use waifud_tests::cluster::{Cluster, wait};

#[tokio::test(flavor = "multi_thread")]
async fn power_that_was_asked_for_without_quorum() -> Result<()> {
    let mut cluster = three_with_tiny().await?;
    let guest = tiny(&cluster, "web-1", "n1", &[]).await?;
    it_is_kept_and_then_told(&mut cluster, &guest).await?;
    ctl(&cluster, 2, &["start", "web-1"])?;
    guest.serves(&cluster).await?;
    it_is_dropped_where_somebody_decided_otherwise(&cluster, &guest).await
}

/// What the node keeps until the cluster has been told, as it is on its disk.
fn kept(cluster: &Cluster) -> Option<String> {
    fs::read_to_string(cluster.host(1).path("/var/lib/waifud/cluster/overrides.json")).ok()
}

async fn quorum(cluster: &Cluster, is_there: bool) -> Result<()> {
    let told = async || cluster.status(1).await.ok().filter(|status| status.quorum == is_there).map(drop);
    wait("the node to know whether there is a quorum", told).await
}

async fn it_is_kept_and_then_told(cluster: &mut Cluster, guest: &Guest) -> Result<()> {
    for node in [2, 3] {
        cluster.daemon(node).kill9()?;
    }
    quorum(cluster, false).await?;
    ctl(cluster, 1, &["stop", "web-1"])?;
    assert_eq!(guest.process(cluster), None);
    assert!(guest.serial(cluster).contains("STOPPING"), "it was asked, not switched off");
    let before = cluster.client(1).vm(&guest.name.parse()?).await?.value;
    assert_eq!(before.desired, Desired::Running, "the record is the cluster's, and stays as it was");
    assert!(kept(cluster).context("a file")?.contains(&guest.id));

    // The daemon dies, and finds a guest that is off and a record that says it shall run.
    cluster.daemon(1).kill9()?;
    cluster.start_daemon(1)?;
    until(&cluster.client(1), "web-1", VmState::Stopped).await?;
    assert_eq!(guest.process(cluster), None, "the wish outlives the daemon");
    assert_eq!(guest.boots(cluster), 1);

    // Others may still be asked for it, and take it back.
    ctl(cluster, 1, &["start", "web-1"])?;
    guest.serves(cluster).await?;
    ctl(cluster, 1, &["stop", "web-1", "--force"])?;
    assert_eq!(guest.process(cluster), None);

    for node in [2, 3] {
        cluster.start_daemon(node)?;
    }
    for node in 1..=3 {
        let client = cluster.client(node);
        let name = guest.name.parse()?;
        wait("the record to follow", async || {
            let vm = client.vm(&name).await.ok()?.value;
            (vm.desired == Desired::Stopped && vm.generation > before.generation).then_some(())
        })
        .await?;
    }
    until(&cluster.client(3), "web-1", VmState::Stopped).await?;
    wait("the wish to be let go", async || kept(cluster).filter(|kept| kept.trim() == "{}")).await?;
    assert_eq!(guest.process(cluster), None, "and it stays off");
    assert_eq!(dropped(cluster, guest).await?, 0);
    Ok(())
}

/// How often the history says that a wish did not count.
async fn dropped(cluster: &Cluster, guest: &Guest) -> Result<usize> {
    let events = cluster.client(2).events(EventsQuery::default()).await?.value;
    let about = |subject: &Subject| matches!(subject, Subject::Vm { name, .. } if name.as_str() == guest.name);
    let says = |change: &Change| change.new.as_ref().is_some_and(|why| why.contains("does not count"));
    let is_it =
        |event: &&Event| event.kind == EventKind::Failed && about(&event.subject) && event.changes.iter().any(says);
    Ok(events.iter().filter(is_it).count())
}

async fn it_is_dropped_where_somebody_decided_otherwise(cluster: &Cluster, guest: &Guest) -> Result<()> {
    let others = [cluster.host(2), cluster.host(3)];
    cluster.lab().wire().partition(&[cluster.host(1)], &others)?;
    quorum(cluster, false).await?;
    ctl(cluster, 1, &["stop", "web-1", "--force"])?;
    assert_eq!(guest.process(cluster), None);
    // Meanwhile the others decide something about it, which is acknowledged though its owner does not hear.
    let name = guest.name.parse()?;
    let client = cluster.client(2);
    let update = VmUpdate { description: Some("the shop".to_owned()), ..VmUpdate::default() };
    let key = "otherwise".parse()?;
    let decided =
        wait("the majority to agree", async || client.update_vm(&name, &update, None, &key).await.ok()).await?;
    assert_eq!(decided.value.desired, Desired::Running);

    cluster.lab().wire().heal()?;
    guest.serves(cluster).await?;
    let vm = until(&cluster.client(3), "web-1", VmState::Running).await?;
    assert_eq!((vm.desired, vm.description.as_str()), (Desired::Running, "the shop"));
    wait("the wish to be dropped", async || kept(cluster).filter(|kept| kept.trim() == "{}")).await?;
    assert_eq!(dropped(cluster, guest).await?, 1);
    Ok(())
}

//! What a guest does not notice, and what is done for one that dies.

use super::{
    guest::Guest,
    support::{ctl, happened, three_with_tiny, until},
};
use anyhow::Result;
use waifud_api::vm::VmCreate;
use waifud_model::{event::EventKind, observed::VmState, size::ByteSize};
use waifud_tests::cluster::{Cluster, wait};

#[tokio::test(flavor = "multi_thread")]
async fn guests_outlive_what_manages_them_and_are_started_again_when_they_die() -> Result<()> {
    let mut cluster = three_with_tiny().await?;
    let (left, right) = tokio::try_join!(made(&cluster, 2, "left", "n1"), made(&cluster, 3, "right", "n2"))?;
    assert_ne!(left.ip, right.ip);
    tokio::try_join!(left.serves(&cluster), right.serves(&cluster))?;

    the_daemon_dies(&mut cluster, &right).await?;
    libvirtd_is_restarted(&cluster, &right).await?;
    the_guest_dies(&cluster, &left).await
}

/// Asks a node for a VM on another, and waits until it runs.
async fn made(cluster: &Cluster, asked: usize, name: &str, node: &str) -> Result<Guest> {
    let mut request = VmCreate::from_template("tiny".parse()?);
    request.name = Some(name.parse()?);
    request.node = Some(node.parse()?);
    request.memory = ByteSize::mib(256);
    let client = cluster.client(asked);
    client.create_vm(&request, &name.parse()?).await?;
    Guest::of(cluster, &until(&client, name, VmState::Running).await?)
}

async fn the_daemon_dies(cluster: &mut Cluster, guest: &Guest) -> Result<()> {
    let process = guest.process(cluster);
    assert!(process.is_some());
    let before = until(&cluster.client(1), &guest.name, VmState::Running).await?;
    cluster.daemon(guest.owner).kill9()?;
    let others: Vec<usize> = (1..=3).filter(|node| *node != guest.owner).collect();
    for node in others {
        let client = cluster.client(node);
        wait("the silence to be noticed", async || client.vm(&before.name).await.ok()?.value.status.silent).await?;
        let listed = ctl(cluster, node, &["list", &guest.name, "--columns", "name,status"])?;
        assert_eq!(listed.trim(), format!("{}\tunknown", guest.name), "by the word of n{node}");
    }
    assert_eq!(guest.process(cluster), process, "the guest runs on");
    guest.serves(cluster).await?;

    cluster.start_daemon(guest.owner)?;
    let after = until(&cluster.client(1), &guest.name, VmState::Running).await?;
    assert_eq!(guest.process(cluster), process, "it was adopted");
    assert_eq!(after.status.since, before.status.since, "it runs since it was started, whoever looks");
    assert_eq!(happened(&cluster.client(1), &guest.name).await?, [EventKind::Started], "nothing has happened to it");
    Ok(())
}

async fn libvirtd_is_restarted(cluster: &Cluster, guest: &Guest) -> Result<()> {
    let process = guest.process(cluster);
    guest.host(cluster).libvirtd_restart()?;
    assert_eq!(guest.process(cluster), process, "the guest runs on");
    guest.serves(cluster).await?;
    until(&cluster.client(1), &guest.name, VmState::Running).await?;

    // waifud has found its way back: it hears and is obeyed.
    ctl(cluster, 1, &["stop", &guest.name])?;
    assert_eq!(guest.process(cluster), None);
    let stopped = [EventKind::Started, EventKind::Stopped];
    wait("the stop to be told", async || {
        (happened(&cluster.client(1), &guest.name).await.ok()? == stopped).then_some(())
    })
    .await
}

async fn the_guest_dies(cluster: &Cluster, guest: &Guest) -> Result<()> {
    let process = guest.process(cluster);
    guest.kill(cluster)?;
    wait("another process", async || guest.process(cluster).filter(|now| Some(now) != process.as_ref())).await?;
    until(&cluster.client(3), &guest.name, VmState::Running).await?;
    wait("the second boot", async || (guest.boots(cluster) == 2).then_some(())).await?;
    guest.serves(cluster).await?;
    let told = [EventKind::Started, EventKind::Crashed, EventKind::Started];
    wait("the crash and the start to be told", async || {
        (happened(&cluster.client(3), &guest.name).await.ok()? == told).then_some(())
    })
    .await
}

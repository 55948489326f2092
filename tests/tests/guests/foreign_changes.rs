//! What other tools do to waifud's domains, on a real libvirtd (`node/docs/foreign-changes.md`), and what is left of a VM that was
//! deleted while its node was away. A domain of somebody else is looked at all along.

use super::{
    foreign::Foreign,
    guest::Guest,
    support::{ctl, three_with_tiny, tiny, until},
};
use anyhow::{Context, Result};
use std::fs;
use waifud_model::{observed::VmState, vm::Phase};
use waifud_tests::cluster::{Cluster, wait};

#[tokio::test(flavor = "multi_thread")]
async fn what_others_do_to_a_domain_is_repaired_and_what_is_theirs_is_left_alone() -> Result<()> {
    let mut cluster = three_with_tiny().await?;
    let foreign = Foreign::start(cluster.host(2))?;
    let guest = tiny(&cluster, "web-1", "n2", &[]).await?;
    it_is_destroyed(&cluster, &guest).await?;
    it_is_suspended(&cluster, &guest).await?;
    it_is_undefined_while_it_runs(&cluster, &guest).await?;
    it_is_edited(&cluster, &guest).await?;
    it_is_undefined_and_started_while_it_is_off(&cluster, &guest).await?;
    its_mark_is_taken_off(&cluster, &guest).await?;
    foreign.is_untouched(cluster.host(2))?;
    it_is_deleted_while_its_node_is_away(&mut cluster, &guest, &foreign).await
}

async fn it_is_destroyed(cluster: &Cluster, guest: &Guest) -> Result<()> {
    let process = guest.process(cluster);
    guest.virsh(cluster, &["destroy", &guest.id])?;
    wait("another process", async || guest.process(cluster).filter(|now| Some(now) != process.as_ref())).await?;
    guest.serves(cluster).await?;
    until(&cluster.client(1), &guest.name, VmState::Running).await.map(drop)
}

async fn it_is_suspended(cluster: &Cluster, guest: &Guest) -> Result<()> {
    let process = guest.process(cluster);
    guest.virsh(cluster, &["suspend", &guest.id])?;
    guest.serves(cluster).await?;
    assert_eq!(guest.process(cluster), process, "it went on where it was");
    Ok(())
}

async fn it_is_undefined_while_it_runs(cluster: &Cluster, guest: &Guest) -> Result<()> {
    let process = guest.process(cluster);
    guest.virsh(cluster, &["undefine", &guest.id])?;
    wait("a definition again", async || {
        let info = guest.virsh(cluster, &["dominfo", &guest.id]).ok()?;
        says(&info, "Persistent:", "yes").then_some(())
    })
    .await?;
    assert_eq!(guest.process(cluster), process, "the guest did not notice");
    guest.serves(cluster).await
}

fn says(info: &str, field: &str, value: &str) -> bool {
    info.lines().any(|line| line.starts_with(field) && line.ends_with(value))
}

fn dumped(cluster: &Cluster, guest: &Guest, which: &str) -> Option<String> {
    guest.virsh(cluster, &["dumpxml", which, &guest.id]).ok()
}

async fn it_is_edited(cluster: &Cluster, guest: &Guest) -> Result<()> {
    let process = guest.process(cluster);
    let title = format!("<title>{}</title>", guest.name);
    let edited = dumped(cluster, guest, "--inactive").context("a definition")?.replace(&title, "<title>mine</title>");
    fs::write(guest.host(cluster).path("/var/lib/libvirt/edited.xml"), edited)?;
    guest.virsh(cluster, &["autostart", &guest.id])?;
    guest.virsh(cluster, &["define", "/var/lib/libvirt/edited.xml"])?;
    wait("the definition that the record makes", async || {
        let info = guest.virsh(cluster, &["dominfo", &guest.id]).ok()?;
        let is_ours = dumped(cluster, guest, "--inactive")?.contains(&title);
        (is_ours && says(&info, "Autostart:", "disable")).then_some(())
    })
    .await?;
    assert_eq!(guest.process(cluster), process, "the guest did not notice");
    Ok(())
}

async fn it_is_undefined_and_started_while_it_is_off(cluster: &Cluster, guest: &Guest) -> Result<()> {
    ctl(cluster, 1, &["stop", &guest.name])?;
    until(&cluster.client(3), &guest.name, VmState::Stopped).await?;
    let boots = guest.boots(cluster);
    guest.virsh(cluster, &["start", &guest.id])?;
    wait("it to be switched off again", async || {
        let state = guest.virsh(cluster, &["domstate", &guest.id]).ok()?;
        (state.trim() == "shut off").then_some(())
    })
    .await?;
    until(&cluster.client(3), &guest.name, VmState::Stopped).await?;

    guest.virsh(cluster, &["undefine", &guest.id])?;
    ctl(cluster, 3, &["start", &guest.name])?;
    guest.serves(cluster).await?;
    assert!(guest.boots(cluster) > boots, "made anew from record and disk");
    Ok(())
}

/// It is not ours any more then, and the VM says so; with the mark it is ours again.
async fn its_mark_is_taken_off(cluster: &Cluster, guest: &Guest) -> Result<()> {
    let process = guest.process(cluster);
    let host = guest.host(cluster);
    let marked = dumped(cluster, guest, "--inactive").context("a definition")?;
    let (before, rest) = marked.split_once("<metadata>").context("a mark")?;
    let (_, after) = rest.split_once("</metadata>").context("a mark's end")?;
    fs::write(host.path("/var/lib/libvirt/unmarked.xml"), format!("{before}{after}"))?;
    fs::write(host.path("/var/lib/libvirt/marked.xml"), &marked)?;
    ctl(cluster, 1, &["stop", &guest.name])?;
    guest.virsh(cluster, &["define", "/var/lib/libvirt/unmarked.xml"])?;
    ctl(cluster, 1, &["start", &guest.name, "--no-wait"])?;
    let client = cluster.client(3);
    let name = guest.name.parse()?;
    wait("the VM to say that its domain is somebody else's", async || {
        let status = client.vm(&name).await.ok()?.value.status;
        status.last_error.filter(|error| error.message.contains("does not belong to this cluster"))
    })
    .await?;
    assert_eq!(guest.process(cluster), None, "nothing is done to it: {process:?}");
    guest.virsh(cluster, &["undefine", &guest.id])?;
    guest.serves(cluster).await
}

async fn it_is_deleted_while_its_node_is_away(cluster: &mut Cluster, guest: &Guest, foreign: &Foreign) -> Result<()> {
    let process = guest.process(cluster).context("it runs")?;
    cluster.daemon(2).kill9()?;
    ctl(cluster, 1, &["delete", &guest.name, "--yes", "--no-wait"])?;
    let client = cluster.client(1);
    let name = guest.name.parse()?;
    let deleting = client.vm(&name).await?.value;
    assert_eq!(deleting.phase, Phase::Deleting, "its name and address stay taken until its node has confirmed");
    assert_eq!(guest.process(cluster), Some(process), "nobody else can stop it");
    let taken = cluster.waifuctl(3, &["create", "-t", "tiny", "-n", &guest.name, "--no-start"])?;
    assert!(!taken.status.success());

    cluster.start_daemon(2)?;
    wait("the VM to be gone", async || client.vm(&name).await.err()?.problem().map(drop)).await?;
    assert_eq!(guest.virsh(cluster, &["list", "--all", "--name"])?.trim(), foreign.name());
    assert!(!guest.disk(cluster).exists());
    let serial = cluster.host(2).path(&format!("/var/lib/waifud/serial/{}.log", guest.id));
    assert!(!serial.exists());
    let network = guest.virsh(cluster, &["net-dumpxml", "waifud"])?;
    assert!(!network.contains(&guest.ip), "{network}");
    assert_eq!(guest.virsh(cluster, &["nwfilter-binding-list"])?.trim(), "");
    foreign.is_untouched(cluster.host(2))?;
    ctl(cluster, 3, &["create", "-t", "tiny", "-n", &guest.name, "-N", "n2", "--no-start"]).map(drop)
}

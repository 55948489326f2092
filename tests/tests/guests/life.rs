//! The whole life of a VM, asked for through nodes that do not own it: made, stopped, started, deleted.

use super::{
    foreign::Foreign,
    guest::Guest,
    support::{ctl, three_with_tiny, until},
};
use anyhow::Result;
use std::{fs, time::Instant};
use waifud_api::vm::Vm;
use waifud_model::{digest::Blake3, observed::VmState};
use waifud_tests::cluster::Cluster;

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_from_create_to_delete() -> Result<()> {
    let cluster = three_with_tiny().await?;
    let foreign = Foreign::start(cluster.host(2))?;

    ctl(&cluster, 3, &["create", "-t", "tiny", "-n", "web-1", "-m", "256M", "-N", "n2"])?;
    let vm = until(&cluster.client(1), "web-1", VmState::Running).await?;
    let guest = Guest::of(&cluster, &vm)?;
    assert_eq!(guest.owner, 2);
    for node in 1..=3 {
        assert_eq!(ctl(&cluster, node, &["ip", "web-1"])?.trim(), guest.ip, "by the word of n{node}");
    }
    guest.serves(&cluster).await?;
    assert_eq!(guest.boots(&cluster), 1, "{}", guest.serial(&cluster));
    the_image_came_whole(&cluster, &vm)?;
    the_domain_is_as_designed(&cluster, &guest)?;

    it_stops_by_itself(&cluster, &guest).await?;
    ctl(&cluster, 1, &["start", "web-1"])?;
    guest.serves(&cluster).await?;
    assert_eq!(guest.boots(&cluster), 2, "the same name and address as before: {}", guest.serial(&cluster));

    ctl(&cluster, 3, &["delete", "web-1", "--yes"])?;
    nothing_is_left(&cluster, &guest, &foreign)?;
    // The name is free again.
    ctl(&cluster, 1, &["create", "-t", "tiny", "-n", "web-1", "-m", "256M", "-N", "n2", "--no-start"])?;
    foreign.is_untouched(cluster.host(2))
}

/// It was added on n1 and is needed on n2 only.
fn the_image_came_whole(cluster: &Cluster, vm: &Vm) -> Result<()> {
    let image = |node| cluster.host(node).path(&format!("/var/lib/waifud/images/{}.qcow2", vm.template.version));
    assert_eq!(Blake3::of(&fs::read(image(1))?), vm.template.version);
    assert_eq!(Blake3::of(&fs::read(image(2))?), vm.template.version);
    assert!(!image(3).exists(), "nobody on n3 needs it");
    Ok(())
}

fn the_domain_is_as_designed(cluster: &Cluster, guest: &Guest) -> Result<()> {
    let Guest { name, id, ip, .. } = guest;
    assert!(id.starts_with("ec2"), "{id}");
    let xml = guest.virsh(cluster, &["dumpxml", id])?;
    for part in [
        format!("<name>{id}</name>"),
        format!("<uuid>{id}</uuid>"),
        format!("<title>{name}</title>"),
        format!("vm=\"{id}\""),
        format!("ip=\"{ip}\""),
        format!("<log file='/var/lib/waifud/serial/{id}.log' append='on'/>"),
        "<filterref filter='waifud-guest'>".to_owned(),
        format!("<parameter name='IP' value='{ip}'/>"),
        "<source network='waifud'".to_owned(),
        "org.qemu.guest_agent.0".to_owned(),
    ] {
        assert!(xml.contains(&part), "{part} is not in {xml}");
    }
    Ok(())
}

/// The guest obeys its power button, within the grace that it has.
async fn it_stops_by_itself(cluster: &Cluster, guest: &Guest) -> Result<()> {
    let begun = Instant::now();
    ctl(cluster, 3, &["stop", &guest.name])?;
    assert!(begun.elapsed().as_secs() < 20, "the power was to be taken away only after 20 s");
    assert!(guest.serial(cluster).contains("STOPPING"), "{}", guest.serial(cluster));
    assert_eq!(guest.virsh(cluster, &["domstate", "--reason", &guest.id])?.trim(), "shut off (shutdown)");
    assert!(guest.disk(cluster).exists(), "the disk stays");
    until(&cluster.client(1), &guest.name, VmState::Stopped).await.map(drop)
}

fn nothing_is_left(cluster: &Cluster, guest: &Guest, foreign: &Foreign) -> Result<()> {
    assert_eq!(guest.virsh(cluster, &["list", "--all", "--name"])?.trim(), foreign.name());
    assert!(!guest.disk(cluster).exists(), "the disk is gone");
    let network = guest.virsh(cluster, &["net-dumpxml", "waifud"])?;
    assert!(!network.contains(&guest.ip), "the address is not reserved any more: {network}");
    for node in 1..=3 {
        assert_eq!(ctl(cluster, node, &["list", "-o", "name"])?.trim(), "", "by the word of n{node}");
    }
    Ok(())
}

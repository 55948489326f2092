//! Further disks of a VM: which of them is which, whoever was away when one went and another came.

use super::{
    guest::Guest,
    shell::Shell,
    support::{ctl, three_with_tiny, tiny, until},
};
use anyhow::Result;
use std::fs;
use waifud_model::observed::VmState;
use waifud_tests::cluster::{Cluster, SOON, wait};

/// Where the disk is that calls itself `data`.
const DATA: &str = "/dev/$(grep -lx data /sys/block/vd*/serial | cut -d/ -f4)";

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_is_itself_and_no_other_of_its_name() -> Result<()> {
    let mut cluster = three_with_tiny().await?;
    let guest = tiny(&cluster, "web-1", "n2", &["--add-disk", "data=1G"]).await?;
    removed_and_added_while_its_owner_was_away(&mut cluster, &guest).await?;
    its_file_vanishes(&cluster, &guest).await
}

/// The files of the VM's further disks.
fn files(cluster: &Cluster, guest: &Guest) -> Result<Vec<String>> {
    let names = fs::read_dir(guest.host(cluster).path("/var/lib/waifud/volumes"))?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<Vec<_>>>()?;
    let is_one = |name: &String| name.starts_with(&format!("{}.data", guest.id)) && name.ends_with(".qcow2");
    Ok(names.into_iter().filter(is_one).collect())
}

async fn removed_and_added_while_its_owner_was_away(cluster: &mut Cluster, guest: &Guest) -> Result<()> {
    let mut shell = Shell::open(cluster, guest)?;
    assert!(shell.run(&format!("echo mine > {DATA}; sync"))?.succeeded());
    assert_eq!(shell.run(&format!("head -c 4 {DATA}"))?.output, "mine");
    let first = files(cluster, guest)?;

    cluster.daemon(guest.owner).terminate(SOON)?;
    ctl(cluster, 1, &["disk", "remove", "web-1", "data", "--yes", "--no-wait"])?;
    ctl(cluster, 1, &["disk", "add", "web-1", "data", "1G", "--no-wait"])?;
    cluster.start_daemon(guest.owner)?;
    wait("the new disk alone", async || files(cluster, guest).ok().filter(|now| now.len() == 1 && *now != first))
        .await?;
    // The old one was unplugged before its file went.
    shell.run(&format!("until test -b {DATA}; do sleep 1; done"))?;
    assert_eq!(shell.run(&format!("head -c 4 {DATA} | tr -d '\\0' | wc -c"))?.output, "0", "it is another disk");
    assert_eq!(guest.boots(cluster), 1);
    Ok(())
}

/// Its file goes while it runs, and while it is off: no other takes its place.
async fn its_file_vanishes(cluster: &Cluster, guest: &Guest) -> Result<()> {
    let mut shell = Shell::open(cluster, guest)?;
    assert!(shell.run(&format!("echo mine > {DATA}; sync"))?.succeeded());
    let names = files(cluster, guest)?;
    let path = guest.host(cluster).path("/var/lib/waifud/volumes").join(&names[0]);
    let aside = path.with_extension("aside");
    fs::rename(&path, &aside)?;
    // A wish makes its owner look, which it would do by itself every five minutes only.
    ctl(cluster, 1, &["set", "web-1", "--description", "mine", "--no-wait"])?;
    let client = cluster.client(guest.owner);
    let missed = async || {
        let held = client.vm(&guest.name.parse().ok()?).await.ok()?.value.status.held?;
        (held.contains(&names[0]) && held.contains("waifuctl disk remove")).then_some(())
    };
    wait("that the file is missed", missed).await?;
    assert_eq!(shell.run(&format!("head -c 4 {DATA}"))?.output, "mine", "the guest still has it");
    ctl(cluster, 1, &["stop", "web-1", "--force", "--no-wait"])?;
    wait("the guest to be off", async || guest.process(cluster).is_none().then_some(())).await?;
    ctl(cluster, 1, &["start", "web-1", "--no-wait"])?;
    until(&client, "web-1", VmState::Failed).await?;
    wait("that the file is missed", missed).await?;
    assert!(files(cluster, guest)?.is_empty() && guest.process(cluster).is_none(), "nothing is made in its place");
    fs::rename(&aside, &path)?;
    until(&client, "web-1", VmState::Running).await?;
    guest.serves(cluster).await?;
    assert_eq!(Shell::open(cluster, guest)?.run(&format!("head -c 4 {DATA}"))?.output, "mine");
    Ok(())
}

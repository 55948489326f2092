//! What a VM is made of, and what becomes of its power: changed through nodes that do not own it, and seen from inside the guest
//! and at its host.

use super::{
    guest::Guest,
    shell::Shell,
    support::{ctl, three_of, tiny, until},
};
use anyhow::{Context, Result};
use std::fs;
use waifud_api::{exit::Exit, vm::Vm};
use waifud_model::{
    observed::{VmState, Waiting},
    vm::Desired,
};
use waifud_tests::{
    cluster::{Cluster, SOON, wait},
    lab::Lab,
};

/// What is on each CD.
const FILE: &str = "readme.txt";

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_is_changed_through_nodes_that_do_not_own_it() -> Result<()> {
    let lab = Lab::new(3)?;
    for words in [&["link", "add", "br0", "type", "bridge"][..], &["link", "set", "br0", "up"]] {
        lab.host(2).exec("ip", words)?;
    }
    let mut cluster = three_of(lab, "[network]\nbridges = [\"br0\"]\n").await?;
    let guest = tiny(&cluster, "web-1", "n2", &["--memory-max", "320M"]).await?;

    memory_comes_and_goes(&cluster, &guest).await?;
    a_cd_is_put_in_and_taken_out(&cluster, &guest)?;
    a_card_on_a_bridge_of_its_host(&cluster, &guest)?;
    firmware_and_cpu_wait_for_a_start(&cluster, &guest).await?;
    who_does_not_hear_loses_its_power(&cluster, &guest).await?;
    it_dies_and_is_left(&cluster, &guest).await?;
    its_host_was_off(&mut cluster, &guest).await?;
    it_goes_off_by_itself(&cluster, &guest).await
}

async fn known(cluster: &Cluster, guest: &Guest) -> Result<Vm> {
    Ok(cluster.client(3).vm(&guest.name.parse()?).await?.value)
}

/// Waits until it is so and is wanted so: what is seen and what is agreed on come to a node by different ways.
async fn settles(cluster: &Cluster, state: VmState, desired: Desired) -> Result<()> {
    let (client, name) = (cluster.client(3), "web-1".parse()?);
    wait(&format!("it to be {state}, as wanted"), async || {
        let vm = client.vm(&name).await.ok()?.value;
        (vm.status.state == state && vm.status.silent.is_none() && vm.desired == desired).then_some(())
    })
    .await
}

/// What is said of a guest that is off, by its hypervisor.
fn off(cluster: &Cluster, guest: &Guest) -> Result<String> {
    Ok(guest.virsh(cluster, &["domstate", "--reason", &guest.id])?.trim().to_owned())
}

async fn memory_comes_and_goes(cluster: &Cluster, guest: &Guest) -> Result<()> {
    let mut shell = Shell::open(cluster, guest)?;
    let mut total =
        || shell.run("grep MemTotal /proc/meminfo | tr -dc 0-9")?.output.parse::<i64>().context("no number");
    let before = total()?;
    ctl(cluster, 3, &["resize", "web-1", "-m", "300M"])?;
    assert_eq!(total()? - before, 44 << 10);
    ctl(cluster, 1, &["resize", "web-1", "-m", "200M"])?;
    assert_eq!(total()? - before, -(56 << 10));
    ctl(cluster, 3, &["resize", "web-1", "-m", "256M"])?;
    assert_eq!(total()?, before);
    assert_eq!(known(cluster, guest).await?.status.waits, []);
    assert_eq!(guest.boots(cluster), 1);
    Ok(())
}

fn a_cd_is_put_in_and_taken_out(cluster: &Cluster, guest: &Guest) -> Result<()> {
    let dir = tempfile::tempdir()?;
    for name in ["first", "second"] {
        let file = dir.path().join(name);
        fs::write(&file, iso(&format!("this is the {name}\n")))?;
        ctl(cluster, 1, &["template", "add", name, "--file", file.to_str().context("a path that is text")?])?;
    }
    let mut shell = Shell::open(cluster, guest)?;
    shell.run("mkdir -p /cd")?;
    let mut read = |name: &str| -> Result<()> {
        let there = shell.run(&format!("mount -t iso9660 -o ro /dev/sr0 /cd && cat /cd/{FILE}; umount /cd"))?;
        assert_eq!(there.output, format!("this is the {name}"));
        Ok(())
    };
    for (node, name) in [(3, "first"), (1, "second")] {
        ctl(cluster, node, &["cd", "insert", "web-1", name])?;
        read(name)?;
    }
    let refused = cluster.waifuctl(3, &["cd", "insert", "web-1", "tiny"])?;
    assert_eq!(refused.status.code(), Some(i32::from(Exit::Usage.code())), "a disk is no CD");
    ctl(cluster, 3, &["cd", "eject", "web-1"])?;
    assert!(!shell.run("mount -t iso9660 -o ro /dev/sr0 /cd")?.succeeded());
    assert_eq!(guest.boots(cluster), 1);
    Ok(())
}

fn a_card_on_a_bridge_of_its_host(cluster: &Cluster, guest: &Guest) -> Result<()> {
    let refused = cluster.waifuctl(3, &["set", "web-1", "--bridge", "br1"])?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(2) && said.contains("did you mean br0?"), "{said}");
    assert!(ctl(cluster, 1, &["node", "show", "n2"])?.contains("br0"));
    let elsewhere = cluster.waifuctl(1, &["create", "-t", "tiny", "-N", "n1", "--bridge", "br0"])?;
    assert!(!elsewhere.status.success(), "n1 has no such bridge");

    guest.host(cluster).exec("ip", ["address", "add", "198.51.100.1/24", "dev", "br0"])?;
    ctl(cluster, 3, &["set", "web-1", "--bridge", "br0"])?;
    let mut shell = Shell::open(cluster, guest)?;
    let up = "until ip link set eth1 up; do sleep 1; done; ip address add 198.51.100.2/24 dev eth1";
    assert!(shell.run(up)?.succeeded());
    assert!(shell.run("ping -c 1 -w 20 198.51.100.1 > /dev/null")?.succeeded());
    ctl(cluster, 1, &["set", "web-1", "--no-bridge"])?;
    assert!(shell.run("while ip link show eth1 > /dev/null 2>&1; do sleep 1; done")?.succeeded());
    assert_eq!(guest.boots(cluster), 1);
    Ok(())
}

/// The guest's disk starts by a BIOS only: under UEFI it is the firmware that talks, and nobody who hears the power button.
async fn firmware_and_cpu_wait_for_a_start(cluster: &Cluster, guest: &Guest) -> Result<()> {
    ctl(cluster, 3, &["set", "web-1", "--firmware", "uefi", "--cpu-model", "Nehalem"])?;
    assert_eq!(known(cluster, guest).await?.status.waits, [Waiting::Hardware]);
    let shown = ctl(cluster, 1, &["show", "web-1"])?;
    assert!(shown.contains("firmware: bios now, uefi after the next start"), "{shown}");
    guest.serves(cluster).await?;
    ctl(cluster, 3, &["reboot", "web-1"])?;
    wait("the firmware's words", async || guest.serial(cluster).contains("BdsDxe: ").then_some(())).await?;
    let waits = known(cluster, guest).await?.status.waits;
    assert!(!waits.contains(&Waiting::Hardware), "{waits:?}");

    ctl(cluster, 3, &["set", "web-1", "--firmware", "bios"])?;
    let said = guest.serial(cluster).matches("STOPPING").count();
    ctl(cluster, 1, &["reboot", "web-1", "--force"])?;
    guest.serves(cluster).await?;
    assert_eq!(guest.serial(cluster).matches("STOPPING").count(), said, "it was not asked");
    let model = Shell::open(cluster, guest)?.run("grep -m 1 'model name' /proc/cpuinfo")?.output;
    assert!(model.contains("Nehalem"), "{model}");
    Ok(())
}

async fn who_does_not_hear_loses_its_power(cluster: &Cluster, guest: &Guest) -> Result<()> {
    let said = guest.serial(cluster).matches("STOPPING").count();
    assert!(Shell::open(cluster, guest)?.run("rm -r /etc/acpi/PWRF")?.succeeded());
    ctl(cluster, 3, &["stop", "web-1", "--grace", "3s"])?;
    assert_eq!(off(cluster, guest)?, "shut off (destroyed)");
    assert_eq!(guest.serial(cluster).matches("STOPPING").count(), said);
    ctl(cluster, 1, &["start", "web-1"])?;
    guest.serves(cluster).await
}

async fn it_dies_and_is_left(cluster: &Cluster, guest: &Guest) -> Result<()> {
    ctl(cluster, 3, &["set", "web-1", "--restart", "never"])?;
    until(&cluster.client(3), "web-1", VmState::Running).await?;
    guest.kill(cluster)?;
    for asked in [1, 3] {
        let left = until(&cluster.client(asked), "web-1", VmState::Crashed).await?;
        assert_eq!((left.desired, guest.process(cluster)), (Desired::Running, None));
    }
    let waits = cluster.waifuctl(1, &["wait", "web-1", "--for", "running"])?;
    let said = String::from_utf8_lossy(&waits.stderr).into_owned();
    assert!(waits.status.code() == Some(7) && said.contains("restart: never"), "{said}");
    // Who starts it means it, though the record says all along that it shall run.
    ctl(cluster, 3, &["start", "web-1"])?;
    guest.serves(cluster).await
}

/// What a boot of its host leaves: a definition, and nobody who knows why its guest is off.
async fn its_host_was_off(cluster: &mut Cluster, guest: &Guest) -> Result<()> {
    for (autostart, state, desired) in
        [("yes", VmState::Running, Desired::Running), ("no", VmState::Stopped, Desired::Stopped)]
    {
        ctl(cluster, 3, &["set", "web-1", "--autostart", autostart])?;
        until(&cluster.client(3), "web-1", VmState::Running).await?;
        cluster.daemon(guest.owner).terminate(SOON)?;
        let (host, boots) = (guest.host(cluster), guest.boots(cluster));
        host.libvirtd_kill()?;
        guest.kill(cluster)?;
        host.exec("sh", ["-c", &format!("rm /run/libvirt/qemu/{}.*", guest.id)])?;
        host.libvirtd_start()?;
        cluster.start_daemon(guest.owner)?;
        let runs = usize::from(state == VmState::Running);
        wait("the next boot", async || (guest.boots(cluster) == boots + runs).then_some(())).await?;
        settles(cluster, state, desired).await?;
        assert_eq!(guest.process(cluster).is_some(), state == VmState::Running);
    }
    ctl(cluster, 1, &["start", "web-1"])?;
    guest.serves(cluster).await
}

async fn it_goes_off_by_itself(cluster: &Cluster, guest: &Guest) -> Result<()> {
    ctl(cluster, 3, &["set", "web-1", "--restart", "always"])?;
    let boots = guest.boots(cluster);
    Shell::open(cluster, guest)?.run("(sleep 1; poweroff) & true")?;
    wait("the next boot", async || (guest.boots(cluster) == boots + 1).then_some(())).await?;
    guest.serves(cluster).await?;

    ctl(cluster, 1, &["set", "web-1", "--restart", "on-failure"])?;
    until(&cluster.client(3), "web-1", VmState::Running).await?;
    Shell::open(cluster, guest)?.run("(sleep 1; poweroff) & true")?;
    settles(cluster, VmState::Stopped, Desired::Stopped).await?;
    assert_eq!(guest.process(cluster), None, "it is taken at its word");
    Ok(())
}

/// The least that ECMA-119 calls a CD: one directory with one file in it.
fn iso(text: &str) -> Vec<u8> {
    const SECTOR: usize = 2048;
    const ROOT: u32 = 19;
    const DATA: u32 = 20;
    let both = |number: u32| [number.to_le_bytes(), number.to_be_bytes()].concat();
    let half = |number: u16| [number.to_le_bytes(), number.to_be_bytes()].concat();
    let size = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
    let record = |name: &[u8], at: u32, length: u32, is_directory: bool| {
        let mut record = vec![0, 0];
        record.extend(both(at));
        record.extend(both(length));
        record.extend([126, 1, 1, 0, 0, 0, 0, if is_directory { 2 } else { 0 }, 0, 0]);
        record.extend(half(1));
        record.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
        record.extend(name);
        if record.len() % 2 == 1 {
            record.push(0);
        }
        record[0] = u8::try_from(record.len()).unwrap_or(u8::MAX);
        record
    };
    let mut disc = vec![0; 21 * SECTOR];
    let mut put = |at: usize, bytes: &[u8]| disc[at..at + bytes.len()].copy_from_slice(bytes);
    let first = 16 * SECTOR;
    put(first, b"\x01CD001\x01");
    put(first + 8, &[b' '; 64]);
    put(first + 80, &both(21));
    put(first + 120, &half(1));
    put(first + 124, &half(1));
    put(first + 128, &half(2048));
    put(first + 156, &record(&[0], ROOT, size(SECTOR), true));
    put(first + 881, b"\x01");
    put(17 * SECTOR, b"\xffCD001\x01");
    let file = format!("{};1", FILE.to_uppercase());
    let listing = [
        record(&[0], ROOT, size(SECTOR), true),
        record(&[1], ROOT, size(SECTOR), true),
        record(file.as_bytes(), DATA, size(text.len()), false),
    ];
    put(19 * SECTOR, &listing.concat());
    put(20 * SECTOR, text.as_bytes());
    disc
}

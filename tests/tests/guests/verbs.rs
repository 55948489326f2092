//! What people do to a VM that is there, each verb through a node that does not own it, and seen from inside the guest.

use super::{
    guest::Guest,
    shell::Shell,
    support::{ctl, three_with_tiny, tiny, until},
};
use anyhow::{Context, Result};

use waifud_api::{
    exit::Exit,
    vm::{Vm, VmStatus},
};
use waifud_model::{
    observed::{VmState, Waiting},
    size::ByteSize,
};
use waifud_tests::cluster::{Cluster, SOON, wait};

/// A place on the root disk far behind the image: what is written there is the guest's own.
const MARK: &str = "dd bs=512 seek=200000 conv=notrunc of=/dev/vda";
const READ: &str = "dd bs=512 skip=200000 count=1 if=/dev/vda 2>/dev/null | head -c 6";

/// Far more than the idle guest takes, far less than a loop does even where it shares the machine with many. In percent.
const BUSY: u8 = 6;

#[tokio::test(flavor = "multi_thread")]
async fn every_verb_through_a_node_that_does_not_own_the_vm() -> Result<()> {
    let mut cluster = three_with_tiny().await?;
    let guest = tiny(&cluster, "web-1", "n2", &["--memory-max", "320M", "--add-disk", "data=1G"]).await?;

    held_still_and_let_go(&mut cluster, &guest).await?;
    more_of_everything_while_it_runs(&cluster, &guest).await?;
    what_it_uses_is_seen(&cluster, &guest).await?;
    what_has_to_wait_is_told_and_taken_up(&cluster, &guest).await?;
    words_about_it(&cluster, &guest).await?;
    let guest = another_name(&cluster, guest).await?;
    its_power_taken_away(&cluster, &guest).await?;
    protected_from_people(&cluster, &guest).await?;
    made_anew(&cluster, &guest).await
}

async fn known(cluster: &Cluster, guest: &Guest) -> Result<Vm> {
    Ok(cluster.client(3).vm(&guest.name.parse()?).await?.value)
}

async fn held_still_and_let_go(cluster: &mut Cluster, guest: &Guest) -> Result<()> {
    ctl(cluster, 3, &["pause", "web-1"])?;
    assert_eq!(guest.virsh(cluster, &["domstate", &guest.id])?.trim(), "paused");
    assert_eq!(guest.page(cluster), None, "nothing runs in it");
    // The wish outlives the daemon, and a restart of it lets nothing go on.
    cluster.daemon(2).terminate(SOON)?;
    cluster.start_daemon(2)?;
    until(&cluster.client(3), "web-1", VmState::Paused).await?;
    ctl(cluster, 1, &["resume", "web-1"])?;
    guest.serves(cluster).await?;
    assert_eq!(guest.boots(cluster), 1, "it went on where it was");
    Ok(())
}

async fn more_of_everything_while_it_runs(cluster: &Cluster, guest: &Guest) -> Result<()> {
    let mut shell = Shell::open(cluster, guest)?;
    assert_eq!(shell.run("ls -d /sys/devices/system/cpu/cpu[0-9]* | wc -l")?.output, "1");
    ctl(cluster, 3, &["resize", "web-1", "-c", "2"])?;
    let cpus = shell.run("ls -d /sys/devices/system/cpu/cpu[0-9]* | wc -l")?;
    assert_eq!(cpus.output, "2", "{cpus:?}");

    let sectors = "cat /sys/block/vda/size";
    assert_eq!(shell.run(sectors)?.output, (10_u64 << 21).to_string());
    ctl(cluster, 1, &["resize", "web-1", "-d", "11G"])?;
    assert_eq!(shell.run(sectors)?.output, (11_u64 << 21).to_string());

    assert_eq!(shell.run("cat /sys/block/vdb/size /sys/block/vdb/serial")?.output, format!("{}\ndata", 1_u64 << 21));
    ctl(cluster, 1, &["disk", "grow", "web-1", "data", "2G"])?;
    assert_eq!(shell.run("cat /sys/block/vdb/size")?.output, (2_u64 << 21).to_string());
    ctl(cluster, 3, &["disk", "add", "web-1", "more", "1G"])?;
    assert_eq!(shell.run("cat /sys/block/vdc/serial")?.output, "more");
    ctl(cluster, 3, &["disk", "remove", "web-1", "more", "--yes"])?;
    assert!(!shell.run("test -e /sys/block/vdc")?.succeeded());

    let vm = known(cluster, guest).await?;
    assert_eq!(vm.status.waits, [], "the guest took up all of it: {:?}", vm.status);
    Ok(())
}

/// By the guest's own kernel, through another node: as busy as a loop makes it, and fuller by what is written into its memory.
async fn what_it_uses_is_seen(cluster: &Cluster, guest: &Guest) -> Result<()> {
    let measured = async |what: &str, is: &dyn Fn(&VmStatus) -> bool| {
        let ask = async || known(cluster, guest).await.ok().map(|vm| vm.status).filter(|status| is(status));
        wait(what, ask).await
    };
    let before = measured("a figure of its memory", &|status| status.memory_used.is_some()).await?;
    let before = before.memory_used.context("its memory")?;
    assert!(before < ByteSize::mib(256), "{before} of what its kernel has");

    let mut shell = Shell::open(cluster, guest)?;
    assert!(shell.run("dd if=/dev/zero of=/ballast bs=1M count=60 2>/dev/null")?.succeeded());
    assert!(shell.run("(while :; do :; done) & echo $! > /busy")?.succeeded());
    let fuller = ByteSize::bytes(before.as_bytes() + (50 << 20));
    measured("a busier and fuller guest", &|status| {
        status.cpu_percent.is_some_and(|percent| percent >= BUSY)
            && status.memory_used.is_some_and(|used| used > fuller)
    })
    .await?;
    let line = ctl(cluster, 1, &["list", "-o", "csv", "--columns", "name,cpu,used"])?;
    let mut cells = line.lines().last().context("a row")?.split(',').skip(1).map(str::parse::<u64>);
    assert!(matches!((cells.next(), cells.next()), (Some(Ok(_)), Some(Ok(_)))), "{line}");
    assert!(shell.run("kill $(cat /busy) && rm /busy /ballast")?.succeeded());
    Ok(())
}

async fn what_has_to_wait_is_told_and_taken_up(cluster: &Cluster, guest: &Guest) -> Result<()> {
    ctl(cluster, 3, &["resize", "web-1", "-m", "512M", "--memory-max", "none"])?;
    let vm = known(cluster, guest).await?;
    assert_eq!(vm.status.waits, [Waiting::Memory]);
    let told = vm.status.changes.first().context("what waits, and why")?;
    assert!(told.field == "memory" && told.wanted.contains("512 MiB") && !told.why.is_empty(), "{told:?}");
    assert!(ctl(cluster, 1, &["show", "web-1"])?.contains("after the next start"));

    ctl(cluster, 3, &["reboot", "web-1"])?;
    guest.serves(cluster).await?;
    assert_eq!(guest.boots(cluster), 2, "once: {}", guest.serial(cluster));
    let vm = known(cluster, guest).await?;
    assert_eq!(vm.status.waits, [], "{:?}", vm.status);
    let total = Shell::open(cluster, guest)?.run("grep MemTotal /proc/meminfo | tr -dc 0-9")?.output;
    assert!(total.parse::<u64>()? > 400 << 10, "{total} KiB");
    Ok(())
}

async fn words_about_it(cluster: &Cluster, guest: &Guest) -> Result<()> {
    ctl(cluster, 1, &["label", "web-1", "env=prod", "tier=web"])?;
    ctl(cluster, 3, &["label", "web-1", "tier-"])?;
    ctl(cluster, 3, &["set", "web-1", "--description", "the shop", "--restart", "never", "--autostart", "no"])?;
    let vm = known(cluster, guest).await?;
    assert_eq!(vm.labels.iter().collect::<Vec<_>>(), [("env", "prod")]);
    assert!(vm.description == "the shop" && !vm.autostart, "{vm:?}");
    assert_eq!(ctl(cluster, 1, &["list", "label.env=prod", "-o", "name"])?.trim(), "web-1");
    assert_eq!(guest.boots(cluster), 2, "none of it disturbs the guest");
    Ok(())
}

async fn another_name(cluster: &Cluster, guest: Guest) -> Result<Guest> {
    ctl(cluster, 3, &["rename", "web-1", "shop-1"])?;
    let guest = Guest { name: "shop-1".to_owned(), ..guest };
    assert_eq!(ctl(cluster, 1, &["ip", "shop-1"])?.trim(), guest.ip);
    let gone = cluster.waifuctl(1, &["show", "web-1"])?;
    assert_eq!(gone.status.code(), Some(i32::from(Exit::NotFound.code())));
    until(&cluster.client(3), "shop-1", VmState::Running).await?;
    let title = |which| guest.virsh(cluster, &["desc", "--title", which, &guest.id]);
    for which in ["--live", "--config"] {
        wait("the title", async || (title(which).ok()?.trim() == "shop-1").then_some(())).await?;
    }
    Ok(guest)
}

async fn its_power_taken_away(cluster: &Cluster, guest: &Guest) -> Result<()> {
    let said = guest.serial(cluster).matches("STOPPING").count();
    ctl(cluster, 1, &["stop", "shop-1", "--force"])?;
    assert_eq!(guest.virsh(cluster, &["domstate", "--reason", &guest.id])?.trim(), "shut off (destroyed)");
    assert_eq!(guest.serial(cluster).matches("STOPPING").count(), said, "it was not asked");
    let refused = cluster.waifuctl(3, &["pause", "shop-1"])?;
    assert_eq!(refused.status.code(), Some(i32::from(Exit::Conflict.code())), "there is nothing to pause");
    ctl(cluster, 3, &["start", "shop-1"])?;
    guest.serves(cluster).await
}

async fn protected_from_people(cluster: &Cluster, guest: &Guest) -> Result<()> {
    ctl(cluster, 3, &["protect", "shop-1"])?;
    for words in [
        &["delete", "shop-1", "--yes"][..],
        &["reinit", "shop-1", "--yes"],
        &["disk", "remove", "shop-1", "data", "-y"],
    ] {
        let refused = cluster.waifuctl(1, words)?;
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains("waifuctl unprotect shop-1"), "{words:?}: {said}");
    }
    guest.serves(cluster).await?;
    ctl(cluster, 1, &["unprotect", "shop-1"]).map(drop)
}

async fn made_anew(cluster: &Cluster, guest: &Guest) -> Result<()> {
    let before = known(cluster, guest).await?;
    let mut shell = Shell::open(cluster, guest)?;
    assert!(shell.run(&format!("echo marked | {MARK} && sync"))?.succeeded());
    assert_eq!(shell.run(READ)?.output, "marked");
    let boots = guest.boots(cluster);
    ctl(cluster, 3, &["reinit", "shop-1", "--yes"])?;
    guest.serves(cluster).await?;
    assert_eq!(guest.boots(cluster), boots + 1);
    let mut shell = Shell::open(cluster, guest)?;
    assert_ne!(shell.run(READ)?.output, "marked", "the disk is the template's again");
    let after = known(cluster, guest).await?;
    assert_eq!((after.id, after.ip, after.hardware.disks), (before.id, before.ip, before.hardware.disks));
    assert_ne!(after.instance_id, before.instance_id, "cloud-init is to run again");
    Ok(())
}

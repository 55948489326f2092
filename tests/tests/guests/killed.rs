//! waifud is killed in the middle of everything that it does to a VM, as the kernel kills: whatever had been begun is found and
//! brought to its end by the next one, and after the delete nothing is left.
//!
//! A life is lived once in peace, to see how long each verb takes; then again and again, and each verb is struck when a part of
//! that time has passed, another one in each life. `WAIFUD_TEST_LIVES` says how many, if not [`LIVES`].

use super::{
    guest::virsh,
    support::{ctl, measured},
};
use anyhow::{Context, Result, ensure};
use std::{
    fs,
    time::{Duration, Instant},
};
use waifud_api::problem::ProblemCode;
use waifud_model::observed::VmState;
use waifud_tests::{
    cluster::{Cluster, WITH_GUESTS, wait},
    lab::{Lab, tiny_image},
};

const LIVES: u32 = 2;

/// What is asked, and the state that it ends in; none: the VM is gone.
type Verb = (&'static [&'static str], Option<VmState>);

const VERBS: [Verb; 6] = [
    (&["create", "-t", "tiny", "-n", "web-1", "-m", "192M", "--add-disk", "data=64M"], Some(VmState::Running)),
    (&["disk", "add", "web-1", "more", "64M"], Some(VmState::Running)),
    // A guest that is still booting does not hear, and is switched off a second later.
    (&["stop", "web-1", "--grace", "1s"], Some(VmState::Stopped)),
    (&["start", "web-1"], Some(VmState::Running)),
    (&["reinit", "web-1", "--yes"], Some(VmState::Running)),
    (&["delete", "web-1", "--yes"], None),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_is_killed_goes_on_where_it_was() -> Result<()> {
    let lives = std::env::var("WAIFUD_TEST_LIVES").map_or(Ok(LIVES), |lives| lives.parse())?;
    let mut cluster = Cluster::start(Lab::new(1)?, WITH_GUESTS).await?;
    let image = tiny_image()?;
    ctl(&cluster, 1, &["template", "add", "tiny", "--file", image.to_str().context("a path that is text")?])?;
    let mut took = Vec::new();
    for (verb, end) in VERBS {
        let begun = Instant::now();
        asked(&cluster, verb)?;
        done(&cluster, end).await?;
        took.push(begun.elapsed());
    }
    nothing_is_left(&cluster)?;
    measured(&format!("in peace the verbs took {took:.1?}"));
    for life in 0..lives {
        for ((verb, end), took) in VERBS.into_iter().zip(&took) {
            asked(&cluster, verb)?;
            let after = *took * (2 * life + 1) / (2 * lives);
            struck_after(&mut cluster, after).await?;
            done(&cluster, end).await.with_context(|| format!("{verb:?}, struck after {after:?}"))?;
            let guests = cluster.host(1).exec("sh", ["-c", "pgrep -c qemu-system || true"])?;
            let on = if end == Some(VmState::Running) { "1" } else { "0" };
            ensure!(guests.trim() == on, "{verb:?}, struck after {after:?}: {guests} guests");
        }
        nothing_is_left(&cluster)?;
    }
    Ok(())
}

fn asked(cluster: &Cluster, words: &[&str]) -> Result<()> {
    ctl(cluster, 1, &[words, &["--no-wait"]].concat()).map(drop)
}

async fn done(cluster: &Cluster, end: Option<VmState>) -> Result<()> {
    let (client, name) = (cluster.client(1), "web-1".parse()?);
    wait(&format!("{end:?}"), async || match (client.vm(&name).await, end) {
        (Ok(vm), Some(state)) => {
            let status = vm.value.status;
            let is_well = status.silent.is_none() && !status.pending && status.last_error.is_none();
            (status.state == state && is_well && status.waits.is_empty()).then_some(())
        }
        (Err(error), None) => (error.problem()?.code == ProblemCode::NoSuchVm).then_some(()),
        _ => None,
    })
    .await
}

/// Of the VM, wherever it had something.
fn nothing_is_left(cluster: &Cluster) -> Result<()> {
    let host = cluster.host(1);
    for what in [&["list", "--all", "--name"][..], &["nwfilter-binding-list"]] {
        ensure!(virsh(host, what)?.trim().is_empty(), "{what:?}: {}", virsh(host, what)?);
    }
    let network = virsh(host, &["net-dumpxml", "waifud"])?;
    ensure!(!network.contains("<host "), "{network}");
    let taps = host.exec("sh", ["-c", "ls /sys/class/net | grep vnet || true"])?;
    ensure!(taps.is_empty(), "{taps}");
    for dir in ["volumes", "serial"] {
        let files = fs::read_dir(host.path(&format!("/var/lib/waifud/{dir}")))?;
        let files: Vec<_> = files.map(|file| Ok(file?.file_name())).collect::<Result<_>>()?;
        ensure!(files.is_empty(), "{dir}: {files:?}");
    }
    Ok(())
}

/// When it falls is the fault itself: nothing is waited for.
async fn struck_after(cluster: &mut Cluster, time: Duration) -> Result<()> {
    tokio::time::sleep(time).await;
    cluster.daemon(1).kill9()?;
    cluster.start_daemon(1)
}

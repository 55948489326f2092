//! What people follow goes on when the node that they ask dies: events, each told once, and waits. And who did what is the same by
//! every node's word.

use super::support::{key, small, three_with_template, with_template};
use anyhow::{Context, Result, ensure};
use std::{
    fs::File,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};
use waifud_api::client::{Client, Config};
use waifud_tests::{
    cluster::{Cluster, SOON, WITHOUT_GUESTS, wait},
    lab::{Lab, eventually, program},
};

/// VMs made in each turn: enough for a death to fall between their events.
const TURN: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_is_told_everything_once_whichever_nodes_die() -> Result<()> {
    let mut cluster = three_with_template().await?;
    let dir = tempfile::tempdir()?;
    let (told, said) = (dir.path().join("told"), dir.path().join("said"));
    let mut follower =
        Follower::start(&cluster, &["events", "--follow", "--since", "1.0", "-o", "name"], &told, &said)?;
    let client = Client::new(Config::new((1..=3).map(|index| cluster.endpoint(index)).collect()))?;
    let mut made = 0;
    // Whom it asks first, whom it asks then, and that one again when all are there.
    for dies in [1, 2, 1] {
        turn(&client, &mut made).await?;
        let newest = events(&cluster, 3)?.pop().context("no events")?;
        wait("it to be told", async || lines(&told).ok().filter(|lines| lines.contains(&newest)).map(drop)).await?;
        cluster.daemon(dies).kill9()?;
        turn(&client, &mut made).await?;
        cluster.start_daemon(dies)?;
        turn(&client, &mut made).await?;
    }
    wait("the VMs at every node", async || {
        let count = |index| {
            Some(cluster.waifuctl(index, &["list", "-o", "name"]).ok()?.stdout.split(|b| *b == b'\n').count() - 1)
        };
        (1..=3).all(|index| count(index) == Some(made)).then_some(())
    })
    .await?;
    let mut all = Vec::new();
    wait("all to be told", async || {
        let now = events(&cluster, 3).ok()?;
        (lines(&told).ok()? == now).then_some(())
    })
    .await
    .with_context(|| std::fs::read_to_string(&said).unwrap_or_default())?;
    for index in 1..=3 {
        all.push(events(&cluster, index)?);
    }
    ensure!(all[0].len() > made && all.iter().all(|one| *one == all[0]), "{all:?}");
    follower.ends()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_goes_on_at_another_node_and_the_history_says_who_it_was() -> Result<()> {
    // What each is asked is in its log then.
    let mut cluster = with_template(Cluster::start_talkative(Lab::plain(3)?, WITHOUT_GUESTS).await?).await?;
    let dir = tempfile::tempdir()?;
    let (told, said) = (dir.path().join("told"), dir.path().join("said"));
    let mut request = small("web-1");
    request.node = Some("n3".parse()?);
    cluster.client(2).create_vm(&request, &key("web-1")).await?;
    wait("the VM at n1", async || cluster.client(1).vm(&request.name.clone()?).await.ok().map(drop)).await?;

    let mut waits = Follower::start(&cluster, &["wait", "web-1", "--for", "gone"], &told, &said)?;
    eventually("it to ask n1", SOON, || {
        cluster.daemon(1).log().matches("path=\"/api/v1/vms/web-1\"").nth(2).map(drop)
    })?;
    cluster.daemon(1).kill9()?;
    eventually("it to go on", SOON, || {
        std::fs::read_to_string(&said).ok().filter(|said| said.contains("going on at"))
    })?;
    let deleted = cluster.waifuctl(2, &["delete", "web-1", "--yes"])?;
    ensure!(deleted.status.success(), "{}", String::from_utf8_lossy(&deleted.stderr));
    let end = eventually("its end", SOON, || waits.0.try_wait().ok().flatten())?;
    ensure!(end.success(), "{end}: {}", std::fs::read_to_string(&said)?);

    cluster.start_daemon(1)?;
    let text = |index, words: &[&str]| -> Option<String> {
        let output = cluster.waifuctl(index, words).ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    for words in [&["history", "vm/web-1"][..], &["audit", "--to", "vm/web-1"]] {
        let by_owner = text(3, words).context("no answer")?;
        assert!(by_owner.contains("uid 0 on n2") && by_owner.contains("vm/web-1"), "{by_owner}");
        for index in [1, 2] {
            wait("the same", async || text(index, words).filter(|told| *told == by_owner).map(drop)).await?;
        }
    }
    Ok(())
}

async fn turn(client: &Client, made: &mut usize) -> Result<()> {
    for _ in 0..TURN {
        *made += 1;
        let name = format!("web-{made}");
        client.create_vm(&small(&name), &key(&name)).await.with_context(|| format!("create {name}"))?;
    }
    Ok(())
}

/// The ids of all events, by a node's word.
fn events(cluster: &Cluster, index: usize) -> Result<Vec<String>> {
    let output = cluster.waifuctl(index, &["events", "--since", "1.0", "-o", "name"])?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.lines().map(str::to_owned).collect())
}

fn lines(file: &Path) -> Result<Vec<String>> {
    Ok(std::fs::read_to_string(file)?.lines().map(str::to_owned).collect())
}

/// A `waifuctl` that knows all nodes and goes on.
struct Follower(Child);

impl Follower {
    fn start(cluster: &Cluster, words: &[&str], out: &Path, err: &Path) -> Result<Self> {
        let hosts: Vec<_> = (1..=3).map(|index| cluster.endpoint(index).to_string()).collect();
        let mut command = Command::new(program("waifuctl")?);
        command.env_clear().env("WAIFU_HOST", hosts.join(",")).args(words).stdin(Stdio::null());
        Ok(Self(command.stdout(File::create(out)?).stderr(File::create(err)?).spawn()?))
    }

    /// Ctrl-C ends it, and that is no failure.
    fn ends(&mut self) -> Result<()> {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.0.id())?);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT)?;
        let end = eventually("its end", Duration::from_secs(20), || self.0.try_wait().ok().flatten())?;
        ensure!(end.success(), "{end}");
        Ok(())
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // It has ended, or the test has failed.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

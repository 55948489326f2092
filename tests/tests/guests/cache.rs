//! The shared cache in a real Redis: what it holds for operators, what guests notice when it breaks (nothing), and the one case
//! in which a node reads it: its replica is behind the guest that runs.

use super::{
    guest::Guest,
    shell::Shell,
    support::{ctl, three_of, tiny},
};
use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use std::fs;
use tempfile::TempDir;
use waifud_model::ids::Generation;
use waifud_tests::{
    cluster::{Cluster, SOON, wait},
    lab::{Host, Lab, Process, Redis, eventually},
};

/// `[cache] expire` when nothing is said, in seconds.
const EXPIRE: u64 = 30 * 24 * 60 * 60;
/// Where a node keeps its replica, and where the test keeps an earlier one.
const RAFT: &str = "/var/lib/waifud/cluster/raft";
const EARLIER: &str = "/var/lib/waifud/earlier";

/// Three nodes, a Redis on n1's host, a guest on n2.
struct Scene {
    redis: Redis,
    shell: Shell,
    guest: Guest,
    /// Where the guest's entry is.
    key: String,
    files: TempDir,
    cluster: Cluster,
}

impl Scene {
    async fn set(name: &str) -> Result<Self> {
        let lab = Lab::new(3)?;
        let redis = Redis::start(lab.host(1))?;
        let url = format!("[cache]\nredis_url = \"redis://{}:{}\"\n", lab.host(1).address(), Redis::PORT);
        let cluster = three_of(lab, &url).await?;
        let files = tempfile::tempdir()?;
        let guest = tiny(&cluster, name, "n2", &["-u", &document(&files, "first")?]).await?;
        let shell = Shell::open(&cluster, &guest)?;
        let key = format!("waifud:{}:ci:{}", cluster.status(1).await?.id, guest.id);
        Ok(Self { redis, shell, guest, key, files, cluster })
    }

    fn ask(&self, command: &[&str]) -> Result<String> {
        Redis::ask(self.cluster.host(1), command)
    }

    fn field(&self, name: &str) -> Result<String> {
        self.ask(&["hget", &self.key, name])
    }

    /// Waits until the guest's entry is of this generation.
    fn holds(&self, generation: Generation) -> Result<()> {
        let generation = generation.to_string();
        eventually(&format!("generation {generation} in Redis"), SOON, || {
            self.field("generation").ok().filter(|found| *found == generation).map(drop)
        })
    }

    async fn generation(&self, node: usize) -> Result<Generation> {
        Ok(self.cluster.client(node).vm(&self.guest.name.parse()?).await?.value.generation)
    }

    /// Gives the guest other user-data.
    fn edit(&self, word: &str, how: &str) -> Result<()> {
        ctl(&self.cluster, 1, &["edit", &self.guest.name, "--file", &document(&self.files, word)?, how]).map(drop)
    }

    /// What the guest is told now, which has to be something.
    fn told(&mut self) -> Result<String> {
        let said = self.shell.run("timeout 10 wget -q -O - http://169.254.169.254/latest/user-data")?;
        ensure!(said.succeeded() && said.output.contains("the word is "), "the guest is told: {said:?}");
        Ok(said.output)
    }

    /// The guest is told this word, by the first answer.
    fn is_told(&mut self, word: &str) -> Result<()> {
        let told = self.told()?;
        assert!(told.ends_with(&format!("the word is {word}")), "not {word}: {told}");
        Ok(())
    }

    /// An edit takes effect, and no request fails until it does.
    fn is_told_of_an_edit(&mut self, word: &str) -> Result<()> {
        self.edit(word, "--keep")?;
        let expected = format!("the word is {word}");
        eventually(&expected, SOON, || match self.told() {
            Ok(told) => told.ends_with(&expected).then_some(Ok(())),
            Err(error) => Some(Err(error)),
        })?
    }
}

/// User-data with a word in it, as a file.
fn document(files: &TempDir, word: &str) -> Result<String> {
    let file = files.path().join(word);
    fs::write(&file, format!("#!/bin/sh\n# the word is {word}\n"))?;
    file.into_os_string().into_string().ok().context("a path that is text")
}

/// Whatever is asked of it, the answer means nothing.
fn noise(host: &Host) -> Result<Process> {
    let port = Redis::PORT.to_string();
    let noise = host.spawn("busybox", ["nc", "-ll", "-p", &port, "-e", "head", "-c", "4096", "/dev/urandom"])?;
    eventually("noise", SOON, || {
        let listening = host.exec("ss", ["--tcp", "--listening", "--numeric", "--no-header"]).ok()?;
        listening.contains(&format!(":{port} ")).then_some(())
    })?;
    Ok(noise)
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_holds_what_guests_are_told_and_they_do_not_notice_when_it_breaks() -> Result<()> {
    let mut scene = Scene::set("alice").await?;
    entries_are_as_documented(&mut scene).await?;

    scene.redis.process().kill9()?;
    scene.is_told_of_an_edit("killed")?;
    let noise = noise(scene.cluster.host(1))?;
    scene.is_told_of_an_edit("noise")?;
    drop(noise);
    scene.redis = Redis::start(scene.cluster.host(1))?;
    // Nobody has to tell the owner that it is back.
    scene.holds(scene.generation(1).await?)?;

    scene.redis.process().signal(Signal::SIGSTOP)?;
    scene.is_told_of_an_edit("frozen")?;
    scene.redis.process().signal(Signal::SIGCONT)?;
    scene.holds(scene.generation(1).await?)?;

    scene.ask(&["config", "set", "maxmemory-policy", "noeviction"])?;
    scene.ask(&["config", "set", "maxmemory", "1mb"])?;
    scene.is_told_of_an_edit("full")?;
    eventually("a write to be refused", SOON, || {
        scene.ask(&["info", "errorstats"]).ok().filter(|said| said.contains("OOM")).map(drop)
    })?;
    scene.ask(&["config", "set", "maxmemory", "0"])?;
    scene.holds(scene.generation(1).await?)?;

    // An entry goes with its VM.
    ctl(&scene.cluster, 3, &["delete", "alice", "--yes"])?;
    let address = scene.key.replace(&format!("ci:{}", scene.guest.id), &format!("ip:{}", scene.guest.ip));
    eventually("the end of the entry", SOON, || {
        scene.ask(&["exists", &scene.key, &address]).ok().filter(|count| count == "0").map(drop)
    })
}

async fn entries_are_as_documented(scene: &mut Scene) -> Result<()> {
    let before = scene.generation(1).await?;
    scene.holds(before)?;
    let instance: u32 = scene.field("instance")?.parse()?;
    scene.edit("edited", "--rerun")?;
    let after = scene.generation(1).await?;
    assert!(after > before);
    scene.holds(after)?;

    let Guest { name, id, ip, .. } = scene.guest.clone();
    assert_eq!((scene.field("vm")?, scene.field("ip")?), (id.clone(), ip.clone()));
    assert!(scene.field("user-data")?.ends_with("the word is edited"));
    assert!(scene.field("instance")?.parse::<u32>()? > instance, "another life");
    assert_eq!(serde_json::from_str::<serde_json::Value>(&scene.field("config")?)?["name"], name);
    assert_eq!(scene.field("mac")?.len(), 64);
    let address = scene.key.replace(&format!("ci:{id}"), &format!("ip:{ip}"));
    assert_eq!(scene.ask(&["get", &address])?, id);
    for key in [&scene.key, &address] {
        let left: u64 = scene.ask(&["ttl", key])?.parse()?;
        assert!((EXPIRE - 3600..=EXPIRE).contains(&left), "{key} expires in {left} s");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_behind_its_guest_asks_redis_and_believes_only_what_a_node_wrote() -> Result<()> {
    let mut scene = Scene::set("ahead").await?;
    // Of no interest but that n2 writes it, too: with it, what n2 had to write has been written.
    ctl(&scene.cluster, 1, &["create", "-t", "tiny", "-n", "witness", "-N", "n2", "--no-start", "--no-wait"])?;
    let witness = scene.cluster.client(1).vm(&"witness".parse()?).await?.value.id;
    let witness = scene.key.replace(&scene.guest.id, &witness.to_string());
    let (earlier, later) = an_edit_is_lost(&mut scene, &witness).await?;

    scene.cluster.start_daemon(2)?;
    is_served_again(&mut scene)?;
    assert_eq!(scene.generation(2).await?, earlier, "the replica is behind");
    scene.is_told("second")?;
    eventually("the witness", SOON, || scene.ask(&["exists", &witness]).ok().filter(|count| count == "1"))?;
    scene.holds(later)?;
    scene.ask(&["copy", &scene.key, "later"])?;

    forged_entries_are_not_believed(&mut scene, earlier)?;
    what_is_broken_is_waited_for_once(&mut scene, later)
}

/// Leaves n2 alone with a replica from before an edit, and the entry in Redis and the guest's domain from after it.
async fn an_edit_is_lost(scene: &mut Scene, witness: &str) -> Result<(Generation, Generation)> {
    let earlier = scene.generation(1).await?;
    scene.holds(earlier)?;
    wait("n2 to know the witness", async || scene.cluster.client(2).vm(&"witness".parse().ok()?).await.ok().map(drop))
        .await?;
    scene.cluster.daemon(2).terminate(SOON)?;
    scene.cluster.host(2).exec("cp", ["-a", RAFT, EARLIER])?;
    scene.cluster.start_daemon(2)?;

    scene.edit("second", "--keep")?;
    let later = scene.generation(1).await?;
    scene.holds(later)?;
    let mark = |quote: char| format!(" generation={quote}{later}{quote}");
    eventually("the domain to be of the edit", SOON, || {
        let domain = scene.guest.virsh(&scene.cluster, &["dumpxml", "--inactive", &scene.guest.id]).ok()?;
        ['\'', '"'].iter().any(|quote| domain.contains(&mark(*quote))).then_some(())
    })?;
    for node in 1..=3 {
        scene.cluster.daemon(node).kill9()?;
    }
    scene.cluster.host(2).exec("sh", ["-c", &format!("rm -r {RAFT} && mv {EARLIER} {RAFT}")])?;
    scene.ask(&["del", witness])?;
    Ok((earlier, later))
}

/// Waits for the first answer after a start.
fn is_served_again(scene: &mut Scene) -> Result<()> {
    eventually("metadata after a start", SOON, || scene.told().ok().map(drop))
}

fn forged_entries_are_not_believed(scene: &mut Scene, earlier: Generation) -> Result<()> {
    scene.cluster.daemon(2).terminate(SOON)?;
    for (field, word) in [("user-data", str::to_owned as fn(&str) -> String), ("config", numbers)] {
        let text = scene.field(field)?;
        let forged = text.replacen(&word("second"), &word("forged"), 1);
        assert_ne!(forged, text);
        scene.ask(&["hset", &scene.key, field, &forged])?;
    }
    scene.cluster.start_daemon(2)?;
    let told = eventually("metadata after a start", SOON, || scene.told().ok())?;
    assert!(told.ends_with("the word is first"), "{told}");
    // The owner has put its own in its place. It is older than the guest, and so no better than the replica's.
    scene.holds(earlier)?;
    scene.is_told("first")
}

/// Bytes as they are written in JSON.
fn numbers(text: &str) -> String {
    text.bytes().map(|byte| byte.to_string()).collect::<Vec<_>>().join(",")
}

/// As long as there may be something newer, each request asks.
fn what_is_broken_is_waited_for_once(scene: &mut Scene, later: Generation) -> Result<()> {
    scene.redis.process().signal(Signal::SIGSTOP)?;
    for _ in 0..3 {
        scene.is_told("first")?;
    }
    scene.redis.process().signal(Signal::SIGCONT)?;
    scene.ask(&["copy", "later", &scene.key, "replace"])?;
    scene.holds(later)?;
    eventually("what Redis has", SOON, || scene.told().ok().filter(|told| told.ends_with("the word is second")))?;

    // What was found once stays.
    scene.redis.process().kill9()?;
    scene.is_told("second")?;
    // Found no more after a restart, but not missed either.
    let _noise = noise(scene.cluster.host(1))?;
    scene.cluster.daemon(2).terminate(SOON)?;
    scene.cluster.start_daemon(2)?;
    is_served_again(scene)?;
    scene.is_told("first")
}

//! What a guest is told on 169.254.169.254, and that it is told nothing that is another's, whatever it tries. Both guests
//! are on one node, where confusing them is easiest.

use super::{
    guest::Guest,
    shell::{Said, Shell},
    support::{ctl, three_with_tiny, until},
};
use anyhow::{Context, Result};
use std::time::Duration;
use waifud_api::client::Client;
use waifud_model::observed::VmState;
use waifud_tests::{
    cluster::{Cluster, wait},
    lab::eventually,
};

const SERVICE: &str = "http://169.254.169.254";
const USER_DATA: &str = "/latest/user-data";

/// A guest, its shell, and what only it may be told.
#[derive(Debug)]
struct Party {
    guest: Guest,
    mac: String,
    shell: Shell,
    secret: String,
}

impl Party {
    async fn make(cluster: &Cluster, name: &str) -> Result<Self> {
        let secret = format!("SECRET-of-{name}");
        let directory = tempfile::tempdir()?;
        let file = directory.path().join("user-data");
        std::fs::write(&file, format!("#!/bin/sh\n# {secret}\n"))?;
        let file = file.to_str().context("a path that is text")?;
        ctl(cluster, 1, &["create", "-t", "tiny", "-n", name, "-m", "256M", "-N", "n2", "-u", file])?;
        let vm = until(&cluster.client(1), name, VmState::Running).await?;
        let guest = Guest::of(cluster, &vm)?;
        guest.serves(cluster).await?;
        let shell = Shell::open(cluster, &guest)?;
        Ok(Self { guest, mac: vm.mac.to_string(), shell, secret })
    }

    /// Fetches a path, with more words for wget before it.
    fn fetch(&mut self, more: &str, path: &str) -> Result<Said> {
        // wget's own -T crashes where busybox is static.
        self.shell.run(&format!("timeout 10 wget -q -O - {more} '{SERVICE}{path}'"))
    }

    /// It gets its own document.
    fn is_served(&mut self) -> Result<()> {
        let said = self.fetch("", USER_DATA)?;
        assert!(said.succeeded() && said.output.contains(&self.secret), "{}: {said:?}", self.guest.name);
        Ok(())
    }

    /// A session token of IMDSv2.
    fn token(&mut self) -> Result<String> {
        let request = "PUT /latest/api/token HTTP/1.1\\r\\nHost: 169.254.169.254\\r\\n\
                       X-aws-ec2-metadata-token-ttl-seconds: 60\\r\\nConnection: close\\r\\n\\r\\n";
        let said = self.shell.run(&format!("printf '{request}' | timeout 10 nc 169.254.169.254 80"))?;
        assert!(said.output.contains(" 200 "), "{said:?}");
        Ok(said.output.lines().last().context("an answer has lines")?.trim().to_owned())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_is_told_what_is_its_own_and_nothing_else() -> Result<()> {
    let mut cluster = three_with_tiny().await?;
    let mut alice = Party::make(&cluster, "alice").await?;
    let mut bob = Party::make(&cluster, "bob").await?;
    alice.is_served()?;
    bob.is_served()?;

    no_path_or_header_names_another(&mut alice, &bob)?;
    a_token_is_its_owners(&mut alice, &mut bob)?;
    a_syn_sent_twice_confuses_nobody(&cluster, &mut alice, &mut bob)?;
    another_address_is_not_answered(&mut alice, &bob)?;
    another_card_is_not_answered(&mut alice, &bob)?;
    alice.is_served()?;
    cloud_init_is_done_where_the_guest_says_so(&cluster, &mut alice, &mut bob).await?;

    cluster.daemon(1).kill9()?;
    cluster.daemon(3).kill9()?;
    alice.is_served()?;
    bob.is_served()?;
    // The replica on disk is enough, with nobody to ask.
    cluster.daemon(2).kill9()?;
    cluster.start_daemon(2)?;
    eventually("the answer after a restart without a quorum", Duration::from_secs(60), || alice.is_served_now())?;
    bob.is_served()?;
    let client = cluster.client(2);
    wait("what alice told to be known after a restart", async || cloud_init_done(&client, "alice").await).await?;
    assert_eq!(cloud_init_done(&client, "bob").await, None);
    Ok(())
}

impl Party {
    fn is_served_now(&mut self) -> Option<()> {
        self.fetch("", USER_DATA).ok().filter(|said| said.output.contains(&self.secret)).map(drop)
    }
}

/// Whatever it answers, it is not the other's.
fn nothing_of(other: &Party, said: &Said, how: &str) {
    assert!(!said.output.contains(&other.secret), "{how}: {said:?}");
}

fn no_path_or_header_names_another(alice: &mut Party, bob: &Party) -> Result<()> {
    let Guest { name, id, ip, .. } = &bob.guest;
    for path in [
        format!("/{id}/user-data"),
        format!("/{name}/user-data"),
        format!("/{ip}/user-data"),
        format!("/latest/../{name}/user-data"),
        format!("{USER_DATA}?vm={name}&ip={ip}"),
    ] {
        nothing_of(bob, &alice.fetch("", &path)?, &path);
    }
    for header in [
        format!("Host: {name}.waifu.internal"),
        format!("Host: {ip}"),
        format!("X-Forwarded-For: {ip}"),
        format!("X-Real-IP: {ip}"),
        format!("Forwarded: for={ip}"),
        format!("X-Instance-ID: {id}"),
    ] {
        nothing_of(bob, &alice.fetch(&format!("--header '{header}'"), USER_DATA)?, &header);
    }
    Ok(())
}

/// Some if the VM's guest has told that its cloud-init is done.
async fn cloud_init_done(client: &Client, name: &str) -> Option<()> {
    let vm = client.vm(&name.parse().ok()?).await.ok()?.value;
    vm.status.cloud_init_done.then_some(())
}

/// The guests have no cloud-init, and do as it would: what the vendor-data asks for is posted, of this life and no other's.
async fn cloud_init_is_done_where_the_guest_says_so(
    cluster: &Cluster,
    alice: &mut Party,
    bob: &mut Party,
) -> Result<()> {
    let asked = alice.fetch("", "/vendor-data")?;
    let (_, rest) = asked.output.split_once("url: 'http://169.254.169.254").context("vendor-data with a URL")?;
    let path = rest.split('\'').next().context("the URL's end")?.to_owned();
    let id =
        |party: &mut Party| party.fetch("", "/latest/meta-data/instance-id").map(|said| said.output.trim().to_owned());
    let (own, other) = (id(alice)?, id(bob)?);
    assert!(own.starts_with("i-") && own != other, "{own} {other}");

    let mut told = |id: &str| alice.fetch(&format!("--post-data 'hostname=alice&instance_id={id}'"), &path);
    let refused = told(&other)?;
    assert!(!refused.succeeded() && refused.output.contains("409"), "{refused:?}");
    assert_eq!(cloud_init_done(&cluster.client(2), "alice").await, None);
    for _ in 0..2 {
        let taken = told(&own)?;
        assert!(taken.succeeded(), "{taken:?}");
    }
    // Nothing in these guests would let anybody in by ssh.
    ctl(cluster, 1, &["wait", "alice", "--for", "cloud-init"])?;
    assert!(ctl(cluster, 3, &["show", "alice"])?.contains("done, as its guest has told"));
    assert_eq!(cloud_init_done(&cluster.client(2), "bob").await, None);
    Ok(())
}

fn a_token_is_its_owners(alice: &mut Party, bob: &mut Party) -> Result<()> {
    let (own, other) = (alice.token()?, bob.token()?);
    assert_ne!(own, other);
    let with = |token: &str| format!("--header 'X-aws-ec2-metadata-token: {token}'");
    let served = alice.fetch(&with(&own), USER_DATA)?;
    assert!(served.output.contains(&alice.secret), "{served:?}");
    let refused = alice.fetch(&with(&other), USER_DATA)?;
    assert!(!refused.succeeded(), "{refused:?}");
    nothing_of(bob, &refused, "bob's token");
    Ok(())
}

/// Answers to the first packets of a connection are lost, so that the guest's kernel sends its SYN again, under the same
/// port: what made another TCP stack give one guest the identity of the next.
fn a_syn_sent_twice_confuses_nobody(cluster: &Cluster, alice: &mut Party, bob: &mut Party) -> Result<()> {
    let host = alice.guest.host(cluster);
    let ip = &alice.guest.ip;
    host.exec("nft", [format!(
        "add table ip twice
         add counter ip twice lost
         add chain ip twice forward {{ type filter hook forward priority -10; }}
         add rule ip twice forward ip saddr 169.254.169.254 ip daddr {ip} tcp flags & (syn|ack) == syn|ack counter name lost drop"
    )])?;
    // What is half open for long is given up, and a guest that is told so asks again.
    let fetch = format!("wget -q -O - {SERVICE}{USER_DATA}");
    let fetching = format!("{{ {fetch} || {fetch}; }} > /twice & fetching=$!");
    assert!(alice.shell.run(&fetching)?.succeeded());
    eventually("answers to be lost", Duration::from_secs(30), || {
        let told = host.exec("nft", ["list", "counter", "ip", "twice", "lost"]).ok()?;
        let packets: u64 = told.split_once("packets ")?.1.split_whitespace().next()?.parse().ok()?;
        (packets >= 2).then_some(())
    })?;
    bob.is_served()?;
    host.exec("nft", ["delete", "table", "ip", "twice"])?;
    bob.is_served()?;
    let said = alice.shell.run("wait $fetching; cat /twice")?;
    assert!(said.output.contains(&alice.secret), "{said:?}");
    nothing_of(bob, &said, "a SYN sent twice");
    Ok(())
}

fn another_address_is_not_answered(alice: &mut Party, bob: &Party) -> Result<()> {
    let ip = &bob.guest.ip;
    let (net, _) = ip.rsplit_once('.').context("an address has dots")?;
    let route = format!("ip route replace 169.254.169.254 via {net}.1 dev eth0 src {ip}");
    let taken = alice.shell.run(&format!("ip address add {ip}/32 dev eth0 && {route}"))?;
    assert!(taken.succeeded(), "{taken:?}");
    let said = alice.fetch("", USER_DATA)?;
    assert!(!said.succeeded(), "{said:?}");
    nothing_of(bob, &said, "bob's address");
    let back = alice.shell.run(&format!("ip route del 169.254.169.254; ip address del {ip}/32 dev eth0"))?;
    assert!(back.succeeded(), "{back:?}");
    alice.is_served()
}

fn another_card_is_not_answered(alice: &mut Party, bob: &Party) -> Result<()> {
    let ip = alice.guest.ip.clone();
    let (net, _) = ip.rsplit_once('.').context("an address has dots")?;
    // Taking the card down loses the routes.
    let become_ = |mac: &str| {
        format!(
            "ip link set eth0 down && ip link set eth0 address {mac} && ip link set eth0 up && \
             ip route replace default via {net}.1 dev eth0"
        )
    };
    let taken = alice.shell.run(&become_(&bob.mac))?;
    assert!(taken.succeeded(), "{taken:?}");
    let said = alice.fetch("", USER_DATA)?;
    assert!(!said.succeeded(), "{said:?}");
    nothing_of(bob, &said, "bob's card");
    let back = alice.shell.run(&become_(&alice.mac.clone()))?;
    assert!(back.succeeded(), "{back:?}");
    Ok(())
}

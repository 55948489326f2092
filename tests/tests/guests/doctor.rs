//! The troubles that are met most often, made on real hosts one after the other: `waifuctl doctor`, asked of a node that does not
//! have them, names each with what it means and what mends it, and is content again when it is over. Two of the ten cannot be made
//! here, for the hosts share a clock and a build: clocks that differ and versions that do.

use super::support::three_of;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::fs;
use waifud_tests::{
    cluster::{Cluster, wait},
    lab::{Lab, eventually},
};

/// What somebody else has who took the name server's port, and gives back whatever comes.
const ECHO: &str = "import socket\ns=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\ns.bind(('127.0.0.1',7453))\n\
                    while True: s.sendto(*s.recvfrom(512))\n";
const CERTIFICATE: &str = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3 -subj /CN=n2 \
                           -addext subjectAltName=DNS:n2 -keyout /etc/waifud/n2.key -out /etc/waifud/n2.crt";

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_finds_what_is_wrong_on_real_hosts() -> Result<()> {
    let mut cluster = three_of(Lab::new(3)?, "").await?;
    all_is_well(&cluster).await?;
    libvirt_is_gone(&cluster).await?;
    a_route_leads_elsewhere(&cluster).await?;
    the_disk_is_full(&cluster).await?;
    what_is_configured_wrongly(&mut cluster).await?;
    nodes_fall_silent(&mut cluster).await
}

/// One thing that was looked at.
#[derive(Debug, PartialEq)]
struct Sight {
    verdict: String,
    seen: String,
    remedy: Option<String>,
}

/// What n1 says of one check of a subject, and how `waifuctl` ended.
fn look(cluster: &Cluster, subject: &str, check: &str) -> Result<(Sight, Option<i32>)> {
    let output = cluster.waifuctl(1, &["doctor", "-o", "json"])?;
    let all: Value =
        serde_json::from_slice(&output.stdout).with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    let is_it = |sight: &&Value| sight["subject"] == subject && sight["check"] == check;
    let one = all.as_array().context("no list")?.iter().find(is_it).with_context(|| format!("no {check}: {all:#}"))?;
    let text = |key: &str| one[key].as_str().map(str::to_owned);
    let sight = Sight {
        verdict: text("verdict").context("no verdict")?,
        seen: text("seen").context("no sight")?,
        remedy: text("remedy"),
    };
    Ok((sight, output.status.code()))
}

/// Waits until this check of n2 comes to this, and gives what was seen.
async fn comes_to(cluster: &Cluster, check: &str, verdict: &str) -> Result<Sight> {
    let (sight, code) = wait(&format!("{check} to be {verdict}"), async || {
        look(cluster, "n2", check).ok().filter(|(sight, _)| sight.verdict == verdict)
    })
    .await
    .with_context(|| format!("{:?}", look(cluster, "n2", check)))?;
    ensure!((verdict == "wrong") <= (code == Some(1)), "{sight:?} ends with {code:?}");
    ensure!((verdict != "well") == sight.remedy.is_some(), "{sight:?}");
    Ok(sight)
}

async fn all_is_well(cluster: &Cluster) -> Result<()> {
    for check in ["clock", "disk", "libvirt", "routes", "dns", "certificates", "redis"] {
        comes_to(cluster, check, "well").await?;
    }
    // Guests are emulated where the machine of this test has nothing else.
    look(cluster, "n2", "kvm")?;
    for check in ["quorum", "versions"] {
        let (sight, code) = look(cluster, "cluster", check)?;
        assert_eq!((sight.verdict.as_str(), code), ("well", Some(0)), "{sight:?}");
    }
    Ok(())
}

async fn libvirt_is_gone(cluster: &Cluster) -> Result<()> {
    cluster.host(2).libvirtd_kill()?;
    let sight = comes_to(cluster, "libvirt", "wrong").await?;
    assert!(sight.remedy.is_some_and(|remedy| remedy.contains("systemctl start libvirtd")));
    cluster.host(2).libvirtd_start()?;
    comes_to(cluster, "libvirt", "well").await.map(drop)
}

async fn a_route_leads_elsewhere(cluster: &Cluster) -> Result<()> {
    let route = |verb: &str| cluster.host(2).exec("ip", ["route", verb, "10.77.200.0/24", "dev", "lo"]);
    route("add")?;
    let sight = comes_to(cluster, "routes", "warning").await?;
    assert!(sight.seen.contains("10.77.200.0/24"), "{sight:?}");
    route("delete")?;
    comes_to(cluster, "routes", "well").await.map(drop)
}

/// Another file system lies over the directory for a moment; what the daemon has open it goes on with.
async fn the_disk_is_full(cluster: &Cluster) -> Result<()> {
    let dir = "/var/lib/waifud";
    cluster.host(2).exec("mount", ["-t", "tmpfs", "-o", "size=64m", "tmpfs", dir])?;
    let sight = comes_to(cluster, "disk", "wrong").await;
    cluster.host(2).exec("umount", [dir])?;
    let sight = sight?;
    assert!(sight.seen.contains("64 MiB") && sight.seen.contains(dir), "{sight:?}");
    comes_to(cluster, "disk", "well").await.map(drop)
}

/// A certificate that nobody renews, a Redis that is not there, and somebody else at the name server's port.
async fn what_is_configured_wrongly(cluster: &mut Cluster) -> Result<()> {
    cluster.daemon(2).terminate(waifud_tests::cluster::SOON)?;
    let host = cluster.host(2);
    let mut words = CERTIFICATE.split_whitespace();
    host.exec(words.next().context("a program")?, words)?;
    let mut squatter = host.spawn("python3", ["-c", ECHO])?;
    eventually("somebody at the port", waifud_tests::cluster::SOON, || {
        host.exec("sh", ["-c", "ss -lnu | grep 127.0.0.1:7453"]).ok()
    })?;
    let file = host.path("/etc/waifud/waifud.toml");
    let before = fs::read_to_string(&file)?;
    let more = "[api]\ntls_cert = \"/etc/waifud/n2.crt\"\ntls_key = \"/etc/waifud/n2.key\"\n\
                [cache]\nredis_url = \"redis://127.0.0.1:6390\"\n";
    fs::write(&file, format!("{before}{more}"))?;
    cluster.start_daemon(2)?;

    let sight = comes_to(cluster, "certificates", "warning").await?;
    assert!(sight.seen.contains("n2.crt is valid for 2 days"), "{sight:?}");
    comes_to(cluster, "redis", "warning").await?;
    let sight = comes_to(cluster, "dns", "wrong").await?;
    assert!(sight.remedy.is_some_and(|remedy| remedy.contains("sport = :7453")), "{}", sight.seen);

    squatter.kill9()?;
    comes_to(cluster, "dns", "well").await?;
    cluster.daemon(2).terminate(waifud_tests::cluster::SOON)?;
    fs::write(&file, before)?;
    cluster.start_daemon(2)?;
    for check in ["certificates", "redis"] {
        comes_to(cluster, check, "well").await?;
    }
    Ok(())
}

async fn nodes_fall_silent(cluster: &mut Cluster) -> Result<()> {
    cluster.daemon(3).kill9()?;
    wait("the silence to be told", async || {
        let told = cluster.waifuctl(1, &["doctor", "-o", "json"]).ok()?;
        String::from_utf8_lossy(&told.stdout).contains("n3 is silent").then_some(())
    })
    .await?;
    assert_eq!(look(cluster, "cluster", "quorum")?.0.verdict, "well");
    cluster.daemon(2).kill9()?;
    let (sight, code) = wait("the quorum to be missed", async || {
        look(cluster, "cluster", "quorum").ok().filter(|(sight, _)| sight.verdict == "wrong")
    })
    .await?;
    assert_eq!(code, Some(1));
    assert!(sight.seen.contains("n2, n3") && sight.remedy.is_some(), "{sight:?}");
    Ok(())
}

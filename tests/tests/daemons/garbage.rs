//! Strangers on the peers' port: without a certificate, with one of another cluster, and with plain noise. None gets in,
//! and the cluster does not notice.

use super::support::{key, small, three_with_template};
use anyhow::Result;
use waifud_tests::{
    cluster::{Cluster, WITHOUT_GUESTS},
    lab::Lab,
};

/// Sends 200 datagrams of noise, some that look like QUIC, from one host to another.
const NOISE: &str = r#"
import os, socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for i in range(200):
    head = b"\xc3\x00\x00\x00\x01" if i % 2 else b""
    s.sendto(head + os.urandom(1200 if i % 3 else 40), (sys.argv[1], 7443))
"#;

#[tokio::test(flavor = "multi_thread")]
async fn noise_is_ignored() -> Result<()> {
    let cluster = three_with_template().await?;
    let before = cluster.status(1).await?;
    cluster.host(2).exec("python3", ["-c", NOISE, &cluster.host(1).address().to_string()])?;
    cluster.client(1).create_vm(&small("still-here"), &key("k")).await?;
    let after = cluster.status(1).await?;
    assert_eq!((before.term, before.leader), (after.term, after.leader), "nobody was deposed by noise");
    assert!(after.members.iter().all(|m| m.alive));
    Ok(())
}

/// A machine that knows everything about a member but its key: a member of another cluster with the same name.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_of_another_cluster_is_a_stranger() -> Result<()> {
    let cluster = three_with_template().await?;
    let other = Cluster::start(Lab::plain(1)?, WITHOUT_GUESTS).await?;
    // Its whole membership is put on a fourth host of the first cluster's network; it finds nobody who listens.
    let stolen = other.host(1).path("/var/lib/waifud/cluster");
    assert!(stolen.is_dir());
    let host = cluster.host(2);
    let target = host.path("/var/lib/waifud-stranger");
    std::fs::create_dir_all(&target)?;
    let copied = std::process::Command::new("cp").arg("-a").arg(&stolen).arg(target.join("cluster")).status()?;
    assert!(copied.success());
    let before = cluster.status(1).await?;
    let mut stranger = host.spawn(
        waifud_tests::lab::program("waifud")?,
        [
            "run",
            "--data-dir",
            target.to_str().expect("a path in UTF-8"),
            "--listen",
            "0.0.0.0:7555",
            "--api-listen",
            "0.0.0.0:7556",
            "--api-socket",
            "/run/waifud/stranger.sock",
            "--hypervisor-uri",
            "test:///default",
        ],
    )?;
    // It is up when its own socket answers; by then it has knocked at whoever it knows.
    waifud_tests::lab::eventually("the stranger", waifud_tests::cluster::SOON, || {
        std::os::unix::net::UnixStream::connect(host.path("/run/waifud/stranger.sock")).ok()
    })?;
    cluster.client(1).create_vm(&small("still-here"), &key("k")).await?;
    let after = cluster.status(1).await?;
    assert_eq!(before.members.len(), after.members.len());
    assert!(stranger.is_running());
    stranger.terminate(std::time::Duration::from_secs(10))?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_or_spent_token_lets_nobody_in() -> Result<()> {
    let cluster = Cluster::start(Lab::plain(2)?, WITHOUT_GUESTS).await?;
    let waifud = waifud_tests::lab::program("waifud")?;
    let token = String::from_utf8(cluster.waifuctl(1, &["cluster", "token", "create"])?.stdout)?;
    let try_join = |token: &str, name: &str, dir: &str| {
        let output = cluster
            .host(2)
            .command(&waifud)
            .args(["join", "--name", name, "--advertise", "192.0.2.2:7600", "--data-dir", dir, token.trim()])
            .output()?;
        Ok::<_, anyhow::Error>((output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned()))
    };
    let mut mistyped = token.trim().to_owned();
    let last = if mistyped.pop() == Some('A') { 'B' } else { 'A' };
    mistyped.push(last);
    let (joined, said) = try_join(&mistyped, "late", "/var/lib/waifud/a")?;
    assert!(!joined && said.contains("token"), "{said}");

    let (joined, said) = try_join(&token, "n1", "/var/lib/waifud/b")?;
    assert!(!joined && said.contains("n1"), "a name that is taken is named: {said}");
    assert_eq!(cluster.status(1).await?.members.len(), 2, "a failed join leaves nothing behind");

    let (joined, said) = try_join(&token, "late", "/var/lib/waifud/b")?;
    assert!(joined, "the same token, tried again with a free name: {said}");
    let (joined, said) = try_join(&token, "later", "/var/lib/waifud/c")?;
    assert!(!joined && said.contains("used up"), "{said}");
    Ok(())
}

//! A real Debian with its own cloud-init finds its documents through each datasource and does what they say. It is looked at
//! over SSH from a node that it is not on, so that the mesh carries it.
//!
//! A boot takes a minute or more on an emulated CPU: two guests at a time, one on each of two nodes.

use super::{
    guest::Guest,
    support::{ctl, until},
};
use anyhow::{Context, Result};
use std::{path::Path, time::Duration};
use waifud_api::client::Client;
use waifud_model::observed::VmState;
use waifud_tests::{
    cluster::{Cluster, WITH_GUESTS, wait},
    lab::{Lab, SshKey, debian_image, eventually, program},
};

/// For a whole boot beside another one.
const BOOT: Duration = Duration::from_secs(300);
/// From where guests are looked at: neither of the nodes that they are on.
const ONLOOKER: usize = 3;

/// One guest: its name and node, what `create` is told beside the usual, what `cloud-id` says on it, and whether it tells
/// its node that its cloud-init is done.
struct Case(&'static str, &'static str, &'static [&'static str], &'static str, bool);

const CASES: [[Case; 2]; 2] = [
    [
        Case("plain", "n1", &[], "nocloud", true),
        Case("amazon", "n2", &["--datasource", "ec2", "--imds", "v2"], "aws", false),
    ],
    [
        Case("stack", "n1", &["--datasource", "open_stack"], "openstack", true),
        Case("wired", "n2", &["--network-config", "NETWORK"], "nocloud", false),
    ],
];

/// An MTU that DHCP would not give tells that this was read.
const NETWORK: &str = "version: 2\nethernets:\n  any:\n    match: {name: \"e*\"}\n    dhcp4: true\n    mtu: 1300\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_real_debian_obeys_its_documents_through_each_datasource() -> Result<()> {
    let image = debian_image()?;
    let directory = tempfile::tempdir()?;
    let key = SshKey::make(directory.path())?;
    let cluster = Cluster::start(Lab::new(3)?, WITH_GUESTS).await?;
    ctl(&cluster, 1, &["template", "add", "debian", "--file", image.to_str().context("a path that is text")?])?;

    for pair in &CASES {
        let mut guests = Vec::new();
        for case in pair {
            guests.push(created(&cluster, directory.path(), &key, case).await?);
        }
        for (case, guest) in pair.iter().zip(&guests) {
            finished(&cluster, guest, 1)?;
            it_is_as_told(&cluster, &key, case, guest)?;
            it_has_told(&cluster, case).await?;
            waifuctl_gets_in(&cluster, &key, guest)?;
        }
        for guest in &guests {
            if guest.name == "plain" {
                an_edit_with_rerun_takes_effect(&cluster, directory.path(), &key, guest).await?;
            }
            ctl(&cluster, ONLOOKER, &["delete", &guest.name, "--yes"])?;
        }
    }
    Ok(())
}

/// Another user, a file and a command, each with the guest's name in it.
fn user_data(name: &str, word: &str, key: &SshKey) -> String {
    format!(
        "#cloud-config\n\
         users:\n\
         - default\n\
         - {{name: tester, sudo: 'ALL=(ALL) NOPASSWD:ALL', shell: /bin/bash, ssh_authorized_keys: ['{}']}}\n\
         write_files:\n\
         - {{path: /etc/told, content: \"{word} {name}\\n\"}}\n\
         runcmd:\n\
         - 'echo {word} $(hostname) > /var/lib/ran'\n",
        key.public()
    )
}

fn written(directory: &Path, name: &str, text: &str) -> Result<String> {
    let file = directory.join(name);
    std::fs::write(&file, text)?;
    file.into_os_string().into_string().ok().context("a path that is text")
}

async fn created(cluster: &Cluster, directory: &Path, key: &SshKey, case: &Case) -> Result<Guest> {
    let Case(name, node, more, ..) = case;
    let user_data = written(directory, "user-data", &user_data(name, "first", key))?;
    let network = written(directory, "network-config", NETWORK)?;
    let public = written(directory, "key.pub", key.public())?;
    let mut words = vec!["create", "-t", "debian", "-n", *name, "-m", "1G", "-N", *node, "-u", &user_data];
    words.extend(["--ssh-key", &public]);
    words.extend(more.iter().map(|word| if *word == "NETWORK" { network.as_str() } else { word }));
    ctl(cluster, ONLOOKER, &words)?;
    Guest::of(cluster, &until(&cluster.client(1), name, VmState::Running).await?)
}

/// cloud-init has come to its end this often.
fn finished(cluster: &Cluster, guest: &Guest, times: usize) -> Result<()> {
    let ends = || {
        let serial = guest.serial(cluster);
        serial.lines().filter(|line| line.contains("Cloud-init v.") && line.contains(" finished at ")).count()
    };
    eventually(&format!("the end of cloud-init on {}", guest.name), BOOT, || (ends() >= times).then_some(()))
        .with_context(|| guest.serial(cluster))
}

fn it_is_as_told(cluster: &Cluster, key: &SshKey, case: &Case, guest: &Guest) -> Result<()> {
    let Case(name, _, more, cloud, _) = case;
    let on = |user: &str, command: &str| {
        key.run(cluster.host(ONLOOKER), user, &guest.ip, command).map(|said| said.trim().to_owned())
    };
    assert_eq!(on("tester", "hostname")?, *name);
    assert_eq!(on("debian", "whoami")?, "debian", "the key is the default user's too");
    assert_eq!(on("tester", "cloud-id")?, *cloud);
    assert_eq!(on("tester", "cat /etc/told")?, format!("first {name}"));
    assert_eq!(on("tester", "cat /var/lib/ran")?, format!("first {name}"));
    let routes = on("tester", "ip -4 -o link show up")?;
    assert_eq!(routes.contains("mtu 1300"), more.contains(&"NETWORK"), "{routes}");
    Ok(())
}

/// Its cloud-init has come to its end, of which it told a moment before.
async fn it_has_told(cluster: &Cluster, case: &Case) -> Result<()> {
    let Case(name, .., tells) = case;
    let client = cluster.client(ONLOOKER);
    if *tells {
        wait(&format!("{name} to be known to be done"), async || done(&client, name).await.ok()?.then_some(())).await?;
    }
    assert_eq!(done(&client, name).await?, *tells, "{name}");
    Ok(())
}

/// By name, as whom its cloud-config tells, with an operator's key: to its SSH server, and to what its cloud-init says of itself.
fn waifuctl_gets_in(cluster: &Cluster, key: &SshKey, guest: &Guest) -> Result<()> {
    let host = cluster.host(ONLOOKER);
    let identity = key.lay(host)?;
    let said = |words: &[&str]| {
        let waifuctl = program("waifuctl")?.into_os_string().into_string().ok().context("a path that is text")?;
        // The host's own directory, as that of the key is; the API is where it is looked for by default.
        let mut line = vec!["XDG_STATE_HOME=/var/lib/libvirt", waifuctl.as_str()];
        line.extend(words);
        host.exec("env", line).map(|said| said.trim().to_owned())
    };
    let name = guest.name.as_str();
    assert_eq!(said(&["wait", name, "--for", "ssh"])?, guest.ip);
    assert_eq!(said(&["wait", name, "--for", "cloud-init", "-i", identity])?, guest.ip);
    assert_eq!(said(&["ssh", name, "-i", identity, "--", "hostname"])?, name);
    Ok(())
}

async fn done(client: &Client, name: &str) -> Result<bool> {
    Ok(client.vm(&name.parse()?).await?.value.status.cloud_init_done)
}

async fn an_edit_with_rerun_takes_effect(
    cluster: &Cluster,
    directory: &Path,
    key: &SshKey,
    guest: &Guest,
) -> Result<()> {
    let name = guest.name.as_str();
    let instance = || key.run(cluster.host(ONLOOKER), "tester", &guest.ip, "cat /var/lib/cloud/data/instance-id");
    let before = instance()?;
    let file = written(directory, "edited", &user_data(name, "second", key))?;
    ctl(cluster, ONLOOKER, &["edit", name, "--file", &file, "--rerun"])?;
    ctl(cluster, ONLOOKER, &["stop", name])?;
    ctl(cluster, ONLOOKER, &["start", name])?;
    until(&cluster.client(1), name, VmState::Running).await?;
    assert!(!done(&cluster.client(1), name).await?, "that was another life");
    finished(cluster, guest, 2)?;
    ctl(cluster, ONLOOKER, &["wait", name, "--for", "cloud-init"])?;
    assert!(done(&cluster.client(ONLOOKER), name).await?);
    let told = key.run(cluster.host(ONLOOKER), "tester", &guest.ip, "cat /etc/told /var/lib/ran")?;
    assert_eq!(told, format!("second {name}\nsecond {name}\n"));
    // Its host keys are new, and no attack.
    waifuctl_gets_in(cluster, key, guest)?;
    assert_ne!(instance()?, before, "another life");
    Ok(())
}

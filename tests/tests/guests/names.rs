//! The name of a VM: there on every node and in every guest as soon as the VM is, gone with it, and answered without anybody
//! else's help. All other names are asked of whom the configuration says.

use super::{
    guest::Guest,
    shell::Shell,
    support::{ctl, measured, three_of, tiny},
};
use anyhow::{Context, Result};
use std::{net::Ipv4Addr, time::Instant};
use waifud_tests::{
    cluster::{Cluster, SOON},
    lab::{Host, Lab, Process, eventually},
};

/// A name that is nobody's in the cluster, and its address.
const ELSEWHERE: (&str, &str) = ("www.example.test", "192.0.2.77");

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_has_its_name_everywhere_from_its_beginning_to_its_end() -> Result<()> {
    let lab = Lab::new(3)?;
    let elsewhere = lab.host(1).address();
    let _resolver = resolver(lab.host(1))?;
    let mut cluster = three_of(lab, &format!("[network]\ndns = [\"{elsewhere}\"]\n")).await?;
    let gateways = gateways(&cluster).await?;
    let asker = tiny(&cluster, "asker", "n3", &[]).await?;
    let mut shell = Shell::open(&cluster, &asker)?;

    other_names_are_asked_elsewhere(&cluster, &gateways, &mut shell)?;
    let target = it_is_there_at_once(&cluster, &gateways, &mut shell).await?;
    so_is_the_way_back(&cluster, &gateways, &mut shell, target)?;
    it_ends_with_the_vm(&cluster, &gateways, &mut shell)?;
    nobody_else_is_needed(&mut cluster, &gateways, &mut shell, &asker)
}

/// Somebody else's name server.
fn resolver(host: &Host) -> Result<Process> {
    let address = host.address().to_string();
    let (name, answer) = ELSEWHERE;
    let words = [
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--pid-file",
        "--user=root",
        "--no-resolv",
        "--no-hosts",
        "--bind-interfaces",
        "--except-interface=lo",
        &format!("--listen-address={address}"),
        &format!("--address=/{name}/{answer}"),
    ];
    let process = host.spawn("dnsmasq", words)?;
    eventually("the other name server", SOON, || host.resolve(name, &address).ok().filter(|found| found == &[answer]))?;
    Ok(process)
}

/// Where each node answers, n1 first.
async fn gateways(cluster: &Cluster) -> Result<Vec<String>> {
    let net = cluster.client(1).net().await?.value;
    let of = |host: &Host| {
        let node = net.nodes.iter().find(|node| node.node.as_str() == host.name());
        node.map(|node| node.gateway.to_string()).with_context(|| format!("{} has no subnet", host.name()))
    };
    cluster.lab().hosts().iter().map(of).collect()
}

/// What the name server of each node says, asked on the node: `drill`'s own words.
fn asked_on_nodes(cluster: &Cluster, gateways: &[String], question: &[&str], expected: &str) -> Result<()> {
    for (host, gateway) in cluster.lab().hosts().iter().zip(gateways) {
        let server = format!("@{gateway}");
        let words = [&[server.as_str()], question].concat();
        eventually(&format!("{expected} for {question:?} on {}", host.name()), SOON, || {
            host.exec("drill", &words).ok().filter(|said| said.contains(expected)).map(drop)
        })?;
    }
    Ok(())
}

/// The same in the guest, which asks whom DHCP told it to.
fn asked_in_guest(shell: &mut Shell, question: &str, expected: &str) -> Result<()> {
    eventually(&format!("{expected} for {question} in a guest"), SOON, || {
        let said = shell.run(&format!("nslookup {question}")).ok()?;
        said.output.contains(expected).then_some(())
    })
}

/// The end of `drill`'s line for an address.
fn record(address: impl std::fmt::Display) -> String {
    format!("\tIN\tA\t{address}\n")
}

fn other_names_are_asked_elsewhere(cluster: &Cluster, gateways: &[String], shell: &mut Shell) -> Result<()> {
    let (name, address) = ELSEWHERE;
    asked_on_nodes(cluster, gateways, &[name], &record(address))?;
    asked_in_guest(shell, name, &format!("Address: {address}"))
}

async fn it_is_there_at_once(cluster: &Cluster, gateways: &[String], shell: &mut Shell) -> Result<Ipv4Addr> {
    // Whoever asks too early is not told so for longer than it is true.
    asked_on_nodes(cluster, gateways, &["target.waifu.internal"], "rcode: NXDOMAIN")?;
    asked_in_guest(shell, "target.waifu.internal", "NXDOMAIN")?;

    let asked = Instant::now();
    ctl(cluster, 1, &["create", "-t", "tiny", "-n", "target", "-m", "256M", "-N", "n2", "--no-start", "--no-wait"])?;
    let made = Instant::now();
    let ip = cluster.client(1).vm(&"target".parse()?).await?.value.ip;
    asked_on_nodes(cluster, gateways, &["target.waifu.internal"], &record(ip))?;
    let on_nodes = made.elapsed();
    asked_in_guest(shell, "target.waifu.internal", &format!("Address: {ip}"))?;
    measured(&format!(
        "a create took {:?}; the name was on all nodes {on_nodes:?} later and in a guest {:?} later",
        made - asked,
        made.elapsed()
    ));
    Ok(ip)
}

fn so_is_the_way_back(cluster: &Cluster, gateways: &[String], shell: &mut Shell, ip: Ipv4Addr) -> Result<()> {
    asked_on_nodes(cluster, gateways, &["-x", &ip.to_string()], "\tPTR\ttarget.waifu.internal.")?;
    asked_in_guest(shell, &ip.to_string(), "name = target.waifu.internal")
}

fn it_ends_with_the_vm(cluster: &Cluster, gateways: &[String], shell: &mut Shell) -> Result<()> {
    ctl(cluster, 3, &["delete", "target", "--yes"])?;
    let deleted = Instant::now();
    asked_on_nodes(cluster, gateways, &["target.waifu.internal"], "rcode: NXDOMAIN")?;
    asked_in_guest(shell, "target.waifu.internal", "NXDOMAIN")?;
    measured(&format!("{:?} after the delete the name was nowhere", deleted.elapsed()));
    Ok(())
}

fn nobody_else_is_needed(cluster: &mut Cluster, gateways: &[String], shell: &mut Shell, asker: &Guest) -> Result<()> {
    cluster.daemon(1).kill9()?;
    cluster.daemon(2).kill9()?;
    asked_in_guest(shell, "asker.waifu.internal", &format!("Address: {}", asker.ip))?;
    asked_in_guest(shell, "n1.node.waifu.internal", &format!("Address: {}", gateways[0]))
}

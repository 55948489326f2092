//! A machine that is no node, let into the mesh with nothing but stock tools: the file that `waifuctl` prints and `wg-quick`,
//! over WireGuard in the kernel or `wireguard-go`.

use super::{
    guest::Guest,
    support::{ctl, three_of, tiny},
};
use anyhow::{Context, Result};
use std::fs;
use waifud_tests::{
    cluster::{Cluster, SOON},
    lab::{Host, Lab, eventually},
};

/// The host that is no node.
const LAPTOP: usize = 4;
/// A directory that the laptop has for itself.
const ROOM: &str = "/var/lib/libvirt";

#[tokio::test(flavor = "multi_thread")]
async fn a_laptop_reaches_guests_of_all_nodes_and_nothing_else_until_it_is_let_in_no_more() -> Result<()> {
    let cluster = three_of(Lab::new(LAPTOP)?, "").await?;
    let (left, right) = tokio::try_join!(tiny(&cluster, "left", "n1", &[]), tiny(&cluster, "right", "n2", &[]))?;
    let guests = [left, right];
    let laptop = cluster.host(LAPTOP);
    assert!(guests.iter().all(|guest| !reaches(laptop, &guest.ip, guest)), "nobody is let in yet");

    let gateways = joined(&cluster, laptop)?;
    for guest in &guests {
        eventually(&format!("{} by its address", guest.name), SOON, || {
            reaches(laptop, &guest.ip, guest).then_some(())
        })?;
        let name = format!("{}.waifu.internal", guest.name);
        eventually(&format!("{} by its name", guest.name), SOON, || reaches(laptop, &name, guest).then_some(()))?;
    }
    the_nodes_are_not_reached(&cluster, laptop, &gateways);

    ctl(&cluster, 2, &["net", "peer", "delete", "laptop"])?;
    for guest in &guests {
        eventually(&format!("{} out of reach", guest.name), SOON, || {
            (!reaches(laptop, &guest.ip, guest)).then_some(())
        })?;
    }
    // The others stay.
    assert!(reaches(cluster.host(3), &guests[0].ip, &guests[0]), "a node goes on reaching guests");
    Ok(())
}

/// Whether the guest's page is there.
fn reaches(from: &Host, address: &str, guest: &Guest) -> bool {
    let page = from.exec("curl", ["--silent", "--fail", "--max-time", "2", &format!("http://{address}/")]);
    page.is_ok_and(|page| page == format!("Hello from {} at {}\n", guest.name, guest.ip))
}

/// Lets the laptop in and brings its end up. Gives the nodes' addresses in the mesh, which are its name servers.
fn joined(cluster: &Cluster, laptop: &Host) -> Result<Vec<String>> {
    let config = ctl(cluster, 1, &["net", "peer", "add", "laptop", "--no-qr"])?;
    let dns = config.lines().find_map(|line| line.strip_prefix("DNS = ")).context("the file names no name servers")?;
    let gateways: Vec<String> =
        dns.split(", ").filter(|word| word.parse::<std::net::Ipv4Addr>().is_ok()).map(str::to_owned).collect();
    assert_eq!(gateways.len(), 3, "{dns}");

    // What wg-quick would have resolvconf do, which Debian does not have by itself.
    let servers: String = gateways.iter().map(|gateway| format!("nameserver {gateway}\n")).collect();
    fs::write(laptop.path("/etc/resolv.conf"), servers)?;
    let without_dns: String =
        config.lines().filter(|line| !line.starts_with("DNS")).map(|line| format!("{line}\n")).collect();
    // All hosts have their control sockets in one directory, so the interface needs a name of its own.
    let file = format!("{ROOM}/wg{}.conf", std::process::id());
    fs::write(laptop.path(&file), without_dns)?;
    laptop.exec("chmod", ["600", &file])?;
    laptop.exec("wg-quick", ["up", &file])?;
    Ok(gateways)
}

/// Of a node, names and an echo are for laptops; its API, which it has on all its addresses, is not.
fn the_nodes_are_not_reached(cluster: &Cluster, laptop: &Host, gateways: &[String]) {
    let asked = |from: &Host, gateway: &str| {
        from.exec("curl", ["--silent", "--insecure", "--max-time", "5", &format!("https://{gateway}:7443/")])
    };
    for (host, gateway) in cluster.lab().hosts().iter().zip(gateways) {
        assert!(asked(host, gateway).is_ok(), "{} serves its API on {gateway}", host.name());
        assert!(laptop.exec("busybox", ["ping", "-c", "1", "-W", "5", gateway]).is_ok(), "{} echoes", host.name());
        let answer = asked(laptop, gateway);
        assert!(answer.is_err(), "the laptop is answered by {}: {answer:?}", host.name());
    }
}

//! What a guest reaches, and what it does not: asked from inside, at its own shell.

use super::{
    guest::Guest,
    shell::Shell,
    support::{ctl, three_with_tiny, until},
};
use anyhow::{Context, Result};
use std::time::Duration;
use waifud_model::observed::VmState;
use waifud_tests::{
    cluster::{Cluster, SOON},
    lab::{Host, Process, eventually},
};

/// What stands for the outside world in the lab; nothing there knows a way back to a guest's own address.
const OUTSIDE: &str = "198.51.100.1";

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_reaches_the_world_but_not_its_host() -> Result<()> {
    let cluster = three_with_tiny().await?;
    ctl(&cluster, 1, &["create", "-t", "tiny", "-n", "inside", "-m", "256M", "-N", "n2"])?;
    let guest = Guest::of(&cluster, &until(&cluster.client(1), "inside", VmState::Running).await?)?;
    guest.serves(&cluster).await?;
    let mut shell = Shell::open(&cluster, &guest)?;
    assert_eq!(shell.run("hostname")?.output, "inside");

    the_world_is_reached(&cluster, &guest, &mut shell)?;
    the_host_is_not(&cluster, &guest, &mut shell)?;
    nothing_is_sent_under_another_address(&guest, &mut shell)?;
    nobody_hears_its_dhcp_server(&cluster, &guest, &mut shell)
}

fn gateway(guest: &Guest) -> Result<String> {
    let (net, _) = guest.ip.rsplit_once('.').context("an address has dots")?;
    Ok(format!("{net}.1"))
}

fn fetch(address: &str) -> String {
    format!("timeout 5 wget -q -O - http://{address}:8000/who")
}

/// A web server that says on which host it is, and logs who asked.
fn serves(host: &Host) -> Result<Process> {
    std::fs::write(host.path("/var/lib/libvirt/who"), host.name())?;
    let server = host.spawn("busybox", ["httpd", "-f", "-v", "-p", "8000", "-h", "/var/lib/libvirt"])?;
    eventually("the server", SOON, || {
        host.exec("curl", ["--silent", "--fail", "--max-time", "1", "http://127.0.0.1:8000/who"]).ok()
    })?;
    Ok(server)
}

fn the_world_is_reached(cluster: &Cluster, guest: &Guest, shell: &mut Shell) -> Result<()> {
    let ping = shell.run(&format!("ping -c 1 -W 5 {OUTSIDE}"))?;
    assert!(ping.succeeded(), "{ping:?}");

    let server = serves(cluster.host(1))?;
    let fetched = shell.run(&fetch(&cluster.host(1).address().to_string()))?;
    assert_eq!(fetched.output, "n1", "{fetched:?}");
    let log = server.log();
    let own = guest.host(cluster).address().to_string();
    assert!(log.contains(&own) && !log.contains(&guest.ip), "it is seen as its host outside: {log}");
    Ok(())
}

fn the_host_is_not(cluster: &Cluster, guest: &Guest, shell: &mut Shell) -> Result<()> {
    let host = guest.host(cluster);
    let gateway = gateway(guest)?;
    let _server = serves(host)?;
    for address in [&gateway, &host.address().to_string()] {
        let reached = host.exec("curl", ["--silent", "--fail", &format!("http://{address}:8000/who")])?;
        assert_eq!(reached, host.name(), "the host itself reaches {address}");
        let refused = shell.run(&fetch(address))?;
        assert!(!refused.succeeded() && !refused.output.contains(host.name()), "{address}: {refused:?}");
    }
    // What it needs of its host it has.
    let ping = shell.run(&format!("ping -c 1 -W 5 {gateway}"))?;
    assert!(ping.succeeded(), "{ping:?}");
    let name = shell.run(&format!("nslookup {}.waifu.internal {gateway}", guest.name))?;
    assert!(name.output.contains(&guest.ip), "{name:?}");
    Ok(())
}

fn nothing_is_sent_under_another_address(guest: &Guest, shell: &mut Shell) -> Result<()> {
    let gateway = gateway(guest)?;
    let (net, _) = gateway.rsplit_once('.').context("an address has dots")?;
    let stolen = format!("{net}.250");
    let as_other = format!("ip address add {stolen}/32 dev eth0 && ! ping -c 1 -W 1 -I {stolen} {gateway}");
    let silence = shell.run(&as_other)?;
    assert!(silence.succeeded(), "{silence:?}");
    let own = shell.run(&format!("ip address del {stolen}/32 dev eth0 && ping -c 1 -W 5 {gateway}"))?;
    assert!(own.succeeded(), "{own:?}");
    Ok(())
}

/// Counts answers of DHCP servers on the way from guests to the bridge: before the guest's filter, and after it.
const COUNTERS: &str = "
add table bridge probe
add counter bridge probe sent
add counter bridge probe passed
add chain bridge probe before { type filter hook prerouting priority -400; }
add chain bridge probe after { type filter hook prerouting priority 100; }
add rule bridge probe before udp sport 67 counter name sent
add rule bridge probe after udp sport 67 counter name passed
";

const SERVER: &str = "start NET.200
end NET.210
interface eth0
lease_file /leases
pidfile /pid
option subnet 255.255.255.0
";

fn nobody_hears_its_dhcp_server(cluster: &Cluster, guest: &Guest, shell: &mut Shell) -> Result<()> {
    let host = guest.host(cluster);
    let (net, _) = guest.ip.rsplit_once('.').context("an address has dots")?;
    let settings = SERVER.replace("NET", net).replace('\n', "\\n");
    let started = shell
        .run(&format!("printf '{settings}' > /conf && : > /leases && {{ udhcpd -f -a 1 /conf > /dev/null 2>&1 & }}"))?;
    assert!(started.succeeded(), "{started:?}");

    host.exec("nft", [COUNTERS])?;
    // Nobody on this bridge knows this card, so our own server is silent and the guest's is asked again and again.
    let _asking =
        host.spawn("busybox", ["udhcpc", "-f", "-n", "-i", "waifubr0", "-s", "/bin/true", "-t", "50", "-T", "1"])?;
    let count = |name| -> Option<u64> {
        let told = host.exec("nft", ["list", "counter", "bridge", "probe", name]).ok()?;
        told.split_once("packets ")?.1.split_whitespace().next()?.parse().ok()
    };
    eventually("the guest's answers", Duration::from_secs(30), || count("sent").filter(|packets| *packets >= 2))?;
    assert_eq!(count("passed"), Some(0), "what a guest says as a DHCP server stays with it");
    Ok(())
}

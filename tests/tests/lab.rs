//! The lab itself: its hosts reach each other and fail as they are told to, and a guest boots on them with nothing but
//! libvirt, so that a later failure of waifud's own tests is not the lab's.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use waifud_tests::lab::{Host, Lab, eventually, tiny_image};

/// Whether `to` answers a connection from `from` within a second.
fn reaches(from: &Host, to: &Host) -> bool {
    let url = format!("http://{}:8000/", to.address());
    from.exec("curl", ["--silent", "--fail", "--max-time", "1", &url]).is_ok()
}

fn serves(host: &Host) -> Result<waifud_tests::lab::Process> {
    std::fs::write(host.path("/var/lib/waifud/index.html"), host.name())?;
    let server = host.spawn("busybox", ["httpd", "-f", "-p", "8000", "-h", "/var/lib/waifud"])?;
    eventually("the server", Duration::from_secs(5), || reaches(host, host).then_some(()))?;
    Ok(server)
}

#[test]
fn a_wire_can_be_cut_pulled_and_healed() -> Result<()> {
    let lab = Lab::plain(3)?;
    let (one, two, three) = (lab.host(1), lab.host(2), lab.host(3));
    let _servers = [serves(one)?, serves(two)?, serves(three)?];
    ensure!(reaches(one, two) && reaches(two, one) && reaches(one, three));

    lab.wire().partition(&[one], &[two, three])?;
    ensure!(!reaches(one, two) && !reaches(two, one) && !reaches(three, one));
    ensure!(reaches(two, three), "a partition leaves each side whole");
    lab.wire().heal()?;
    ensure!(reaches(one, two) && reaches(three, one));

    lab.wire().cut_one_way(two, one)?;
    ensure!(!reaches(one, two), "the answers of n2 are dropped");
    ensure!(reaches(one, three));
    lab.wire().heal()?;

    // A connection takes four packets that all arrive: one in a hundred million.
    lab.wire().lose(99)?;
    ensure!(!reaches(two, three));
    lab.wire().heal()?;

    one.link_down()?;
    ensure!(!reaches(two, one) && reaches(two, three));
    one.link_up()?;
    eventually("n1 on the wire again", Duration::from_secs(10), || reaches(two, one).then_some(()))?;
    Ok(())
}

#[test]
fn a_program_is_killed_frozen_and_heard() -> Result<()> {
    let lab = Lab::plain(1)?;
    let host = lab.host(1);
    ensure!(host.exec("hostname", [""; 0])?.trim() == "n1");
    let failure = host.exec("sh", ["-c", "echo out; echo complaint >&2; exit 3"]).unwrap_err().to_string();
    ensure!(failure.contains("complaint") && failure.contains("exit status: 3"), "{failure}");

    let mut program = host.spawn("sh", ["-c", "echo started; sleep 1000"])?;
    eventually("its word", Duration::from_secs(5), || program.log().contains("started").then_some(()))?;
    program.signal(Signal::SIGSTOP)?;
    program.signal(Signal::SIGCONT)?;
    program.kill9()?;
    ensure!(!program.is_running());
    ensure!(program.kill9().is_err(), "nothing is left to kill");

    let gone = host.spawn("sh", ["-c", "echo cannot; exit 1"]).map(|mut program| program.wait(Duration::from_secs(5)));
    match gone {
        Err(error) => ensure!(error.to_string().contains("cannot"), "{error}"),
        Ok(status) => ensure!(status?.code() == Some(1)),
    }
    Ok(())
}

#[test]
fn a_host_takes_its_processes_with_it() -> Result<()> {
    let lab = Lab::plain(1)?;
    let orphan = lab.host(1).spawn("sh", ["-c", "sleep 1000 & exec sleep 2000"])?;
    let pid = orphan.pid();
    let running = || std::path::Path::new("/proc").join(pid.to_string()).join("cwd").exists();
    ensure!(running());
    drop(lab);
    eventually("the end of the orphan", Duration::from_secs(5), || (!running()).then_some(()))?;
    Ok(())
}

const NETWORK: &str = include_str!("lab/network.xml");
const DOMAIN: &str = include_str!("lab/domain.xml");

#[test]
fn a_guest_boots_under_libvirt_and_outlives_it() -> Result<()> {
    let lab = Lab::new(1)?;
    let host = lab.host(1);
    let virsh = |args: &[&str]| host.exec("virsh", [&["--quiet"], args].concat());
    let serial = || std::fs::read_to_string(host.path("/var/log/libvirt/guest.log")).unwrap_or_default();
    let greeting = || host.exec("curl", ["--silent", "--max-time", "2", "http://10.77.1.10/"]).ok();
    let state = || virsh(&["domstate", "guest"]).map(|state| state.trim().to_owned());

    std::fs::copy(tiny_image()?, host.path("/var/lib/libvirt/guest.qcow2"))?;
    for (kind, xml) in [("network", NETWORK), ("domain", DOMAIN)] {
        std::fs::write(host.path(&format!("/var/lib/libvirt/{kind}.xml")), xml)?;
    }
    virsh(&["net-create", "/var/lib/libvirt/network.xml"])?;
    virsh(&["define", "/var/lib/libvirt/domain.xml"])?;
    virsh(&["start", "guest"])?;
    eventually("the guest", Duration::from_secs(60), || serial().contains("READY").then_some(()))
        .with_context(serial)?;
    ensure!(serial().contains("guest-1 10.77.1.10"), "name and address come from the reservation: {}", serial());
    ensure!(greeting().as_deref() == Some("Hello from guest-1 at 10.77.1.10\n"));

    host.libvirtd_kill()?;
    ensure!(greeting().is_some(), "guests do not notice that libvirtd is gone");
    host.libvirtd_start()?;
    ensure!(state()? == "running");
    host.libvirtd_restart()?;
    ensure!(state()? == "running" && greeting().is_some());

    virsh(&["shutdown", "guest"])?;
    eventually("the guest's shutdown", Duration::from_secs(30), || (state().ok()? == "shut off").then_some(()))
        .with_context(serial)?;
    ensure!(serial().contains("STOPPING"), "the power button reached the guest: {}", serial());
    Ok(())
}

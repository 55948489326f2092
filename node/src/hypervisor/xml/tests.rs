//! Tests of the XML given to libvirt, as whole documents.

use super::*;
use crate::hypervisor::{Cpus, Disk, Memory, Nic, Smbios};
use expect_test::expect_file;
use std::{net::Ipv4Addr, path::PathBuf};
use waifud_model::{
    ids::{Generation, VmId},
    size::ByteSize,
    time::Timestamp,
    vm::Mac,
};

fn spec() -> DomainSpec {
    let ip = Ipv4Addr::new(10, 77, 2, 14);
    DomainSpec {
        vm: VmId::from_random([2; 16]),
        generation: Generation(3),
        title: "web-1".parse().unwrap(),
        cpus: Cpus { current: 2, most: 4 },
        memory: Memory { current: ByteSize::gib(2), most: ByteSize::gib(4) },
        disk: Disk {
            path: PathBuf::from("/var/lib/waifud/volumes/a & \"b\".qcow2"),
            format: ImageFormat::Qcow2,
            cache: DiskCache::None,
        },
        nic: Nic { mac: Mac::of(ip), ip, network: "waifud".to_owned(), filter: "waifud-guest".to_owned(), mtu: 1420 },
        serial_log: PathBuf::from("/var/log/waifud/console.log"),
        accel: Accel::Kvm,
        arch: Arch::X86_64,
        machine: Machine::Q35,
        agent: true,
        smbios: Smbios {
            manufacturer: "waifud".to_owned(),
            product: "waifud VM".to_owned(),
            serial: "ds=nocloud;s=http://169.254.169.254/<\">&/".to_owned(),
        },
        seed: None,
    }
}

fn xml(spec: &DomainSpec, before: Option<&Mark>) -> String {
    domain_xml(spec, ClusterId::from_random([1; 16]), spec.accel.into(), before).unwrap()
}

#[test]
fn a_domain_on_kvm() {
    let before = Mark {
        cluster: ClusterId::from_random([1; 16]),
        vm: spec().vm,
        generation: Generation(2),
        started: Some(Generation(2)),
        since: Some(Timestamp(1_760_000_000_000)),
        ip: spec().nic.ip,
    };
    expect_file!["goldens/kvm.xml"].assert_eq(&xml(&spec(), Some(&before)));
}

#[test]
fn a_domain_emulated_on_the_old_chipset() {
    let mut spec = spec();
    spec.accel = Accel::Tcg;
    spec.machine = Machine::Pc;
    spec.disk.format = ImageFormat::Raw;
    spec.disk.cache = DiskCache::Writeback;
    spec.agent = false;
    spec.smbios.serial = String::new();
    spec.seed = Some(PathBuf::from("/var/lib/waifud/volumes/a.seed"));
    expect_file!["goldens/tcg-pc.xml"].assert_eq(&xml(&spec, None));
}

#[test]
fn a_domain_on_arm() {
    let mut spec = spec();
    spec.accel = Accel::Tcg;
    spec.arch = Arch::Aarch64;
    spec.machine = Machine::usual(Arch::Aarch64);
    expect_file!["goldens/aarch64.xml"].assert_eq(&xml(&spec, None));
}

#[test]
fn what_xml_cannot_hold_is_refused() {
    let refused = |change: fn(&mut DomainSpec)| {
        let mut spec = spec();
        change(&mut spec);
        domain_xml(&spec, ClusterId::default(), DomainType::Kvm, None).unwrap_err().to_string()
    };
    for (change, field) in [
        ((|s| s.smbios.serial.push('\0')) as fn(&mut DomainSpec), "SMBIOS serial"),
        (|s| s.nic.network.push('\u{ffff}'), "network"),
        (|s| s.nic.filter.push('\n'), "filter"),
        (|s| s.disk.path = PathBuf::from("relative.qcow2"), "disk"),
        (|s| s.seed = Some(PathBuf::from("seed")), "seed"),
        (|s| s.serial_log = PathBuf::from("/a\nb"), "console log"),
    ] {
        let error = refused(change);
        assert!(error.contains(field), "{error}");
    }
}

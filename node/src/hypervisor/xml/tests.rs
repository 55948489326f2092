//! Tests of the XML given to libvirt, as whole documents.

use super::{devices::data_target, *};
use crate::hypervisor::{Boot, Card, Cpus, Disk, DiskCache, Drive, ExtraDisk, Memory, Nic, Smbios};
use expect_test::expect_file;
use std::{net::Ipv4Addr, path::PathBuf};
use waifud_model::{
    hardware::CpuModel,
    ids::{Generation, VmId},
    size::ByteSize,
    template::ImageFormat,
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
        firmware: Firmware::Bios,
        cpu_model: CpuModel::default(),
        disks: Vec::new(),
        cd: None,
        drive: Drive::Plain,
        cards: Vec::new(),
        boot: Boot::default(),
    }
}

/// Everything that can be added to one.
fn equipped() -> DomainSpec {
    let disk = |slot, name: &str| ExtraDisk {
        slot,
        serial: name.parse().unwrap(),
        disk: Disk { path: format!("/volumes/{name}.qcow2").into(), ..spec().disk },
    };
    let card = |last, bridge: &str| Card { mac: Mac([0x56, 0x54, 10, 77, 2, last]), bridge: bridge.parse().unwrap() };
    DomainSpec {
        seed: Some(PathBuf::from("/volumes/a.seed")),
        firmware: Firmware::Uefi,
        cpu_model: "Skylake-Server".parse().unwrap(),
        disks: vec![disk(0, "db"), disk(15, "log")],
        cd: Some(PathBuf::from("/images/a & b.iso")),
        drive: Drive::Virtio,
        cards: vec![card(1, "br0"), card(2, "br-lan.7")],
        boot: Boot { reboots: 3, disk_life: 2 },
        ..spec()
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
        boot: Boot { reboots: 7, disk_life: 7 },
        firmware: Firmware::Uefi,
        cpu_model: "Nehalem".parse().unwrap(),
        digest: None,
        started: Some(Generation(2)),
        since: Some(Timestamp(1_760_000_000_000)),
        booted: Boot { reboots: 6, disk_life: 1 },
        cloud_init_done: Some(2),
        ip: spec().nic.ip,
    };
    expect_file!["goldens/kvm.xml"].assert_eq(&xml(&spec(), Some(&before)));
}

#[test]
fn a_domain_with_everything() {
    expect_file!["goldens/equipped.xml"].assert_eq(&xml(&equipped(), None));
}

#[test]
fn what_is_plugged_in_is_what_the_domain_has() {
    let spec = equipped();
    let whole = xml(&spec, None);
    let cd = cd_xml(spec.vm, spec.cd.as_deref(), "sda", "scsi").unwrap();
    let disks = spec.disks.iter().map(|extra| data_disk_xml(spec.vm, extra).unwrap());
    let cards = spec.cards.iter().map(|card| card_xml(spec.vm, card).unwrap());
    for device in disks.chain(cards).chain([cd]) {
        assert!(whole.contains(&device), "{device}");
    }
}

#[test]
fn places_have_names_and_names_places() {
    assert_eq!((data_target(0).as_deref(), data_target(15).as_deref()), (Some("vdb"), Some("vdq")));
    assert_eq!((data_target(16), data_target(255)), (None, None));
    assert_eq!((data_slot("vdb"), data_slot("vdq"), data_slot(ROOT), data_slot(SEED)), (Some(0), Some(15), None, None));
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
        let mut spec = equipped();
        change(&mut spec);
        domain_xml(&spec, ClusterId::default(), DomainType::Kvm, None).unwrap_err().to_string()
    };
    for (change, field) in [
        ((|s| s.smbios.serial.push('\0')) as fn(&mut DomainSpec), "SMBIOS serial"),
        (|s| s.nic.network.push('\u{ffff}'), "network"),
        (|s| s.nic.filter.push('\n'), "filter"),
        (|s| s.disk.path = PathBuf::from("relative.qcow2"), "disk"),
        (|s| s.seed = Some(PathBuf::from("seed")), "seed"),
        (|s| s.cd = Some(PathBuf::from("cd.iso")), "the CD"),
        (|s| s.disks[0].disk.path = PathBuf::from("/a\0b"), "a data disk"),
        (|s| s.disks[1].slot = 16, "the place of a data disk"),
        (|s| s.serial_log = PathBuf::from("/a\nb"), "console log"),
    ] {
        let error = refused(change);
        assert!(error.contains(field), "{error}");
    }
}

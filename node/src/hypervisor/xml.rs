//! A [`DomainSpec`] as libvirt's XML. Pure: the same spec gives the same text, pinned by goldens. Every value is escaped by
//! the template engine; characters that no XML can hold are refused here.

mod devices;

pub(super) use devices::{ROOT, SEED, card_xml, cd_xml, data_disk_xml, data_slot};

use super::{
    domain::{Accel, DomainSpec, Machine},
    error::HypervisorError,
    mark::Mark,
};
use askama::Template;
use devices::{CardXml, CdXml, DiskXml, SCSI, drive, path, render};
use std::path::Path;
use waifud_model::{
    hardware::Firmware,
    ids::{ClusterId, VmId},
    node::Arch,
};

/// How many disks and cards can be plugged into a guest between two starts: each needs a port of its own, and every port costs
/// firmware and kernel a moment at each start.
const SPARE_PORTS: usize = 8;

/// What libvirt calls a domain's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DomainType {
    /// On the CPU.
    Kvm,
    /// Emulated by QEMU.
    Qemu,
    /// libvirt's own mock driver, which runs nothing.
    Test,
}

impl DomainType {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Qemu => "qemu",
            Self::Test => "test",
        }
    }
}

impl From<Accel> for DomainType {
    fn from(accel: Accel) -> Self {
        match accel {
            Accel::Kvm => Self::Kvm,
            Accel::Tcg => Self::Qemu,
        }
    }
}

#[derive(Template)]
#[template(path = "domain.xml")]
struct DomainXml<'a> {
    spec: &'a DomainSpec,
    mark: String,
    kind: &'static str,
    /// `<cpu mode=…>`, where the type has one. On KVM libvirt picks the closest model it can name, so that the guest can
    /// move to another host; host-passthrough would tie it to this one, and aborts on some nested hosts.
    cpu_mode: Option<&'static str>,
    /// In its place, one that has a name.
    cpu_model: Option<&'a str>,
    machine: &'static str,
    x86: bool,
    uefi: bool,
    /// How many PCI Express ports there are.
    ports: usize,
    root: DiskXml<'a>,
    disks: Vec<DiskXml<'a>>,
    cd: CdXml<'a>,
    /// Does the CD drive hang on virtio's SCSI?
    scsi: bool,
    cards: Vec<CardXml<'a>>,
    seed_target: &'static str,
    seed: Option<&'a str>,
    serial_log: &'a str,
}

/// The XML of a domain. `before` is the mark it had until now: a new definition does not forget the last start.
///
/// # Errors
/// [`HypervisorError::BadSpec`] if a text cannot stand in XML.
pub fn domain_xml(
    spec: &DomainSpec,
    cluster: ClusterId,
    kind: DomainType,
    before: Option<&Mark>,
) -> Result<String, HypervisorError> {
    let vm = spec.vm;
    let serial_log = path(vm, "the console log", &spec.serial_log)?;
    let seed = spec.seed.as_deref().map(|seed| path(vm, "the seed", seed)).transpose()?;
    for (field, text) in [
        ("the network", &spec.nic.network),
        ("the network filter", &spec.nic.filter),
        ("the SMBIOS manufacturer", &spec.smbios.manufacturer),
        ("the SMBIOS product", &spec.smbios.product),
        ("the SMBIOS serial", &spec.smbios.serial),
    ] {
        plain(vm, field, text)?;
    }
    let mark = Mark {
        cluster,
        vm,
        generation: spec.generation,
        boot: spec.boot,
        firmware: spec.firmware,
        cpu_model: spec.cpu_model.clone(),
        digest: None,
        started: before.and_then(|mark| mark.started),
        since: before.and_then(|mark| mark.since),
        booted: before.map(|mark| mark.booted).unwrap_or_default(),
        cloud_init_done: before.and_then(|mark| mark.cloud_init_done),
        ip: spec.nic.ip,
    };
    let template = DomainXml {
        spec,
        mark: mark.to_xml(),
        kind: kind.as_str(),
        cpu_mode: match kind {
            DomainType::Kvm => Some("host-model"),
            DomainType::Qemu => Some("maximum"),
            DomainType::Test => None,
        },
        cpu_model: spec.cpu_model.named().filter(|_| kind != DomainType::Test),
        machine: match spec.machine {
            Machine::Q35 => "q35",
            Machine::Pc => "pc",
            Machine::Virt => "virt",
        },
        x86: spec.arch == Arch::X86_64,
        uefi: spec.firmware == Firmware::Uefi || spec.arch == Arch::Aarch64,
        ports: ports(spec),
        root: DiskXml::root(vm, &spec.disk)?,
        disks: spec.disks.iter().map(|extra| DiskXml::data(vm, extra)).collect::<Result<_, _>>()?,
        cd: CdXml::of(spec)?,
        scsi: scsi(spec),
        cards: spec.cards.iter().map(CardXml::new).collect(),
        seed_target: SEED,
        seed,
        serial_log,
    };
    render(vm, &template)
}

/// How many PCI Express ports a domain needs: libvirt makes those for what is there, but none to plug something into later.
fn ports(spec: &DomainSpec) -> usize {
    let chipset = match spec.machine {
        // Plain PCI has slots.
        Machine::Pc => return 0,
        // The USB controller, the balloon, the random numbers.
        Machine::Q35 => 3,
        // Those, and the screen.
        Machine::Virt => 4,
    };
    let cards = 1 + spec.cards.len();
    let disks = 1 + spec.disks.len() + usize::from(spec.seed.is_some());
    chipset + usize::from(scsi(spec)) + usize::from(spec.agent) + cards + disks + SPARE_PORTS
}

fn scsi(spec: &DomainSpec) -> bool {
    drive(spec).1 == SCSI
}

/// A text that XML can hold.
fn plain<'a>(vm: VmId, field: &'static str, text: &'a str) -> Result<&'a str, HypervisorError> {
    if text.chars().any(|c| c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}')) {
        return Err(HypervisorError::BadSpec { vm, field, why: "has a character that XML cannot hold" });
    }
    Ok(text)
}

const NOT_ABSOLUTE: &str = "is not an absolute UTF-8 path";

/// libvirt resolves relative paths against its own directory, which is not ours.
fn absolute(path: &Path) -> Option<&str> {
    path.to_str().filter(|_| path.is_absolute())
}

#[cfg(test)]
mod tests;

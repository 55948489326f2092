//! The devices that can be plugged into a running guest, as libvirt's XML: the same texts stand in a domain's.

use super::{NOT_ABSOLUTE, absolute};
use crate::hypervisor::{Card, Cause, Disk, DiskCache, DomainSpec, Drive, ExtraDisk, HypervisorError, Machine};
use askama::Template;
use std::path::Path;
use waifud_model::{hardware::DISKS_MAX, ids::VmId, name::DiskName, template::ImageFormat};

/// The root disk's name in libvirt.
pub(crate) const ROOT: &str = "vda";
/// The name in libvirt of the disk with what cloud-init has to know: after every data disk's.
pub(crate) const SEED: &str = "vdz";
/// The bus whose controller, virtio's, has to be asked for.
pub(super) const SCSI: &str = "scsi";
/// libvirt's own filter that lets a guest send under its card's address only. What IP addresses it has in a network that is
/// not ours is not ours to say.
const LAN_FILTER: &str = "no-mac-spoofing";

/// The name in libvirt of the data disk in that place; none if there is no such place.
#[must_use]
pub(crate) fn data_target(slot: u8) -> Option<String> {
    let letter = char::from(b'b'.checked_add(slot).filter(|_| usize::from(slot) < DISKS_MAX)?);
    Some(format!("vd{letter}"))
}

/// The place of the data disk of that name in libvirt.
#[must_use]
pub(crate) fn data_slot(target: &str) -> Option<u8> {
    (0..).take(DISKS_MAX).find(|slot| data_target(*slot).as_deref() == Some(target))
}

/// Name and bus in libvirt of the CD drive. The Arm machine has always had nothing.
pub(super) const fn drive(spec: &DomainSpec) -> (&'static str, &'static str) {
    match (spec.drive, spec.machine) {
        (Drive::Plain, Machine::Q35) => ("sda", "sata"),
        (Drive::Plain, Machine::Pc) => ("hda", "ide"),
        (Drive::Virtio, _) | (_, Machine::Virt) => ("sda", SCSI),
    }
}

/// A disk for writing.
#[derive(Debug, Template)]
#[template(path = "disk.xml")]
pub(super) struct DiskXml<'a> {
    path: &'a str,
    format: &'static str,
    cache: &'static str,
    target: String,
    serial: Option<&'a DiskName>,
}

impl<'a> DiskXml<'a> {
    /// The root disk.
    pub(super) fn root(vm: VmId, disk: &'a Disk) -> Result<Self, HypervisorError> {
        Self::new(vm, "the disk", disk, ROOT.to_owned(), None)
    }

    /// A data disk.
    pub(super) fn data(vm: VmId, extra: &'a ExtraDisk) -> Result<Self, HypervisorError> {
        let field = "the place of a data disk";
        let why = "is past the last";
        let target = data_target(extra.slot).ok_or(HypervisorError::BadSpec { vm, field, why })?;
        Self::new(vm, "a data disk", &extra.disk, target, Some(&extra.serial))
    }

    fn new(
        vm: VmId,
        field: &'static str,
        disk: &'a Disk,
        target: String,
        serial: Option<&'a DiskName>,
    ) -> Result<Self, HypervisorError> {
        Ok(Self {
            path: path(vm, field, &disk.path)?,
            format: match disk.format {
                ImageFormat::Qcow2 => "qcow2",
                ImageFormat::Raw | ImageFormat::Iso => "raw",
            },
            cache: match disk.cache {
                DiskCache::None => "none",
                DiskCache::Writeback => "writeback",
            },
            target,
            serial,
        })
    }
}

/// The CD drive, and what is in it.
#[derive(Debug, Template)]
#[template(path = "cd.xml")]
pub(super) struct CdXml<'a> {
    path: Option<&'a str>,
    target: &'a str,
    bus: &'a str,
}

impl<'a> CdXml<'a> {
    pub(super) fn of(spec: &'a DomainSpec) -> Result<Self, HypervisorError> {
        let (target, bus) = drive(spec);
        Self::new(spec.vm, spec.cd.as_deref(), target, bus)
    }

    fn new(vm: VmId, cd: Option<&'a Path>, target: &'a str, bus: &'a str) -> Result<Self, HypervisorError> {
        Ok(Self { path: cd.map(|cd| path(vm, "the CD", cd)).transpose()?, target, bus })
    }
}

/// A network card on a bridge of the host.
#[derive(Debug, Template)]
#[template(path = "card.xml")]
pub(super) struct CardXml<'a> {
    card: &'a Card,
    filter: &'static str,
}

impl<'a> CardXml<'a> {
    pub(super) const fn new(card: &'a Card) -> Self {
        Self { card, filter: LAN_FILTER }
    }
}

/// A data disk, to be plugged in.
pub(crate) fn data_disk_xml(vm: VmId, extra: &ExtraDisk) -> Result<String, HypervisorError> {
    render(vm, &DiskXml::data(vm, extra)?)
}

/// A network card, to be plugged in.
pub(crate) fn card_xml(vm: VmId, card: &Card) -> Result<String, HypervisorError> {
    render(vm, &CardXml::new(card))
}

/// What is to be in the CD drive of that name on that bus.
pub(crate) fn cd_xml(vm: VmId, cd: Option<&Path>, target: &str, bus: &str) -> Result<String, HypervisorError> {
    render(vm, &CdXml::new(vm, cd, target, bus)?)
}

pub(super) fn render(vm: VmId, template: &impl Template) -> Result<String, HypervisorError> {
    let unrendered =
        |e: askama::Error| HypervisorError::Refused { what: "describe", vm, source: Cause::new(e.to_string()) };
    template.render().map_err(unrendered)
}

/// A path as libvirt takes it.
pub(super) fn path<'a>(vm: VmId, field: &'static str, path: &'a Path) -> Result<&'a str, HypervisorError> {
    let text = absolute(path).ok_or(HypervisorError::BadSpec { vm, field, why: NOT_ABSOLUTE })?;
    super::plain(vm, field, text)
}

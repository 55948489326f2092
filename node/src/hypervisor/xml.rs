//! A [`DomainSpec`] as libvirt's XML. Pure: the same spec gives the same text, pinned by goldens. Every value is escaped by
//! the template engine; characters that no XML can hold are refused here.

use super::{
    domain::{Accel, DiskCache, DomainSpec, Machine},
    error::{Cause, HypervisorError},
    mark::Mark,
};
use askama::Template;
use std::path::Path;
use waifud_model::{ids::ClusterId, node::Arch, template::ImageFormat};

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
    machine: &'static str,
    x86: bool,
    disk_path: &'a str,
    disk_format: &'static str,
    disk_cache: &'static str,
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
    let bad = |field, why| HypervisorError::BadSpec { vm: spec.vm, field, why };
    let disk_path = absolute(&spec.disk.path).ok_or_else(|| bad("the disk", NOT_ABSOLUTE))?;
    let serial_log = absolute(&spec.serial_log).ok_or_else(|| bad("the console log", NOT_ABSOLUTE))?;
    let seed =
        spec.seed.as_deref().map(|path| absolute(path).ok_or_else(|| bad("the seed", NOT_ABSOLUTE))).transpose()?;
    for (field, text) in [
        ("the disk", disk_path),
        ("the console log", serial_log),
        ("the network", &spec.nic.network),
        ("the network filter", &spec.nic.filter),
        ("the seed", seed.unwrap_or_default()),
        ("the SMBIOS manufacturer", &spec.smbios.manufacturer),
        ("the SMBIOS product", &spec.smbios.product),
        ("the SMBIOS serial", &spec.smbios.serial),
    ] {
        if text.chars().any(|c| c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}')) {
            return Err(bad(field, "has a character that XML cannot hold"));
        }
    }
    let mark = Mark {
        cluster,
        vm: spec.vm,
        generation: spec.generation,
        started: before.and_then(|mark| mark.started),
        since: before.and_then(|mark| mark.since),
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
        machine: match spec.machine {
            Machine::Q35 => "q35",
            Machine::Pc => "pc",
            Machine::Virt => "virt",
        },
        x86: spec.arch == Arch::X86_64,
        disk_path,
        disk_format: match spec.disk.format {
            ImageFormat::Qcow2 => "qcow2",
            ImageFormat::Raw | ImageFormat::Iso => "raw",
        },
        disk_cache: match spec.disk.cache {
            DiskCache::None => "none",
            DiskCache::Writeback => "writeback",
        },
        seed,
        serial_log,
    };
    template.render().map_err(|e| HypervisorError::Refused {
        what: "describe",
        vm: spec.vm,
        source: Cause::new(e.to_string()),
    })
}

const NOT_ABSOLUTE: &str = "is not an absolute UTF-8 path";

/// libvirt resolves relative paths against its own directory, which is not ours.
fn absolute(path: &Path) -> Option<&str> {
    path.to_str().filter(|_| path.is_absolute())
}

#[cfg(test)]
mod tests;

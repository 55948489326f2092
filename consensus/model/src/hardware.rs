//! What a VM is made of beside CPUs, memory and its root disk: firmware, CPU model, further disks, a CD, network cards on
//! bridges of the host.

use crate::{
    ids::Generation,
    name::{BridgeName, DiskName},
    size::ByteSize,
    vm::{ImageRef, Mac},
};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use std::{fmt, net::Ipv4Addr, str::FromStr};

/// Most further disks of one VM: as many as there are names from `vdb` to `vdq`.
pub const DISKS_MAX: usize = 16;

/// Most network cards on bridges of the host.
pub const BRIDGES_MAX: usize = 8;

/// What a VM is made of beside the sizes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Hardware {
    /// What starts the guest's boot loader.
    pub firmware: Firmware,
    /// The CPU its guest sees.
    pub cpu_model: CpuModel,
    /// The most memory it can be given while it runs; none means as much as it boots with.
    pub memory_max: Option<ByteSize>,
    /// Disks beside the root disk, by slot.
    pub disks: Vec<DataDisk>,
    /// The image in its CD drive.
    pub cd: Option<ImageRef>,
    /// Bridges of the host it has a network card on, beside the one of the cluster's network; in order.
    pub bridges: Vec<BridgeName>,
}

impl Hardware {
    /// The disk of that name.
    #[must_use]
    pub fn disk(&self, name: &DiskName) -> Option<&DataDisk> {
        self.disks.iter().find(|disk| disk.name == *name)
    }

    /// The lowest slot that no disk has.
    #[must_use]
    pub fn free_slot(&self) -> Option<u8> {
        (0..).take(DISKS_MAX).find(|slot| self.disks.iter().all(|disk| disk.slot != *slot))
    }

    /// What the further disks sum up to.
    #[must_use]
    pub fn disks_size(&self) -> ByteSize {
        self.disks.iter().map(|disk| disk.size).sum()
    }
}

/// An empty disk beside the root disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataDisk {
    /// What people call it; the guest reads it as the disk's serial number.
    pub name: DiskName,
    /// Its place, which it keeps: slot 0 is `vdb`.
    pub slot: u8,
    /// Its size.
    pub size: ByteSize,
    /// The generation of the VM's record that it came with. Where a disk was removed and another was added in its place
    /// under its name, this tells them apart. Records from before there was one have none.
    #[serde(default = "first", skip_serializing_if = "is_first")]
    pub born: Generation,
}

const fn first() -> Generation {
    Generation::FIRST
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_first(born: &Generation) -> bool {
    *born == first()
}

/// What starts a guest's boot loader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Firmware {
    /// What the architecture has always had: a BIOS on x86, UEFI on Arm.
    #[default]
    Bios,
    /// UEFI, without Secure Boot.
    Uefi,
}

impl fmt::Display for Firmware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Bios => "bios",
            Self::Uefi => "uefi",
        })
    }
}

/// The CPU a guest sees, as libvirt names it: `host` is the host's own as closely as it can be named, so that the guest can
/// still move; `Skylake-Server` and the like are the same on every host that can do them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct CpuModel(String);

/// The host's own.
const HOST: &str = "host";

/// A text that is not the name of a CPU model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a CPU model: {HOST}, or a name of virsh cpu-models (letters, digits, '.', '_', '-'; at most 63)")]
pub struct CpuModelError(String);

impl CpuModel {
    /// The name; none for the host's own.
    #[must_use]
    pub fn named(&self) -> Option<&str> {
        Some(self.0.as_str()).filter(|name| *name != HOST)
    }
}

impl Default for CpuModel {
    fn default() -> Self {
        Self(HOST.to_owned())
    }
}

impl FromStr for CpuModel {
    type Err = CpuModelError;

    fn from_str(text: &str) -> Result<Self, CpuModelError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if (1..=63).contains(&text.len()) && text.chars().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(CpuModelError(text.chars().take(80).collect()))
        }
    }
}

impl fmt::Display for CpuModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl<'de> Deserialize<'de> for CpuModel {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(D::Error::custom)
    }
}

/// The MAC of a VM's network card on the host's bridge of that number, from zero. Like [`Mac::of`] it comes from the VM's
/// own address, so it is unique in the cluster: the first octet tells the cards apart, and stays locally administered.
#[must_use]
pub const fn bridge_mac(ip: Ipv4Addr, number: u8) -> Mac {
    let Mac([first, rest @ ..]) = Mac::of(ip);
    let [a, b, c, d, e] = rest;
    // The two lowest bits say "locally administered, one receiver"; the next ones count.
    Mac([first.wrapping_add((number + 1) << 2), a, b, c, d, e])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn cards_of_a_vm_have_addresses_of_their_own() {
        let ip = Ipv4Addr::new(10, 77, 2, 14);
        let mut macs: BTreeSet<_> = (0..BRIDGES_MAX).map(|n| bridge_mac(ip, u8::try_from(n).unwrap())).collect();
        assert!(macs.iter().all(|Mac([first, ..])| first & 3 == 2), "locally administered, unicast");
        macs.insert(Mac::of(ip));
        assert_eq!(macs.len(), BRIDGES_MAX + 1);
    }

    #[test]
    fn the_lowest_free_slot_is_taken() {
        let disk = |slot| DataDisk {
            name: DiskName::new("a").unwrap(),
            slot,
            size: ByteSize::gib(1),
            born: Generation::FIRST,
        };
        let mut hardware = Hardware { disks: vec![disk(0), disk(2)], ..Hardware::default() };
        assert_eq!(hardware.free_slot(), Some(1));
        hardware.disks = (0..16).map(disk).collect();
        assert_eq!(hardware.free_slot(), None);
    }

    #[test]
    fn a_disk_from_before_there_were_generations_of_them_came_with_its_vm() {
        let first =
            DataDisk { name: DiskName::new("a").unwrap(), slot: 0, size: ByteSize::gib(1), born: Generation::FIRST };
        let before = serde_json::json!({ "name": "a", "slot": 0, "size": ByteSize::gib(1) });
        assert_eq!(serde_json::to_value(&first).unwrap(), before);
        assert_eq!(serde_json::from_value::<DataDisk>(before).unwrap(), first);
        let later = DataDisk { born: Generation(7), ..first };
        let packed = rmp_serde::to_vec_named(&later).unwrap();
        assert_eq!(rmp_serde::from_slice::<DataDisk>(&packed).unwrap(), later);
    }

    #[test]
    fn cpu_models_are_names() {
        assert_eq!("host".parse::<CpuModel>().unwrap().named(), None);
        assert_eq!("Skylake-Server".parse::<CpuModel>().unwrap().named(), Some("Skylake-Server"));
        assert!("a b".parse::<CpuModel>().is_err() && "".parse::<CpuModel>().is_err());
    }
}

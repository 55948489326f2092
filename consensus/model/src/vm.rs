//! A VM as the replicated state knows it: what is wanted. What is observed travels by gossip and is never stored here.

use crate::{
    cloud_init::{self, CloudInit},
    digest::Blake3,
    hardware::Hardware,
    ids::{Generation, NodeId, VmId},
    labels::Labels,
    name::{TemplateName, VmName},
    size::ByteSize,
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use std::{fmt, net::Ipv4Addr, str::FromStr};

/// The desired state of one VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vm {
    /// Who it is; also its libvirt domain's name and UUID.
    pub id: VmId,
    /// What people call it; unique in the cluster.
    pub name: VmName,
    /// The owner: the only node that may run its disk.
    pub node: NodeId,
    /// What it is made of.
    pub spec: VmSpec,
    /// Should it run?
    pub desired: Desired,
    /// Is it being deleted?
    pub phase: Phase,
    /// Its address; unique in the cluster, out of its owner's subnet.
    pub ip: Ipv4Addr,
    /// Its network card's address; unique in the cluster.
    pub mac: Mac,
    /// Grows with every change of `spec`, `desired` or `name`.
    pub generation: Generation,
    /// Which life of the guest this is, from one: cloud-init runs everything once in each.
    pub instance: u32,
    /// Which root disk this is, from one: each time the VM is made anew it gets another.
    pub disk_life: u32,
    /// How often a reboot was asked for.
    pub reboots: u32,
    /// How long its guest may take to go off, in seconds, when it was last asked to stop or to reboot: none for as long as
    /// is usual, zero for at once.
    pub grace: Option<u32>,
    /// When it was created, in log time.
    pub created_at: Timestamp,
}

impl Vm {
    /// What cloud-init tells one life of the guest from the next by.
    #[must_use]
    pub fn instance_id(&self) -> String {
        cloud_init::instance_id(self.id, self.instance)
    }
}

/// What a VM is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmSpec {
    /// Virtual CPUs.
    pub cpus: u32,
    /// Memory.
    pub memory: ByteSize,
    /// Size of the root disk.
    pub disk: ByteSize,
    /// The template version the disk starts from.
    pub image: ImageRef,
    /// What its guest is told when it boots.
    pub cloud_init: CloudInit,
    /// For filters and placement.
    pub labels: Labels,
    /// What to do when it stops by itself.
    pub restart: RestartPolicy,
    /// What it is for, in its owner's words.
    pub description: String,
    /// True: neither it nor a disk of it may be deleted, nor may it be made anew.
    pub protected: bool,
    /// Is it started when its host is?
    pub autostart: bool,
    /// What it is made of beside the sizes.
    pub hardware: Hardware,
}

impl VmSpec {
    /// A VM of these sizes with nothing special about it.
    #[must_use]
    pub fn new(cpus: u32, memory: ByteSize, disk: ByteSize, image: ImageRef) -> Self {
        Self {
            cpus,
            memory,
            disk,
            image,
            cloud_init: CloudInit::default(),
            labels: Labels::default(),
            restart: RestartPolicy::default(),
            description: String::new(),
            protected: false,
            autostart: true,
            hardware: Hardware::default(),
        }
    }

    /// The memory that is promised to it: what its guest boots with, and may use until its balloon driver runs.
    #[must_use]
    pub fn memory_promised(&self) -> ByteSize {
        self.hardware.memory_max.unwrap_or(self.memory).max(self.memory)
    }

    /// The disk that is promised to it: all its disks together.
    #[must_use]
    pub fn disk_promised(&self) -> ByteSize {
        self.disk + self.hardware.disks_size()
    }
}

/// A template version, with the name it was chosen by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRef {
    /// The template.
    pub template: TemplateName,
    /// BLAKE3 of the version's bytes. The VM keeps this version until it is made anew.
    pub version: Blake3,
}

/// Should the VM run?
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Desired {
    /// Yes.
    Running,
    /// No; disk and address are kept.
    Stopped,
    /// It is to be there, held still: its memory is kept, and no instruction is run.
    Paused,
}

/// A console of a VM, and what it was opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Console {
    /// The serial port, to write to as well.
    Serial,
    /// The serial port, only to be read.
    SerialReadOnly,
    /// The screen, with keyboard and mouse.
    Screen,
}

impl fmt::Display for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Serial => "serial",
            Self::SerialReadOnly => "serial (read only)",
            Self::Screen => "screen",
        })
    }
}

/// Is the VM here to stay?
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Yes.
    Live,
    /// Its owner is removing it. Name, address and MAC stay taken until the owner confirms or is itself removed.
    Deleting,
}

/// What to do when a VM stops by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestartPolicy {
    /// Start it again after a crash; a shutdown from inside is taken as a wish.
    #[default]
    OnFailure,
    /// Start it again whatever the cause.
    Always,
    /// Leave it.
    Never,
}

impl fmt::Display for RestartPolicy {
    /// The word of the API and of the command line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::OnFailure => "on_failure",
            Self::Always => "always",
            Self::Never => "never",
        })
    }
}

/// A MAC address (EUI-48).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

/// A text that is not a MAC address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a MAC address (six hex pairs with colons)")]
pub struct MacError(String);

impl Mac {
    /// The MAC that belongs to a guest address: QEMU's `52:54` (locally administered) and the four octets.
    ///
    /// Addresses are unique in the cluster, so MACs are too, and neither has to be looked up to know the other.
    #[must_use]
    pub const fn of(ip: Ipv4Addr) -> Self {
        let [a, b, c, d] = ip.octets();
        Self([0x52, 0x54, a, b, c, d])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        f.pad(&format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}"))
    }
}

impl FromStr for Mac {
    type Err = MacError;

    fn from_str(text: &str) -> Result<Self, MacError> {
        let refuse = || MacError(text.chars().take(40).collect());
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|p| p.len() == 2).ok_or_else(refuse)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| refuse())?;
        }
        if parts.next().is_some() { Err(refuse()) } else { Ok(Self(bytes)) }
    }
}

impl TryFrom<String> for Mac {
    type Error = MacError;

    fn try_from(text: String) -> Result<Self, MacError> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

#[cfg(test)]
pub(crate) mod samples {
    use super::*;
    use crate::command::CreateVm;

    /// A VM with nothing special about it.
    pub(crate) fn vm() -> Vm {
        let image = ImageRef { template: TemplateName::new("tiny").unwrap(), version: Blake3::of(b"tiny") };
        let create = CreateVm {
            id: VmId::from_random([1; 16]),
            name: VmName::new("web-1").unwrap(),
            node: NodeId::from_random(1),
            spec: VmSpec::new(1, ByteSize::mib(512), ByteSize::gib(10), image),
            desired: Desired::Running,
        };
        create.record(Ipv4Addr::new(10, 77, 1, 2), Timestamp(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_is_its_address() {
        let mac = Mac::of(Ipv4Addr::new(10, 77, 2, 14));
        assert_eq!(mac.to_string(), "52:54:0a:4d:02:0e");
        assert_eq!(mac.to_string().parse(), Ok(mac));
        assert!("52:54:0a:4d:02".parse::<Mac>().is_err());
        assert!("52:54:0a:4d:02:0e:00".parse::<Mac>().is_err());
    }
}

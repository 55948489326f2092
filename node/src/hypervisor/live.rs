//! A guest that runs, as plain data: what it was started with, what it has now, and what it can be made to take up without
//! being started again. Nothing here knows libvirt.

use super::domain::{Card, Cpus, ExtraDisk, Memory, Smbios};
use std::path::PathBuf;
use waifud_model::{
    hardware::{CpuModel, Firmware},
    size::ByteSize,
    vm::Mac,
};

/// Which start of a guest this is: what the record counts, and what only a start takes up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Boot {
    /// How often a reboot had been asked for.
    pub reboots: u32,
    /// Which root disk it has, from one.
    pub disk_life: u32,
}

impl Default for Boot {
    /// Of a domain that was made before there were reboots and lives.
    fn default() -> Self {
        Self { reboots: 0, disk_life: 1 }
    }
}

/// How a guest is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StartMode {
    /// It runs.
    #[default]
    Run,
    /// It is held still before its first instruction.
    Paused,
}

/// What a running guest has, whatever its definition says by now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Live {
    /// Its CPUs.
    pub cpus: Cpus,
    /// Its memory. What it uses at present is what its balloon driver left it: without one, all it booted with.
    pub memory: Memory,
    /// Its disks, the root disk first. Neither the CD drive nor the seed is among them.
    pub disks: Vec<LiveDisk>,
    /// The image in its CD drive.
    pub cd: Option<PathBuf>,
    /// Its network cards beside the one of the cluster's network, in order.
    pub cards: Vec<LiveCard>,
    /// What started its boot loader.
    pub firmware: Firmware,
    /// The CPU it sees.
    pub cpu_model: CpuModel,
    /// What its firmware says of the machine.
    pub smbios: Smbios,
    /// Was a small disk with what cloud-init has to know plugged in?
    pub seed: bool,
}

/// A disk of a running guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveDisk {
    /// Its place; none for the root disk.
    pub slot: Option<u8>,
    /// The size that the guest sees.
    pub size: ByteSize,
    /// Where it is.
    pub path: PathBuf,
}

/// A network card of a running guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveCard {
    /// Its address.
    pub mac: Mac,
    /// The bridge it is on, as the host calls it.
    pub bridge: String,
}

/// A change that a guest can take up while it runs. Each may be repeated: what is so already is no error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Adjustment {
    /// So many CPUs.
    Cpus(u32),
    /// So much memory, by its balloon.
    Memory(ByteSize),
    /// A disk becomes this large. Disks never shrink.
    Grow {
        /// Which; none is the root disk.
        slot: Option<u8>,
        /// How large.
        size: ByteSize,
    },
    /// A disk is plugged in.
    Attach(ExtraDisk),
    /// The disk in that place is unplugged.
    Detach {
        /// Its place.
        slot: u8,
    },
    /// This is in the CD drive, or nothing.
    Cd(Option<PathBuf>),
    /// A network card is plugged in.
    AttachCard(Card),
    /// The network card of that address is on another bridge from now on. The guest keeps it, as with a cable that is moved.
    MoveCard(Card),
    /// The network card of that address is unplugged.
    DetachCard(Mac),
}

impl Adjustment {
    /// What it changes, as the end of "cannot change the …" has it.
    #[must_use]
    pub const fn what(&self) -> &'static str {
        match self {
            Self::Cpus(_) => "number of CPUs",
            Self::Memory(_) => "memory",
            Self::Grow { .. } => "size of a disk",
            Self::Attach(_) | Self::Detach { .. } => "disks",
            Self::Cd(_) => "CD",
            Self::AttachCard(_) | Self::MoveCard(_) | Self::DetachCard(_) => "network cards",
        }
    }
}

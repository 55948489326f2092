//! What a domain is, and what it shall be, as plain data. Nothing here knows libvirt.

use super::{
    error::Cause,
    live::{Boot, Live},
};
use std::{net::Ipv4Addr, path::PathBuf};
use waifud_model::{
    hardware::{CpuModel, Firmware},
    ids::{Generation, VmId},
    name::{BridgeName, DiskName, VmName},
    node::Arch,
    size::ByteSize,
    template::ImageFormat,
    time::Timestamp,
    vm::Mac,
};

/// Everything a domain is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainSpec {
    /// Its name and UUID, and the guest's SMBIOS UUID.
    pub vm: VmId,
    /// The generation of the record it is made from; kept in its mark.
    pub generation: Generation,
    /// The VM's name, for people who look with other tools.
    pub title: VmName,
    /// Virtual CPUs.
    pub cpus: Cpus,
    /// Memory.
    pub memory: Memory,
    /// The root disk.
    pub disk: Disk,
    /// The network card.
    pub nic: Nic,
    /// What the guest writes on its serial console goes here too.
    pub serial_log: PathBuf,
    /// On the CPU itself, or emulated.
    pub accel: Accel,
    /// Instruction set.
    pub arch: Arch,
    /// Chipset.
    pub machine: Machine,
    /// A channel for the QEMU guest agent.
    pub agent: bool,
    /// What the firmware says of the machine.
    pub smbios: Smbios,
    /// A small read-only disk with what cloud-init has to know before it has a network; absolute.
    pub seed: Option<PathBuf>,
    /// What starts its boot loader. On Arm it is UEFI whatever this says.
    pub firmware: Firmware,
    /// The CPU it sees.
    pub cpu_model: CpuModel,
    /// Disks beside the root disk.
    pub disks: Vec<ExtraDisk>,
    /// The image in its CD drive, which is always there; absolute.
    pub cd: Option<PathBuf>,
    /// What that drive hangs on.
    pub drive: Drive,
    /// Network cards beside [`Self::nic`], in order.
    pub cards: Vec<Card>,
    /// Which start of the guest this definition is for; kept in its mark.
    pub boot: Boot,
}

/// What a CD drive hangs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drive {
    /// On what the machine has always had. Every installer knows that.
    Plain,
    /// On virtual hardware, as the disks do. A kernel made for clouds knows nothing else: Debian's has no driver for SATA.
    Virtio,
}

/// What the firmware says of the machine (SMBIOS type 1): by this cloud-init in a stock image knows whom to ask. The UUID is
/// always the VM's id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Smbios {
    /// Who made it.
    pub manufacturer: String,
    /// What it is.
    pub product: String,
    /// Its serial number; none if empty.
    pub serial: String,
}

/// Virtual CPUs, now and at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cpus {
    /// What the guest boots with.
    pub current: u32,
    /// What it can be given while it runs.
    pub most: u32,
}

/// Memory, now and at most. The difference is in the balloon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// What the guest may use.
    pub current: ByteSize,
    /// What it boots with, and can be given back while it runs.
    pub most: ByteSize,
}

/// A disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Where it is; absolute.
    pub path: PathBuf,
    /// How its bytes are to be read; never left to a guess.
    pub format: ImageFormat,
    /// Whether the host's page cache is used.
    pub cache: DiskCache,
}

/// A disk beside the root disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtraDisk {
    /// Its place, below [`DISKS_MAX`](waifud_model::hardware::DISKS_MAX): slot 0 is `vdb`.
    pub slot: u8,
    /// What the guest reads as its serial number.
    pub serial: DiskName,
    /// Where it is, and how it is read.
    pub disk: Disk,
}

/// A network card on a bridge of the host. A filter sees to it that the guest sends under the card's address only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// Its address.
    pub mac: Mac,
    /// The bridge.
    pub bridge: BridgeName,
}

/// Whether the host's page cache stands between a guest and its disk. Both honour the guest's flushes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskCache {
    /// Around it (`O_DIRECT`): right wherever the file system can do it, and needed for live migration.
    None,
    /// Through it: for file systems without `O_DIRECT`, such as tmpfs.
    Writeback,
}

/// The network card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nic {
    /// Its address; the filter drops frames from any other.
    pub mac: Mac,
    /// The only IP address the filter lets it send from.
    pub ip: Ipv4Addr,
    /// The libvirt network it is plugged into.
    pub network: String,
    /// The libvirt network filter on it, which is told the address.
    pub filter: String,
    /// Largest packet, in bytes.
    pub mtu: u32,
}

/// How the guest's instructions are run. Decided by the node's facts: `/dev/kvm` alone proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accel {
    /// By the CPU.
    Kvm,
    /// By QEMU's emulator.
    Tcg,
}

/// The chipset a guest sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Machine {
    /// PCI Express, x86.
    Q35,
    /// The older PCI one, for images whose kernel does not boot on q35.
    Pc,
    /// The generic Arm machine.
    Virt,
}

impl Machine {
    /// The one for an instruction set when nothing speaks against it.
    #[must_use]
    pub const fn usual(arch: Arch) -> Self {
        match arch {
            Arch::X86_64 => Self::Q35,
            Arch::Aarch64 => Self::Virt,
        }
    }
}

/// A domain of ours, as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain {
    /// Whose.
    pub vm: VmId,
    /// What it does.
    pub state: DomainState,
    /// The generation of its definition; none if it runs without one, because somebody undefined it.
    pub defined: Option<Generation>,
    /// The generation it was last started for; none if never.
    pub started: Option<Generation>,
    /// When it was last started through [`Hypervisor`](super::Hypervisor), by the host's clock; none if that is not known.
    /// Somebody else may have started it since.
    pub since: Option<Timestamp>,
    /// The guest's address, as the mark has it: enough to release it when the record is gone.
    pub ip: Ipv4Addr,
    /// What its guest was last started with. While the guest is on, [`find`](super::Hypervisor::find) tells it of the guest
    /// itself, whoever started it.
    pub booted: Boot,
    /// The life of the VM in which its guest last told that its cloud-init is done.
    pub cloud_init_done: Option<u32>,
    /// True if somebody changed the definition since it was made. Only [`find`](super::Hypervisor::find) looks.
    pub edited: bool,
    /// The files of the disks that its definition names. Only [`find`](super::Hypervisor::find) looks.
    pub disks: Vec<PathBuf>,
    /// What its guest has; only from [`find`](super::Hypervisor::find), only while the guest is on, and not while something
    /// else is being done with it.
    pub live: Option<Live>,
}

/// What a domain does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DomainState {
    /// The guest runs.
    Running,
    /// The guest is held still.
    Paused(PauseReason),
    /// The guest is on its way down.
    ShuttingDown,
    /// The guest is off.
    Off(OffReason),
}

impl DomainState {
    /// True while the guest has its disk open.
    #[must_use]
    pub const fn is_active(self) -> bool {
        !matches!(self, Self::Off(_))
    }
}

/// Why a guest is held still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PauseReason {
    /// Somebody asked for it, or it does not matter here.
    Asked,
    /// Another tool holds it still for something that ends by itself, or it put itself to sleep: letting it go on would be in
    /// the way.
    Busy,
    /// Its disk did not take a write: most often the host's file system is full.
    DiskError,
}

/// Why a guest is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffReason {
    /// Never started, or the host was: the hypervisor does not know.
    Unknown,
    /// It shut itself down, asked or not.
    ShutDown,
    /// Its power was taken away.
    Destroyed,
    /// It died: a panic, or its process was killed.
    Crashed,
    /// It could not be started.
    Failed,
    /// It was moved to another host, and may run there.
    Migrated,
    /// Its memory is saved; a start goes on from there.
    Saved,
}

/// What a running domain uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Whose.
    pub vm: VmId,
    /// How long its CPUs have run since its start, together, in nanoseconds.
    pub cpu_ns: u64,
    /// How many of them it has now.
    pub cpus: u32,
    /// Memory that its kernel could not give to another program, by what its balloon driver told within the last minute.
    pub memory: Option<ByteSize>,
}

/// Something happened to a domain whose name is a VM id. A hint to look, no more: it may be about a foreign domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DomainEvent {
    /// The VM; none means that anything may have happened to any of them, as after a lost connection.
    pub vm: Option<VmId>,
    /// What.
    pub what: Happening,
}

/// What happened to a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happening {
    /// Its definition came, changed or went.
    Definition,
    /// The guest started, or went on.
    Started,
    /// The guest is held still.
    Paused,
    /// The guest went off, or is about to.
    Stopped,
    /// The connection is new: events may have been lost before it.
    Reconnected,
}

/// Does the hypervisor answer?
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// Not asked yet.
    Unknown,
    /// Yes.
    Up,
    /// It cannot be reached; connecting goes on.
    Down(Cause),
    /// A call got no answer in time; a new connection is being made.
    Hung {
        /// What it was asked.
        what: &'static str,
    },
}

impl Health {
    /// True if it answers.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        matches!(self, Self::Up)
    }
}

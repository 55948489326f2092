//! The words of a plan: what can be done, and why nothing is done. Each says for people what it is.

use crate::volumes::DataVolume;
use std::{fmt, path::PathBuf, time::Duration};
use waifud_model::{ids::Generation, name::DiskName, size::ByteSize, vm::Mac};

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Bring the template version here.
    EnsureImage,
    /// Bring the image for the CD drive here.
    EnsureCd,
    /// Make the root disk, or make it as large as it shall be.
    EnsureRoot,
    /// The same of the disk in that slot.
    EnsureDisk(u8),
    /// Away with a disk that the record does not name.
    RemoveDisk(DataVolume),
    /// Away with the root disks of earlier lives.
    RemoveOldRoots,
    /// Reserve the address.
    ReserveAddress,
    /// Make the domain, or bring its definition up to date.
    DefineDomain,
    /// Start the guest, or note that the one that is on serves this generation too.
    Start,
    /// Make the running guest take something up.
    Adjust(Adjust),
    /// Hold the guest still.
    Suspend,
    /// Let it go on.
    Resume,
    /// Ask the guest to shut down.
    Shutdown,
    /// Take its power away.
    ForceStop,
    /// Report that the guest shut itself down.
    ReportShutDown,
    /// Report that it stays off because it is not started with its host.
    ReportNotStarted,
    /// Away with the domain.
    Undefine,
    /// Away with all its disks.
    RemoveVolumes,
    /// The address is free.
    ReleaseAddress,
    /// Report that nothing is left.
    ConfirmGone,
}

/// Something that a running guest can be made to take up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Adjust {
    /// So many CPUs.
    Cpus(u32),
    /// So much memory.
    Memory(ByteSize),
    /// The disk in that slot becomes so large; none is the root disk.
    Grow(Option<u8>, ByteSize),
    /// The disk in that slot is plugged in.
    Attach(u8),
    /// It is unplugged.
    Detach(u8),
    /// What shall be in its CD drive is put there.
    Cd,
    /// The network card on the bridge of that number is plugged in.
    AttachCard(u8),
    /// The network card of that number is put on its bridge.
    MoveCard(u8),
    /// The card with that address is unplugged.
    DetachCard(Mac),
}

/// Why nothing is done although not all is as wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hold {
    /// The guest was asked to shut down and has this long until it is looked at again.
    Asked(Duration),
    /// The guest died; it is started again after this long.
    Restart(Duration),
    /// The guest was told to take something up, and has this long until it is looked at again.
    Told(Duration),
    /// The guest's disk did not take a write; it is let go on after this long.
    DiskError(Duration),
    /// Somebody else holds the guest still, for something that ends by itself.
    Busy,
    /// A report is on its way; the state will change when it is accepted.
    Reported,
    /// The domain is of a later generation than the record: this replica is behind.
    Behind {
        /// The domain's.
        domain: Generation,
    },
    /// The guest was moved to another host by somebody else, and may run there.
    MovedAway,
    /// The root disk was made, and is not here now. A fresh one in its place would pass for the old one.
    RootMissing(Option<PathBuf>),
    /// The same of another disk.
    DiskMissing(DiskName, PathBuf),
}

impl Hold {
    /// When to look again although nothing was heard.
    #[must_use]
    pub const fn look_again(&self) -> Option<Duration> {
        match self {
            Self::Asked(after) | Self::Restart(after) | Self::Told(after) | Self::DiskError(after) => Some(*after),
            Self::Busy
            | Self::Reported
            | Self::Behind { .. }
            | Self::MovedAway
            | Self::RootMissing(_)
            | Self::DiskMissing(..) => None,
        }
    }

    /// True if people have to do something about it, or wait for a while at least.
    #[must_use]
    pub const fn is_worth_telling(&self) -> bool {
        !matches!(self, Self::Told(_))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EnsureImage => "fetching the template's image",
            Self::EnsureCd => "fetching the image for the CD drive",
            Self::EnsureRoot => "making the root disk",
            Self::EnsureDisk(_) => "making a disk",
            Self::RemoveDisk(_) => "removing a disk",
            Self::RemoveOldRoots => "removing the root disk it had before",
            Self::ReserveAddress => "reserving the address",
            Self::DefineDomain => "defining the domain",
            Self::Start => "starting the guest",
            Self::Adjust(adjust) => return adjust.fmt(f),
            Self::Suspend => "holding the guest still",
            Self::Resume => "letting the guest go on",
            Self::Shutdown => "asking the guest to shut down",
            Self::ForceStop => "taking the guest's power away",
            Self::ReportShutDown => "reporting that the guest shut itself down",
            Self::ReportNotStarted => "reporting that the guest is not started with its host",
            Self::Undefine => "removing the domain",
            Self::RemoveVolumes => "removing the disks",
            Self::ReleaseAddress => "releasing the address",
            Self::ConfirmGone => "reporting that nothing is left",
        })
    }
}

impl fmt::Display for Adjust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpus(cpus) => write!(f, "changing the running guest's CPUs to {cpus}"),
            Self::Memory(memory) => write!(f, "changing the running guest's memory to {memory}"),
            Self::Grow(_, size) => write!(f, "growing a disk of the running guest to {size}"),
            Self::Attach(_) => f.write_str("plugging a disk into the running guest"),
            Self::Detach(_) => f.write_str("unplugging a disk from the running guest"),
            Self::Cd => f.write_str("changing the CD"),
            Self::AttachCard(_) => f.write_str("plugging a network card into the running guest"),
            Self::MoveCard(_) => f.write_str("moving a network card of the running guest to another bridge"),
            Self::DetachCard(_) => f.write_str("unplugging a network card from the running guest"),
        }
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked(_) => f.write_str("the guest was asked to shut down, and has some time to do so"),
            Self::Restart(after) => {
                write!(f, "the guest died, and is started again {} s after that at the earliest", after.as_secs())
            }
            Self::Told(_) => f.write_str("the guest was told of a change, and has some time to take it up"),
            Self::DiskError(_) => f.write_str(
                "the guest is held still because its disk did not take a write: is the file system of the node's data \
                 directory full? It is let go on every half minute",
            ),
            Self::Busy => f.write_str("another tool holds the guest still, for a snapshot, a dump or a move"),
            Self::Reported => f.write_str("the cluster has been told, and has not agreed yet"),
            Self::Behind { domain } => write!(
                f,
                "what runs was made from generation {domain} of its record, and this node has not heard of that yet"
            ),
            Self::MovedAway => f.write_str(
                "the guest was moved to another host by another tool, and may run there; bring it back, or delete it",
            ),
            Self::RootMissing(path) => {
                f.write_str("its root disk")?;
                if let Some(path) = path {
                    write!(f, ", {},", path.display())?;
                }
                f.write_str(" is not on this node any more; put it back, or make the VM anew (waifuctl reinit)")
            }
            Self::DiskMissing(name, path) => write!(
                f,
                "its disk {name}, {}, is not on this node any more; put it back, or give up what was on it (waifuctl disk \
                 remove, and waifuctl disk add for an empty one)",
                path.display()
            ),
        }
    }
}

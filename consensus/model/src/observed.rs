//! What a node sees of its VMs, in the few bytes that gossip carries. Never stored, never read by apply.
//!
//! A VM's observation is one gossip value of at most 64 bytes, published only when something changes; the resource use
//! of all VMs of a node is packed into one value. Errors and progress stay with the owner and are asked for on demand.

mod letters;
mod usage;

pub use letters::{Letter, Letters};
pub use usage::VmUsage;

use crate::{
    ids::{Generation, VmId},
    time::Timestamp,
    vm::Desired,
};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// What the owner sees of a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VmState {
    /// The owner has not begun.
    Pending,
    /// The template version is being brought here.
    Fetching,
    /// Disk, address and domain are being made.
    Preparing,
    /// The guest runs.
    Running,
    /// The guest is stopped, by libvirt.
    Paused,
    /// The guest was asked to shut down.
    Stopping,
    /// The guest is off.
    Stopped,
    /// The guest died by itself.
    Crashed,
    /// The desired state cannot be reached for now; the owner tries again and knows the error.
    Failed,
    /// Disk and domain are being removed.
    Deleting,
    /// The owner cannot tell, because its hypervisor does not answer.
    Unknown,
}

const STATES: [(VmState, &str); 11] = [
    (VmState::Pending, "pending"),
    (VmState::Fetching, "fetching"),
    (VmState::Preparing, "preparing"),
    (VmState::Running, "running"),
    (VmState::Paused, "paused"),
    (VmState::Stopping, "stopping"),
    (VmState::Stopped, "stopped"),
    (VmState::Crashed, "crashed"),
    (VmState::Failed, "failed"),
    (VmState::Deleting, "deleting"),
    (VmState::Unknown, "unknown"),
];

impl VmState {
    /// What a VM does of which this is wanted, once all is well.
    #[must_use]
    pub const fn of(desired: Desired) -> Self {
        match desired {
            Desired::Running => Self::Running,
            Desired::Stopped => Self::Stopped,
            Desired::Paused => Self::Paused,
        }
    }

    /// The word of the API and of the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        STATES.iter().find(|(state, _)| *state == self).map_or("unknown", |(_, word)| word)
    }

    /// The words of all states, in the order of a VM's life.
    #[must_use]
    pub fn words() -> [&'static str; STATES.len()] {
        STATES.map(|(_, word)| word)
    }
}

impl fmt::Display for VmState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for VmState {
    type Err = ObservedError;

    fn from_str(text: &str) -> Result<Self, ObservedError> {
        STATES
            .iter()
            .find(|(_, word)| *word == text)
            .map(|(state, _)| *state)
            .ok_or_else(|| ObservedError(text.chars().take(80).collect()))
    }
}

/// A gossip value that does not read; it comes from a newer or a broken peer and is left aside.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an observation")]
pub struct ObservedError(String);

/// By what its owner has met a guest, since it was last started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sighting {
    /// It took a DHCP lease of its address.
    Lease,
    /// It answered for its address on the link (ARP).
    Arp,
    /// The agent in it told its address.
    Agent,
    /// It asked for its metadata.
    Metadata,
}

impl Letter for Sighting {
    const ALL: &'static [(Self, char)] =
        &[(Self::Lease, 'l'), (Self::Arp, 'a'), (Self::Agent, 'g'), (Self::Metadata, 'm')];
}

/// By what a guest was met.
pub type Sightings = Letters<Sighting>;

/// What of a VM's record its running guest has not taken up, and will when it is started the next time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Waiting {
    /// Its CPUs.
    Cpus,
    /// Its memory.
    Memory,
    /// The size of a disk, or that there is one.
    Disks,
    /// Firmware or CPU model.
    Hardware,
    /// The image in its CD drive.
    Cd,
    /// Its network cards.
    Network,
    /// What the firmware tells cloud-init.
    CloudInit,
}

impl Letter for Waiting {
    const ALL: &'static [(Self, char)] = &[
        (Self::Cpus, 'c'),
        (Self::Memory, 'm'),
        (Self::Disks, 'd'),
        (Self::Hardware, 'h'),
        (Self::Cd, 'o'),
        (Self::Network, 'n'),
        (Self::CloudInit, 'i'),
    ];
}

/// The letter of [`VmObservation::cloud_init_done`]. It stands among those of [`Sightings`], where a node that does not know it
/// leaves it aside; a word of its own would make it refuse all.
const DONE: &str = "d";

/// What waits for the next start.
pub type Waits = Letters<Waiting>;

/// One VM as its owner sees it. Its text is the gossip value: `running 3 1760000000000 lmd -`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VmObservation {
    /// What is seen.
    pub state: VmState,
    /// The generation it was seen at: older than the record's means that the owner is still at work.
    pub generation: Generation,
    /// Since when, by the owner's clock.
    pub since: Timestamp,
    /// By what the guest was met since it was started.
    pub met: Sightings,
    /// The guest has told that its cloud-init is done, in the life of the VM that it was seen at. A start begins no new life.
    pub cloud_init_done: bool,
    /// What waits for its next start.
    pub waits: Waits,
}

impl VmObservation {
    /// Of a guest that nobody has met, and for which nothing waits.
    #[must_use]
    pub const fn new(state: VmState, generation: Generation, since: Timestamp) -> Self {
        Self { state, generation, since, met: Sightings::NONE, cloud_init_done: false, waits: Waits::NONE }
    }

    /// The gossip key of a VM's observation.
    #[must_use]
    pub fn key(vm: VmId) -> String {
        format!("vm/{vm}")
    }

    /// The VM a gossip key is about, if it is about one.
    #[must_use]
    pub fn vm_of_key(key: &str) -> Option<VmId> {
        key.strip_prefix("vm/")?.parse().ok()
    }
}

impl fmt::Display for VmObservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let done = if self.cloud_init_done { DONE } else { "" };
        write!(f, "{} {} {} {}{done} {}", self.state, self.generation, self.since.0, self.met, self.waits)
    }
}

impl FromStr for VmObservation {
    type Err = ObservedError;

    fn from_str(text: &str) -> Result<Self, ObservedError> {
        let refuse = || ObservedError(text.chars().take(80).collect());
        let mut words = text.split(' ');
        let mut word = || words.next().ok_or_else(refuse);
        let state = word()?.parse()?;
        let generation = Generation(word()?.parse().map_err(|_| refuse())?);
        let since = Timestamp(word()?.parse().map_err(|_| refuse())?);
        let met = word()?;
        let cloud_init_done = met.contains(DONE);
        let observation =
            Self { state, generation, since, met: met.parse()?, cloud_init_done, waits: word()?.parse()? };
        if words.next().is_some() { Err(refuse()) } else { Ok(observation) }
    }
}

/// The gossip key that says that a node holds a template version's bytes; its value is empty.
#[must_use]
pub fn image_key(version: crate::digest::Blake3) -> String {
    format!("image/{version}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn observations_are_short_and_round_trip() {
        let met: Sightings = Sighting::ALL.iter().map(|(one, _)| *one).collect();
        let waits: Waits = Waiting::ALL.iter().map(|(one, _)| *one).collect();
        assert_eq!((met.iter().count(), waits.iter().count()), (Sighting::ALL.len(), Waiting::ALL.len()));
        assert!(Sighting::ALL.iter().all(|(_, letter)| !DONE.contains(*letter)));
        // Until the year 2286.
        let (generation, since) = (Generation(u64::MAX), Timestamp(9_999_999_999_999));
        for ((state, word), cloud_init_done) in STATES.into_iter().flat_map(|state| [(state, false), (state, true)]) {
            let seen = VmObservation { state, generation, since, met, cloud_init_done, waits };
            let text = seen.to_string();
            assert!(text.len() <= 64 && text.starts_with(word), "{text}");
            assert_eq!(text.parse(), Ok(seen));
        }
        for bad in [
            "",
            "running",
            "running 1",
            "running 1 2",
            "running 1 2 -",
            "running 1 2 - - 3",
            "walking 1 2 - -",
            "running x 2 - -",
            "running 1 2 L -",
        ] {
            assert!(bad.parse::<VmObservation>().is_err(), "{bad}");
        }
        assert_eq!("lz".parse(), Ok(Sightings::NONE.and(Sighting::Lease)), "z is a newer version's");
        assert_eq!(Sightings::NONE.to_string().parse(), Ok(Sightings::NONE));
        let done = VmObservation {
            cloud_init_done: true,
            ..VmObservation::new(VmState::Running, Generation(1), Timestamp(2))
        };
        assert_eq!((done.to_string().as_str(), "running 1 2 -d -".parse()), ("running 1 2 -d -", Ok(done)));
        let vm = VmId::from_random([7; 16]);
        assert_eq!(VmObservation::vm_of_key(&VmObservation::key(vm)), Some(vm));
    }
}

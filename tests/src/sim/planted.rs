//! Bugs on purpose, wrapped around the product's edges: what shows that the invariants are looked at.

use std::{fmt, str::FromStr};

/// A bug to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planted {
    /// Creates are acknowledged before they are committed.
    EarlyAck,
    /// One node's replica gets other bytes than the others.
    Divergence,
    /// A node runs the VMs of other owners too.
    ForeignOwner,
    /// A domain gets the address of the one made before.
    SharedAddress,
    /// Disks of deleted VMs stay behind.
    LeftDisks,
    /// A retry is sent under a new key.
    FreshKeys,
    /// A node comes back without its files.
    LostDisk,
    /// A node does not hear of reboots.
    MissedReboots,
}

impl Planted {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::EarlyAck,
        Self::Divergence,
        Self::ForeignOwner,
        Self::SharedAddress,
        Self::LeftDisks,
        Self::FreshKeys,
        Self::LostDisk,
        Self::MissedReboots,
    ];

    /// Its name on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EarlyAck => "early-ack",
            Self::Divergence => "divergence",
            Self::ForeignOwner => "foreign-owner",
            Self::SharedAddress => "shared-address",
            Self::LeftDisks => "left-disks",
            Self::FreshKeys => "fresh-keys",
            Self::LostDisk => "lost-disk",
            Self::MissedReboots => "missed-reboots",
        }
    }
}

impl fmt::Display for Planted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Planted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|bug| bug.as_str() == text).ok_or_else(|| {
            let all = Self::ALL.map(Self::as_str).join(", ");
            format!("no such bug; there are {all}")
        })
    }
}

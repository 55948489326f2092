//! What joins the hosts, and how it fails: cut between two hosts, in one direction or both, or losing packets.
//!
//! The faults are rules of the bridge itself, so that no host's own firewall is touched and none can see them.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::{Host, checked, holder};

/// Pairs of interfaces that do not reach each other, before a chain that drops what is lost. Interfaces of the bridge are
/// called as the host at their end.
const RULES: &str = "
add table bridge lab
add set bridge lab cut { typeof iifname . oifname; }
add chain bridge lab forward { type filter hook forward priority 0; }
add chain bridge lab loss
add rule bridge lab forward iifname . oifname @cut drop
add rule bridge lab forward jump loss
";

/// The wire of a [`super::Lab`].
#[derive(Debug)]
pub struct Wire {
    holder: String,
}

impl Wire {
    pub(super) fn open(lab: &Path) -> Result<Self> {
        let wire = Self { holder: holder(&lab.join("lan"))? };
        wire.nft(RULES)?;
        Ok(wire)
    }

    /// Cuts two hosts off from each other.
    ///
    /// # Errors
    /// When `nft` fails; so for all below.
    pub fn cut(&self, one: &Host, other: &Host) -> Result<()> {
        self.cut_one_way(one, other)?;
        self.cut_one_way(other, one)
    }

    /// Drops what `from` sends to `to`, and nothing else.
    ///
    /// # Errors
    /// See [`Wire::cut`].
    pub fn cut_one_way(&self, from: &Host, to: &Host) -> Result<()> {
        self.nft(&format!("add element bridge lab cut {{ {} . {} }}", from.name(), to.name()))
    }

    /// Cuts every host of one side off from every host of the other.
    ///
    /// # Errors
    /// See [`Wire::cut`].
    pub fn partition(&self, one_side: &[&Host], other_side: &[&Host]) -> Result<()> {
        for one in one_side {
            for other in other_side {
                self.cut(one, other)?;
            }
        }
        Ok(())
    }

    /// Loses this many of a hundred packets, at random and at most 99, until healed.
    ///
    /// # Errors
    /// See [`Wire::cut`].
    pub fn lose(&self, percent: u8) -> Result<()> {
        self.nft(&format!(
            "flush chain bridge lab loss\nadd rule bridge lab loss numgen random mod 100 < {percent} drop"
        ))
    }

    /// Mends every cut and loses nothing any more.
    ///
    /// # Errors
    /// See [`Wire::cut`].
    pub fn heal(&self) -> Result<()> {
        self.nft("flush set bridge lab cut\nflush chain bridge lab loss")
    }

    /// One transaction.
    fn nft(&self, rules: &str) -> Result<()> {
        on_the_wire(&self.holder, ["nft", rules])
    }
}

/// Runs a command in the network that joins the hosts.
pub(super) fn on_the_wire<const N: usize>(holder: &str, command: [&str; N]) -> Result<()> {
    checked(Command::new("nsenter").args(["--target", holder, "--net", "--"]).args(command)).map(drop)
}

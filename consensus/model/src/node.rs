//! A node as the replicated state knows it.

use crate::{
    digest::Fingerprint,
    ids::NodeId,
    labels::Labels,
    mesh::MeshEnd,
    name::{BridgeName, NodeName},
    size::ByteSize,
    time::Timestamp,
};
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use std::{fmt, net::SocketAddr};

/// A member of the cluster. Being here is what makes a certificate acceptable to the other nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Who it is.
    pub id: NodeId,
    /// What people call it; unique.
    pub name: NodeName,
    /// Where peers reach it (UDP).
    pub advertise: SocketAddr,
    /// The key its certificate must carry.
    pub fingerprint: Fingerprint,
    /// For filters and placement.
    pub labels: Labels,
    /// No new VMs are placed here; what runs, runs on.
    pub cordoned: bool,
    /// What it can give to VMs.
    pub capacity: Capacity,
    /// The subnet its VMs are addressed from; unique, inside the cluster's CIDR.
    pub subnet: Ipv4Net,
    /// Its end of the mesh; none before it has told.
    pub mesh: Option<MeshEnd>,
    /// When it joined, in log time.
    pub joined_at: Timestamp,
}

/// Committed facts about a node: what placement counts with.
///
/// These are totals offered to VMs after the node's own share and over-commitment rules (memory less 1 GiB for the
/// host, CPU threads times four, unless the node's configuration caps them), not what is free at this moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    /// Virtual CPUs that may be promised in all.
    pub cpus: u32,
    /// Hardware threads: no single VM may have more CPUs than this.
    pub threads: u32,
    /// Memory that may be promised in all.
    pub memory: ByteSize,
    /// Disk that may be promised in all.
    pub disk: ByteSize,
    /// Instruction set.
    pub arch: Arch,
    /// True where guests run on the CPU itself, false where they are emulated.
    pub kvm: bool,
    /// Bridges of the host that VMs may have a network card on, by its configuration.
    pub bridges: Vec<BridgeName>,
}

/// An instruction set, in QEMU's and libvirt's spelling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arch {
    /// 64-bit x86.
    #[serde(rename = "x86_64")]
    X86_64,
    /// 64-bit Arm.
    Aarch64,
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        })
    }
}

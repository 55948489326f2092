//! Nodes on the wire.

use crate::{schema, time::Time};
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use std::{fmt, net::SocketAddr};
use utoipa::{IntoParams, ToSchema};
use waifud_model::{
    ids::NodeId,
    labels::{LabelPatch, Labels},
    name::{BridgeName, NodeName},
    node::Arch,
    size::ByteSize,
};

/// A node: what it is, and how it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Node {
    /// What people call it.
    #[schema(value_type = String)]
    pub name: NodeName,
    /// Who it is.
    #[schema(value_type = String)]
    pub id: NodeId,
    /// Where peers reach it (UDP).
    #[schema(value_type = String)]
    pub address: SocketAddr,
    /// True while the answering node hears it.
    pub alive: bool,
    /// Since when it is alive, or silent, as far as the answering node knows.
    pub since: Option<Time>,
    /// True while no new VMs are placed on it.
    pub cordoned: bool,
    /// Its part in the consensus.
    pub role: NodeRole,
    /// What it can promise to VMs in all.
    pub capacity: Resources,
    /// What is promised.
    pub reserved: Resources,
    /// CPU threads of the machine: no VM may have more.
    pub threads: u32,
    /// How many VMs are placed on it.
    pub vms: u32,
    /// Where its VMs' addresses come from.
    #[schema(value_type = String)]
    pub subnet: Ipv4Net,
    /// True where guests run on the CPU itself, false where they are emulated.
    pub kvm: bool,
    /// Instruction set.
    #[schema(value_type = schema::Arch)]
    pub arch: Arch,
    /// Bridges of the machine that its VMs may have a network card on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub bridges: Vec<BridgeName>,
    /// For filters.
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    pub labels: Labels,
    /// The version of waifud it runs, if it has told.
    pub version: Option<String>,
    /// When it joined.
    pub joined_at: Time,
}

/// CPUs, memory and disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Resources {
    /// Virtual CPUs.
    pub cpus: u32,
    /// Memory, in bytes.
    #[schema(value_type = u64)]
    pub memory: ByteSize,
    /// Disk, in bytes.
    #[schema(value_type = u64)]
    pub disk: ByteSize,
}

/// A node's part in the consensus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NodeRole {
    /// It leads; it is a voter too.
    Leader,
    /// It votes.
    Voter,
    /// It follows without a vote.
    Learner,
}

impl fmt::Display for NodeRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Leader => "leader",
            Self::Voter => "voter",
            Self::Learner => "learner",
        })
    }
}

/// The body of `PATCH /nodes/{name}`: what is not in it stays as it is (RFC 7396).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeUpdate {
    /// Labels that come or change; with `null` those that go.
    #[serde(default, skip_serializing_if = "LabelPatch::is_empty")]
    #[schema(value_type = std::collections::BTreeMap<String, Option<String>>)]
    pub labels: LabelPatch,
}

/// The query of `DELETE /nodes/{name}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct NodeRemoveQuery {
    /// Even though VMs are placed on it: they are lost with it.
    #[serde(default)]
    pub force: bool,
    /// Only say whether it could leave.
    #[serde(default)]
    pub dry_run: bool,
}

//! The cluster as a whole on the wire.

use crate::{node::NodeRole, time::Time};
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::ToSchema;
use waifud_model::{digest::Blake3, ids::ClusterId, name::NodeName};

/// How the cluster is, as the answering node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClusterStatus {
    /// Its identity.
    #[schema(value_type = String)]
    pub id: ClusterId,
    /// SHA-256 of the certificate of its CA, which `waifuctl login` shows to be compared with this.
    #[serde(default)]
    #[schema(value_type = String)]
    pub ca: CaFingerprint,
    /// What all VMs' addresses are taken from.
    #[schema(value_type = String)]
    pub cidr: Ipv4Net,
    /// The node that answers.
    #[schema(value_type = String)]
    pub answered_by: NodeName,
    /// True while a majority of the voters is heard: changes can be made.
    pub quorum: bool,
    /// Who leads, if that is known.
    #[schema(value_type = Option<String>)]
    pub leader: Option<NodeName>,
    /// The Raft term.
    pub term: u64,
    /// How many VMs there are.
    pub vms: u32,
    /// All members, by name.
    pub members: Vec<Member>,
    /// What commands may be used: all members know them.
    pub feature_level: u32,
    /// The digest of the replicated state at an index: equal on all nodes at the same index.
    pub state: StateDigest,
    /// What is unsafe or needs a hand, the most pressing first.
    pub advice: Vec<Advice>,
}

/// SHA-256 of a certificate (DER), as openssl and browsers show it: `9F:3C:…`. Empty where a server does not tell.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CaFingerprint(pub String);

impl CaFingerprint {
    /// Of these 32 bytes.
    #[must_use]
    pub fn of(digest: [u8; 32]) -> Self {
        let pairs: Vec<_> = digest.iter().map(|byte| format!("{byte:02X}")).collect();
        Self(pairs.join(":"))
    }
}

impl fmt::Display for CaFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A member of the cluster, in few words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Member {
    /// Who.
    #[schema(value_type = String)]
    pub name: NodeName,
    /// Its part in the consensus.
    pub role: NodeRole,
    /// True while the answering node hears it.
    pub alive: bool,
    /// Since when it is alive, or silent.
    pub since: Option<Time>,
    /// The log index it has applied, if that is known.
    pub applied: Option<u64>,
    /// The version of waifud it runs, if it has told.
    pub version: Option<String>,
}

/// The digest of the replicated state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StateDigest {
    /// The log index that was applied last.
    pub index: u64,
    /// BLAKE3 over all rows in key order.
    #[schema(value_type = String)]
    pub digest: Blake3,
}

/// Something that is unsafe or needs a hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Advice {
    /// A stable word, for programs.
    pub code: String,
    /// What is the matter, and what it means for the VMs.
    pub message: String,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

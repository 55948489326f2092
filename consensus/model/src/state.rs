//! The whole replicated state as one plain value: what invariants are checked on, and what a reader gets at once.

use crate::{
    cloud_init::CloudDefaults,
    digest::Blake3,
    ids::{ClusterId, NodeId, TokenId, VmId},
    mesh::NetPeer,
    name::{PeerName, TemplateName},
    node::Node,
    template::TemplateVersion,
    time::Timestamp,
    token::{ApiToken, JoinToken},
    vm::Vm,
};
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt};

/// Everything but events and remembered requests.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClusterState {
    /// What the cluster is; none before it is initialised.
    pub cluster: Option<ClusterInfo>,
    /// All members.
    pub nodes: BTreeMap<NodeId, Node>,
    /// All VMs, those being deleted too.
    pub vms: BTreeMap<VmId, Vm>,
    /// All template versions.
    pub templates: BTreeMap<(TemplateName, Blake3), TemplateVersion>,
    /// What every guest is told.
    pub cloud_defaults: CloudDefaults,
    /// All machines that are no nodes and may reach the guests.
    pub net_peers: BTreeMap<PeerName, NetPeer>,
    /// All join tokens that were not revoked.
    pub join_tokens: BTreeMap<TokenId, JoinToken>,
    /// All API tokens that were not revoked.
    pub api_tokens: BTreeMap<TokenId, ApiToken>,
    /// The last applied command's time.
    pub log_time: Timestamp,
}

/// What the cluster is.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterInfo {
    /// Its identity.
    pub id: ClusterId,
    /// The CA's certificate, DER.
    #[serde(with = "crate::bytes")]
    pub ca_cert: Vec<u8>,
    /// The CA's private key, PKCS #8 DER.
    #[serde(with = "crate::bytes")]
    pub ca_key: Vec<u8>,
    /// What all VMs' addresses are taken from.
    pub cidr: Ipv4Net,
    /// The prefix length of each node's subnet.
    pub subnet_prefix: u8,
    /// What commands may be used: all members know them.
    pub feature_level: u32,
}

impl fmt::Debug for ClusterInfo {
    /// Without the CA's key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterInfo")
            .field("id", &self.id)
            .field("cidr", &self.cidr)
            .field("feature_level", &self.feature_level)
            .finish_non_exhaustive()
    }
}

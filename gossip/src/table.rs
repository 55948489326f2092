//! Who is a member: the table every decision about peers is made by.
//!
//! It is fed by the node from the replicated node table and flows in through a `watch` channel. This crate never changes
//! it and believes nothing else about membership: a valid certificate of somebody who is not here is worth nothing.

use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};
use tokio::sync::watch;
use waifud_model::{digest::Fingerprint, ids::NodeId, name::NodeName, node::Node};

/// What must be known of a member to talk to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// What people call it.
    pub name: NodeName,
    /// Where it listens (UDP).
    pub addr: SocketAddr,
    /// The key that its certificate must carry.
    pub fingerprint: Fingerprint,
}

impl From<&Node> for Peer {
    fn from(node: &Node) -> Self {
        Self { name: node.name.clone(), addr: node.advertise, fingerprint: node.fingerprint }
    }
}

/// All members, this node included.
pub type PeerTable = BTreeMap<NodeId, Peer>;

/// The newest table, and notice of the next one.
pub type PeerTableWatch = watch::Receiver<Arc<PeerTable>>;

/// The member that listens on `addr`. Apply keeps advertised addresses unique.
pub(crate) fn member_at(table: &PeerTable, addr: SocketAddr) -> Option<NodeId> {
    table.iter().find(|(_, peer)| peer.addr == addr).map(|(id, _)| *id)
}

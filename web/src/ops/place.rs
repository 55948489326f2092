//! Choosing a node for a VM: gathers what placement wants to know, and tells its decision on the wire.

use crate::ports::Observed;
use std::collections::BTreeMap;
use waifud_api::{problem::NodeEvidence, vm::Placement};
use waifud_consensus::state::{ReadError, View};
use waifud_model::{
    digest::Blake3,
    ids::NodeId,
    node::Node,
    placement::{Candidate, Decision, Reserved, Why},
};

/// The nodes as the replica has them, and what is promised on each.
#[derive(Debug)]
pub(crate) struct Field {
    nodes: Vec<Node>,
    reserved: BTreeMap<NodeId, Reserved>,
}

impl Field {
    /// Reads both in one transaction.
    pub(crate) fn read(view: &View<'_>) -> Result<Self, ReadError> {
        Ok(Self { nodes: view.nodes()?, reserved: view.reserved_by_node()? })
    }

    /// What placement is to choose from, for a VM that stands on the image `version`. The answering node is alive.
    pub(crate) fn candidates(&self, here: NodeId, observed: &Observed, version: Blake3) -> Vec<Candidate> {
        let candidate = |node: &Node| Candidate {
            id: node.id,
            name: node.name.clone(),
            alive: node.id == here || observed.alive(node.id).is_some(),
            cordoned: node.cordoned,
            capacity: node.capacity.clone(),
            reserved: self.reserved.get(&node.id).copied().unwrap_or_default(),
            labels: node.labels.clone(),
            has_template: observed.seen(node.id).is_some_and(|seen| seen.images.contains(&version)),
            group_count: 0,
        };
        self.nodes.iter().map(candidate).collect()
    }
}

/// The decision as the API tells it.
pub(crate) fn wire(decision: &Decision) -> Placement {
    let evidence = |(node, why): &(_, Why)| NodeEvidence { node: Clone::clone(node), reason: why.to_string() };
    Placement {
        node: decision.name.clone(),
        reason: decision.reason.clone(),
        rejected: decision.rejected.iter().filter(|(_, why)| *why != Why::NotAsked).map(evidence).collect(),
    }
}

//! Nodes: the record, what is promised on each, and what is heard of it.

use crate::{
    conditional::Revision,
    ports::Observed,
    problem::{Failure, Missing},
    standing,
    suggest::nearest,
};
use waifud_api::node::{self as wire, Resources};
use waifud_consensus::{
    Handle, Status,
    state::{ReadError, View},
};
use waifud_model::{name::NodeName, node::Node, placement::Reserved};

/// All nodes, by name.
pub(crate) async fn list(consensus: &Handle, observed: &Observed) -> Result<Vec<wire::Node>, Failure> {
    let (nodes, reserved) = consensus.read(|view| Ok((view.nodes()?, view.reserved_by_node()?))).await?;
    let status = consensus.status().borrow().clone();
    let shown = nodes.iter().map(|node| {
        let reserved = reserved.get(&node.id).copied().unwrap_or_default();
        show(node, &reserved, &status, observed)
    });
    Ok(shown.collect())
}

/// One node, and what is wanted of it.
pub(crate) async fn one(
    consensus: &Handle,
    observed: &Observed,
    name: NodeName,
) -> Result<(wire::Node, Revision), Failure> {
    let (node, reserved) = consensus
        .read(move |view| match find(view, &name)? {
            Ok(node) => view.reserved(node.id).map(|reserved| Ok((node, reserved))),
            Err(missing) => Ok(Err(missing)),
        })
        .await?
        .map_err(Failure::Missing)?;
    let status = consensus.status().borrow().clone();
    Ok((show(&node, &reserved, &status, observed), revision(&node)?))
}

/// What is wanted of a node. What it tells of itself, at every start, is observed.
pub(crate) fn revision(node: &Node) -> Result<Revision, Failure> {
    Revision::of(&(node.id, node.cordoned, &node.labels))
}

/// One node's record. Where there is none, the failure names the nearest.
pub(crate) fn find(view: &View<'_>, name: &NodeName) -> Result<Result<Node, Missing>, ReadError> {
    if let Some(node) = view.node_by_name(name)? {
        return Ok(Ok(node));
    }
    let similar = nearest(name.as_str(), view.nodes()?.into_iter().map(|node| node.name));
    Ok(Err(Missing::Node { name: name.clone(), similar }))
}

fn show(node: &Node, reserved: &Reserved, status: &Status, observed: &Observed) -> wire::Node {
    let seen = observed.seen(node.id);
    let capacity = &node.capacity;
    wire::Node {
        name: node.name.clone(),
        id: node.id,
        address: node.advertise,
        alive: node.id == status.node || seen.is_some_and(|seen| seen.alive),
        since: seen.map(|seen| seen.since.into()),
        cordoned: node.cordoned,
        role: standing::role(status, node.id),
        capacity: Resources { cpus: capacity.cpus, memory: capacity.memory, disk: capacity.disk },
        reserved: Resources {
            cpus: u32::try_from(reserved.cpus).unwrap_or(u32::MAX),
            memory: reserved.memory,
            disk: reserved.disk,
        },
        threads: capacity.threads,
        vms: reserved.vms,
        subnet: node.subnet,
        kvm: capacity.kvm,
        arch: capacity.arch,
        bridges: capacity.bridges.clone(),
        labels: node.labels.clone(),
        version: seen.and_then(|seen| seen.version.clone()),
        joined_at: node.joined_at.into(),
    }
}

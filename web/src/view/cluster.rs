//! The cluster as a whole, and what about it needs a hand.

use crate::{
    digest::DigestCache,
    ports::{NodeSeen, Observed},
    problem::{self, Failure},
    standing::{self, Standing},
};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use waifud_api::{
    cluster::{Advice, CaFingerprint, ClusterStatus, Member},
    time::Time,
};
use waifud_consensus::{Handle, Status};
use waifud_model::{ids::NodeId, node::Node, placement::Reserved, time::Timestamp};

/// The cluster, as this node sees it.
pub(crate) async fn status(
    consensus: &Handle,
    digests: &DigestCache,
    observed: &Observed,
    now: Timestamp,
) -> Result<ClusterStatus, Failure> {
    let (cluster, nodes, reserved) =
        consensus.read(|view| Ok((view.cluster()?, view.nodes()?, view.reserved_by_node()?))).await?;
    let cluster = cluster.ok_or(Failure::NotInitialised)?;
    let status = consensus.status().borrow().clone();
    let standing = standing::of(&status, observed, now);
    let name = |id: NodeId| nodes.iter().find(|node| node.id == id).map(|node| node.name.clone());
    Ok(ClusterStatus {
        id: cluster.id,
        ca: CaFingerprint::of(Sha256::digest(&cluster.ca_cert).into()),
        cidr: cluster.cidr,
        answered_by: name(status.node).ok_or(Failure::NotInitialised)?,
        quorum: standing.quorum,
        leader: status.leader.and_then(name),
        term: status.term,
        vms: reserved.values().map(|reserved| reserved.vms).sum(),
        members: nodes.iter().map(|node| member(node, &status, observed)).collect(),
        feature_level: cluster.feature_level,
        state: digests.get(consensus).await?,
        advice: advice(&nodes, &reserved, &status, &standing, observed),
    })
}

fn member(node: &Node, status: &Status, observed: &Observed) -> Member {
    let seen = observed.seen(node.id);
    let here = node.id == status.node;
    Member {
        name: node.name.clone(),
        role: standing::role(status, node.id),
        alive: here || seen.is_some_and(|seen| seen.alive),
        since: seen.map(|seen| seen.since.into()),
        applied: if here { Some(status.applied) } else { seen.and_then(|seen| seen.applied) },
        version: seen.and_then(|seen| seen.version.clone()),
    }
}

/// What is unsafe or needs a hand, the most pressing first.
fn advice(
    nodes: &[Node],
    reserved: &BTreeMap<NodeId, Reserved>,
    status: &Status,
    standing: &Standing,
    observed: &Observed,
) -> Vec<Advice> {
    let mut found = Vec::new();
    if let Some(why) = &status.halted {
        found.push(Advice {
            code: "halted".to_owned(),
            message: format!("this node has stopped taking part; its VMs run on: {why}"),
            remedy: Some("mend the cause and restart waifud here; other nodes answer meanwhile".to_owned()),
        });
    }
    if !standing.quorum {
        let Standing { alive, voters, .. } = standing;
        found.push(Advice {
            code: "no_quorum".to_owned(),
            message: format!(
                "{alive} of {voters} voters are heard: VMs run on, but nothing can be created, changed or deleted"
            ),
            remedy: Some("bring a missing voter back".to_owned()),
        });
    }
    for node in nodes.iter().filter(|node| node.id != status.node) {
        let seen = observed.seen(node.id);
        if !seen.is_some_and(|seen| seen.alive) {
            found.push(silent(node, seen, reserved.get(&node.id).map_or(0, |reserved| reserved.vms)));
        }
    }
    if nodes.len() == 2 {
        found.push(Advice {
            code: "two_nodes".to_owned(),
            message: "with two nodes, one of them must be up for changes to be made; losing it stops changes, not VMs"
                .to_owned(),
            remedy: Some("add a third node: waifuctl cluster token create".to_owned()),
        });
    }
    found
}

fn silent(node: &Node, seen: Option<&NodeSeen>, vms: u32) -> Advice {
    let Node { name, .. } = node;
    let since =
        seen.map_or_else(|| "was never heard".to_owned(), |seen| format!("is silent since {}", Time(seen.since)));
    Advice {
        code: "node_silent".to_owned(),
        message: match vms {
            0 => format!("node {name} {since}; it has no VMs"),
            _ => format!("node {name} {since}; it has {}, and what they do is not known", problem::vms(vms)),
        },
        remedy: Some(format!("bring it back, or if it is lost for good: waifuctl node remove {name} --force")),
    }
}

//! Where a new VM goes, and why not elsewhere. Pure: the caller says what is known of each node.
//!
//! Filters first (alive, not cordoned, right architecture and labels, room enough), then scores (memory and CPUs left
//! after placement, the template already there, few VMs of the same group). The same candidates give the same decision in whatever
//! order they come. The decision is a proposal: apply counts again when it commits.

use crate::{
    ids::NodeId,
    labels::Labels,
    name::{BridgeName, NodeName},
    node::{Arch, Capacity},
    reject::Resource,
    size::ByteSize,
};
use serde::{Deserialize, Serialize};
use std::{cmp::Reverse, fmt};

/// A template that need not be fetched is worth this share (of 1000) of the roomiest node's memory: enough to decide
/// between nodes that are about equally free, not enough to fill one node while others are idle.
const TEMPLATE_HERE: i64 = 300;

/// Memory runs out before CPUs do, which are promised four times over.
const MEMORY_WEIGHT: i64 = 2;

/// One VM of the same group counts more than all other scores together, so that groups spread while they can.
const GROUP_MEMBER: i64 = 10_000;

/// What is to be placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Virtual CPUs.
    pub cpus: u32,
    /// Memory.
    pub memory: ByteSize,
    /// Disk.
    pub disk: ByteSize,
    /// The image's instruction set, if it is known.
    pub arch: Option<Arch>,
    /// Only this node will do.
    pub pin: Option<NodeName>,
    /// The node must have all of these.
    pub node_labels: Labels,
    /// The node must let VMs on all of these bridges of its own.
    pub bridges: Vec<BridgeName>,
    /// What other members of the same group mean.
    pub spread: Spread,
}

/// What it means that a node has VMs of the same group already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spread {
    /// Rather not there.
    #[default]
    Prefer,
    /// Not there.
    Require,
}

/// What a node has promised to its VMs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Reserved {
    /// Virtual CPUs.
    pub cpus: u64,
    /// Memory.
    pub memory: ByteSize,
    /// Disk.
    pub disk: ByteSize,
    /// VMs.
    pub vms: u32,
}

impl Reserved {
    /// With one more VM.
    #[must_use]
    pub fn and(self, cpus: u32, memory: ByteSize, disk: ByteSize) -> Self {
        Self {
            cpus: self.cpus.saturating_add(u64::from(cpus)),
            memory: self.memory + memory,
            disk: self.disk + disk,
            vms: self.vms.saturating_add(1),
        }
    }
}

/// What is known of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Who it is.
    pub id: NodeId,
    /// What people call it.
    pub name: NodeName,
    /// Do its peers hear of it?
    pub alive: bool,
    /// Was it taken out of placement?
    pub cordoned: bool,
    /// What it can give in all.
    pub capacity: Capacity,
    /// What of that is promised.
    pub reserved: Reserved,
    /// Its labels.
    pub labels: Labels,
    /// Has it the template version's bytes?
    pub has_template: bool,
    /// VMs on it that belong to the request's group.
    pub group_count: u32,
}

/// Where the VM goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The node.
    pub node: NodeId,
    /// Its name.
    pub name: NodeName,
    /// What spoke for it, for people: "most free memory of 3 nodes".
    pub reason: String,
    /// The nodes that could not take it, by name.
    pub rejected: Vec<(NodeName, Why)>,
}

/// Why the VM goes nowhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The node that was asked for does not exist.
    #[error("there is no node {0}")]
    NoSuchNode(NodeName),
    /// There are no nodes at all.
    #[error("there are no nodes")]
    NoNodes,
    /// No node can take it; each with its reason, by name.
    #[error("no node can take it: {}", list(.0))]
    NoneFits(Vec<(NodeName, Why)>),
}

fn list(rejected: &[(NodeName, Why)]) -> String {
    rejected.iter().map(|(name, why)| format!("{name} {why}")).collect::<Vec<_>>().join("; ")
}

/// Why a node cannot take a VM. Reads on from the node's name: "node1 is cordoned".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// Another node was asked for.
    NotAsked,
    /// Its peers do not hear of it.
    Dead,
    /// It was taken out of placement.
    Cordoned,
    /// It cannot run the image.
    Arch {
        /// What the node is.
        has: Arch,
        /// What the image is for.
        wanted: Arch,
    },
    /// It lacks a label that was asked for.
    Label {
        /// The label's key.
        key: String,
        /// The value that was asked for.
        value: String,
    },
    /// It has no such bridge for VMs.
    Bridge {
        /// What was asked for.
        wanted: BridgeName,
        /// What it has.
        has: Vec<BridgeName>,
    },
    /// One VM cannot have more CPUs than the host has threads.
    Threads {
        /// The host's threads.
        has: u32,
        /// The VM's CPUs.
        wanted: u32,
    },
    /// A VM of the same group is there.
    Group {
        /// How many.
        count: u32,
    },
    /// There is not enough left of these.
    Short(Vec<Shortage>),
}

/// Something of which a node has not enough left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shortage {
    /// What.
    pub resource: Resource,
    /// What is wanted; bytes or CPUs.
    pub wanted: u64,
    /// What is left; bytes or CPUs.
    pub free: u64,
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (free, wanted) = (self.free, self.wanted);
        match self.resource {
            Resource::Cpus => write!(f, "has {free} CPUs left to promise, {wanted} are wanted"),
            Resource::Memory | Resource::Disk => {
                let (free, wanted) = (ByteSize::bytes(free), ByteSize::bytes(wanted));
                write!(f, "has {free} of {} left to promise, {wanted} are wanted", self.resource)
            }
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAsked => f.write_str("is not the node that was asked for"),
            Self::Dead => f.write_str("is not reachable"),
            Self::Cordoned => f.write_str("is cordoned"),
            Self::Arch { has, wanted } => write!(f, "is {has}, the image is for {wanted}"),
            Self::Label { key, value } => write!(f, "has no label {key}={value}"),
            Self::Bridge { wanted, has } if has.is_empty() => write!(f, "lets VMs on no bridge, so not on {wanted}"),
            Self::Bridge { wanted, has } => {
                let has: Vec<_> = has.iter().map(BridgeName::as_str).collect();
                write!(f, "does not let VMs on bridge {wanted}, only on {}", has.join(", "))
            }
            Self::Threads { has, wanted } => write!(f, "has {has} CPU threads, one VM cannot have {wanted} CPUs there"),
            Self::Group { count: 1 } => f.write_str("has a VM of the same group"),
            Self::Group { count } => write!(f, "has {count} VMs of the same group"),
            Self::Short(shortages) => {
                for (n, shortage) in shortages.iter().enumerate() {
                    write!(f, "{}{shortage}", if n == 0 { "" } else { ", " })?;
                }
                Ok(())
            }
        }
    }
}

/// What a node has too little of to take one more VM; empty if it fits. Apply settles by the same rule.
#[must_use]
pub fn shortages(
    capacity: &Capacity,
    reserved: &Reserved,
    cpus: u32,
    memory: ByteSize,
    disk: ByteSize,
) -> Vec<Shortage> {
    let checks = [
        (Resource::Cpus, u64::from(capacity.cpus), reserved.cpus, u64::from(cpus)),
        (Resource::Memory, capacity.memory.as_bytes(), reserved.memory.as_bytes(), memory.as_bytes()),
        (Resource::Disk, capacity.disk.as_bytes(), reserved.disk.as_bytes(), disk.as_bytes()),
    ];
    let short = |(resource, has, taken, wanted): (Resource, u64, u64, u64)| {
        let free = has.saturating_sub(taken);
        (wanted > free).then_some(Shortage { resource, wanted, free })
    };
    checks.into_iter().filter_map(short).collect()
}

/// Chooses a node.
///
/// # Errors
/// If none can take it; says why, for each node.
pub fn place(request: &Request, candidates: &[Candidate]) -> Result<Decision, Refusal> {
    if candidates.is_empty() {
        return Err(Refusal::NoNodes);
    }
    if let Some(pin) = &request.pin
        && !candidates.iter().any(|c| c.name == *pin)
    {
        return Err(Refusal::NoSuchNode(pin.clone()));
    }
    let (mut fit, mut rejected) = (Vec::new(), Vec::new());
    for candidate in candidates {
        match obstacle(request, candidate) {
            None => fit.push(candidate),
            Some(why) => rejected.push((candidate.name.clone(), why)),
        }
    }
    rejected.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut scored: Vec<(Score, &Candidate)> = scores(request, &fit).into_iter().zip(fit).collect();
    scored.sort_by_key(|(score, candidate)| (Reverse(score.sum()), candidate.name.clone(), candidate.id));
    let Some((score, winner)) = scored.first() else {
        return Err(Refusal::NoneFits(rejected));
    };
    let reason = match scored.get(1) {
        None if request.pin.is_some() => "the node that was asked for".to_owned(),
        None if rejected.is_empty() => "the only node".to_owned(),
        None => format!("the only one of {} nodes that fits", candidates.len()),
        Some((next, _)) => format!("{} of {} nodes", score.advantage(next), scored.len()),
    };
    Ok(Decision { node: winner.id, name: winner.name.clone(), reason, rejected })
}

fn obstacle(request: &Request, candidate: &Candidate) -> Option<Why> {
    if request.pin.as_ref().is_some_and(|pin| *pin != candidate.name) {
        return Some(Why::NotAsked);
    }
    if !candidate.alive {
        return Some(Why::Dead);
    }
    if candidate.cordoned {
        return Some(Why::Cordoned);
    }
    let capacity = &candidate.capacity;
    if let Some(wanted) = request.arch.filter(|wanted| *wanted != capacity.arch) {
        return Some(Why::Arch { has: capacity.arch, wanted });
    }
    if let Some((key, value)) =
        request.node_labels.iter().find(|(key, value)| candidate.labels.get(key) != Some(*value))
    {
        return Some(Why::Label { key: key.to_owned(), value: value.to_owned() });
    }
    if let Some(wanted) = request.bridges.iter().find(|wanted| !capacity.bridges.contains(wanted)) {
        return Some(Why::Bridge { wanted: wanted.clone(), has: capacity.bridges.clone() });
    }
    if request.cpus > capacity.threads {
        return Some(Why::Threads { has: capacity.threads, wanted: request.cpus });
    }
    if request.spread == Spread::Require && candidate.group_count > 0 {
        return Some(Why::Group { count: candidate.group_count });
    }
    let short = shortages(capacity, &candidate.reserved, request.cpus, request.memory, request.disk);
    (!short.is_empty()).then_some(Why::Short(short))
}

/// What speaks for a node, as far as it can be compared with what speaks for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Score {
    group: i64,
    template: i64,
    memory: i64,
    cpus: i64,
}

impl Score {
    fn sum(self) -> i64 {
        self.group + self.template + self.memory + self.cpus
    }

    /// What sets this apart most from the next best.
    fn advantage(self, next: &Self) -> &'static str {
        let margins = [
            (self.group - next.group, "fewest VMs of the group"),
            (self.memory - next.memory, "most free memory"),
            (self.cpus - next.cpus, "most free CPUs"),
            (self.template - next.template, "the template is there already, best"),
        ];
        // The first of equal margins, in the order above.
        let best = margins.into_iter().reduce(|best, other| if other.0 > best.0 { other } else { best });
        best.filter(|(margin, _)| *margin > 0).map_or("first by name", |(_, text)| text)
    }
}

/// Amounts left count in thousandths of the most that any of the fitting nodes has left.
fn scores(request: &Request, fit: &[&Candidate]) -> Vec<Score> {
    let left = |c: &Candidate| {
        let after = c.reserved.and(request.cpus, request.memory, request.disk);
        let memory = (c.capacity.memory - after.memory).as_bytes();
        (memory, u64::from(c.capacity.cpus).saturating_sub(after.cpus))
    };
    let most_memory = fit.iter().map(|c| left(c).0).max().unwrap_or(0);
    let most_cpus = fit.iter().map(|c| left(c).1).max().unwrap_or(0);
    let share = |part: u64, most: u64| (u128::from(part) * 1000).checked_div(u128::from(most)).unwrap_or(0) as i64;
    let score = |c: &&Candidate| {
        let (memory, cpus) = left(c);
        Score {
            group: -GROUP_MEMBER.saturating_mul(i64::from(c.group_count)),
            template: if c.has_template { TEMPLATE_HERE } else { 0 },
            memory: MEMORY_WEIGHT * share(memory, most_memory),
            cpus: share(cpus, most_cpus),
        }
    };
    fit.iter().map(score).collect()
}

#[cfg(test)]
mod tests;

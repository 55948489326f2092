//! What must be true of every state that apply ever leaves behind. Tests and simulations ask after each step; the
//! rules are written here a second time, from the outside, and share no code with apply.

use crate::{
    change,
    ids::{NodeId, VmId},
    network,
    placement::Reserved,
    state::ClusterState,
    template::ImageFormat,
    vm::{ImageRef, Mac},
};
use std::collections::BTreeMap;

/// A rule that a state breaks. The text names the rule's breakers, for whoever has to find out how they came to be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Violation {
    /// Something exists before the cluster does.
    #[error("there are nodes, VMs, templates or tokens, but no cluster")]
    NoCluster,
    /// A cluster without a node cannot be reached, and has nowhere to put anything.
    #[error("the cluster has no node")]
    NoNode,
    /// A record is filed under another key than its own.
    #[error("{what} is filed under another id")]
    Misfiled {
        /// The record.
        what: String,
    },
    /// Two objects share what only one may have.
    #[error("{what} {value} belongs to {first} and to {second}")]
    Twice {
        /// What only one may have.
        what: &'static str,
        /// The shared value.
        value: String,
        /// One holder.
        first: String,
        /// The other.
        second: String,
    },
    /// A node's subnet is not one of the cluster's.
    #[error("the subnet {subnet} of node {node} is not one of the cluster's")]
    StraySubnet {
        /// The node.
        node: NodeId,
        /// Its subnet.
        subnet: String,
    },
    /// A VM's owner is no member.
    #[error("VM {vm} is placed on {node}, which is no member")]
    NoOwner {
        /// The VM.
        vm: VmId,
        /// The missing node.
        node: NodeId,
    },
    /// A VM's address is not one that guests of its owner can have.
    #[error("VM {vm} has the address {ip}, which is no guest address of {subnet}")]
    StrayAddress {
        /// The VM.
        vm: VmId,
        /// Its address.
        ip: String,
        /// Its owner's subnet.
        subnet: String,
    },
    /// A VM's MAC is not the one of its address.
    #[error("VM {vm} has the MAC {mac}, which is not that of its address")]
    StrayMac {
        /// The VM.
        vm: VmId,
        /// Its MAC.
        mac: Mac,
    },
    /// A VM stands on a template version that does not exist.
    #[error("VM {vm} stands on {template}@{version}, which does not exist")]
    NoVersion {
        /// The VM.
        vm: VmId,
        /// The template.
        template: String,
        /// The version.
        version: String,
    },
    /// A VM's hardware breaks a rule.
    #[error("VM {vm}: {why}")]
    BadHardware {
        /// The VM.
        vm: VmId,
        /// The rule.
        why: String,
    },
    /// A VM's disk is smaller than its image.
    #[error("the disk of VM {vm} is smaller than its image")]
    SmallDisk {
        /// The VM.
        vm: VmId,
    },
    /// A peer's address is not one for peers.
    #[error("peer {peer} has the address {ip}, which is not one for peers")]
    StrayPeer {
        /// The peer.
        peer: String,
        /// Its address.
        ip: String,
    },
    /// Generations begin with one, and so do a guest's lives.
    #[error("VM {vm} has generation or life zero")]
    NoGeneration {
        /// The VM.
        vm: VmId,
    },
    /// A node promises more than it has.
    #[error("node {node} promises {promised} of {resource}, it has {has}")]
    Overbooked {
        /// The node.
        node: NodeId,
        /// Of what.
        resource: &'static str,
        /// How much it promises.
        promised: u64,
        /// How much it has.
        has: u64,
    },
    /// Something happened after the last command.
    #[error("{what} is younger than the last command")]
    Future {
        /// The record.
        what: String,
    },
}

/// Checks what must always be true; empty if all is well. Whether nodes are [`overbooked`] is a question of its own.
#[must_use]
pub fn check(state: &ClusterState) -> Vec<Violation> {
    let mut found = Vec::new();
    existence(state, &mut found);
    uniqueness(state, &mut found);
    subnets(state, &mut found);
    vms(state, &mut found);
    times(state, &mut found);
    found
}

/// The nodes that promise more than they have. Apply never places a VM that does not fit, so this is empty for as long
/// as no node [reports](crate::command::Command::UpdateNode) less capacity than it had: that report is a fact, and is never refused.
#[must_use]
pub fn overbooked(state: &ClusterState) -> Vec<Violation> {
    let mut promised: BTreeMap<NodeId, Reserved> = BTreeMap::new();
    for vm in state.vms.values() {
        let sum = promised.entry(vm.node).or_default();
        *sum = sum.and(vm.spec.cpus, vm.spec.memory_promised(), vm.spec.disk_promised());
    }
    let mut found = Vec::new();
    for (&node, sum) in &promised {
        let Some(capacity) = state.nodes.get(&node).map(|n| &n.capacity) else { continue };
        let amounts = [
            ("CPUs", sum.cpus, u64::from(capacity.cpus)),
            ("memory", sum.memory.as_bytes(), capacity.memory.as_bytes()),
            ("disk", sum.disk.as_bytes(), capacity.disk.as_bytes()),
        ];
        let over = amounts.into_iter().filter(|(_, promised, has)| promised > has);
        found.extend(over.map(|(resource, promised, has)| Violation::Overbooked { node, resource, promised, has }));
    }
    found
}

fn existence(state: &ClusterState, found: &mut Vec<Violation>) {
    if state.cluster.is_some() {
        if state.nodes.is_empty() {
            found.push(Violation::NoNode);
        }
    } else if !(state.nodes.is_empty()
        && state.vms.is_empty()
        && state.templates.is_empty()
        && state.join_tokens.is_empty()
        && state.net_peers.is_empty()
        && state.api_tokens.is_empty())
    {
        found.push(Violation::NoCluster);
    }
    let mut filed = |right: bool, what: String| {
        if !right {
            found.push(Violation::Misfiled { what });
        }
    };
    state.nodes.iter().for_each(|(id, node)| filed(*id == node.id, format!("node {}", node.id)));
    state.vms.iter().for_each(|(id, vm)| filed(*id == vm.id, format!("VM {}", vm.id)));
    for ((template, version), record) in &state.templates {
        let right = *template == record.template && *version == record.version;
        filed(right, format!("template {}@{}", record.template, record.version));
    }
    state.net_peers.iter().for_each(|(name, peer)| filed(*name == peer.name, format!("peer {}", peer.name)));
    state.join_tokens.iter().for_each(|(id, token)| filed(*id == token.id, format!("join token {}", token.id)));
    state.api_tokens.iter().for_each(|(id, token)| filed(*id == token.id, format!("API token {}", token.id)));
}

fn uniqueness(state: &ClusterState, found: &mut Vec<Violation>) {
    let mut holders: BTreeMap<(&'static str, String), String> = BTreeMap::new();
    let mut hold = |what: &'static str, value: String, holder: String| {
        if let Some(first) = holders.insert((what, value.clone()), holder.clone()) {
            found.push(Violation::Twice { what, value, first, second: holder });
        }
    };
    for node in state.nodes.values() {
        let holder = || format!("node {}", node.id);
        hold("node name", node.name.to_string(), holder());
        hold("peer address", node.advertise.to_string(), holder());
        hold("key", node.fingerprint.to_string(), holder());
        if let Some(mesh) = node.mesh {
            hold("mesh key", mesh.key.to_string(), holder());
        }
    }
    for vm in state.vms.values() {
        let holder = || format!("VM {}", vm.id);
        hold("VM name", vm.name.to_string(), holder());
        hold("address", vm.ip.to_string(), holder());
        hold("MAC", vm.mac.to_string(), holder());
    }
    for peer in state.net_peers.values() {
        let holder = || format!("peer {}", peer.name);
        hold("mesh key", peer.key.to_string(), holder());
        hold("address", peer.ip.to_string(), holder());
    }
    for token in state.join_tokens.values() {
        hold("token id", token.id.to_string(), "a join token".to_owned());
    }
    for token in state.api_tokens.values() {
        hold("token id", token.id.to_string(), "an API token".to_owned());
        hold("token hash", token.hash.to_string(), format!("API token {}", token.id));
    }
}

fn subnets(state: &ClusterState, found: &mut Vec<Violation>) {
    let mut nodes: Vec<_> = state.nodes.values().collect();
    nodes.sort_by_key(|node| (node.subnet.network(), node.id));
    for pair in nodes.windows(2) {
        // In order of their first address, so whoever overlaps anyone overlaps the next.
        if pair[0].subnet.broadcast() >= pair[1].subnet.network() {
            found.push(Violation::Twice {
                what: "subnet",
                value: pair[1].subnet.to_string(),
                first: format!("node {}", pair[0].id),
                second: format!("node {}", pair[1].id),
            });
        }
    }
    let Some(cluster) = &state.cluster else { return };
    for node in nodes {
        let subnet = node.subnet;
        let of_the_cluster = cluster.cidr.contains(&subnet) && subnet.prefix_len() == cluster.subnet_prefix;
        if !of_the_cluster || subnet.trunc() != subnet {
            found.push(Violation::StraySubnet { node: node.id, subnet: subnet.to_string() });
        }
    }
    let kept = network::peer_subnet(cluster.cidr, cluster.subnet_prefix);
    let stray = |ip| !kept.is_some_and(|kept| network::is_guest(kept, ip));
    for peer in state.net_peers.values().filter(|peer| stray(peer.ip)) {
        found.push(Violation::StrayPeer { peer: peer.name.to_string(), ip: peer.ip.to_string() });
    }
}

fn vms(state: &ClusterState, found: &mut Vec<Violation>) {
    for vm in state.vms.values() {
        match state.nodes.get(&vm.node) {
            None => found.push(Violation::NoOwner { vm: vm.id, node: vm.node }),
            Some(owner) if !network::is_guest(owner.subnet, vm.ip) => found.push(Violation::StrayAddress {
                vm: vm.id,
                ip: vm.ip.to_string(),
                subnet: owner.subnet.to_string(),
            }),
            Some(_) => {}
        }
        if vm.mac != Mac::of(vm.ip) {
            found.push(Violation::StrayMac { vm: vm.id, mac: vm.mac });
        }
        let image = &vm.spec.image;
        if let Err(reject) = change::check(&vm.spec) {
            found.push(Violation::BadHardware { vm: vm.id, why: reject.to_string() });
        }
        let version = |image: &ImageRef| state.templates.get(&(image.template.clone(), image.version));
        if let Some(cd) = &vm.spec.hardware.cd
            && version(cd).is_none_or(|cd| cd.format != ImageFormat::Iso)
        {
            found.push(Violation::NoVersion {
                vm: vm.id,
                template: cd.template.to_string(),
                version: cd.version.to_string(),
            });
        }
        match version(image) {
            None => found.push(Violation::NoVersion {
                vm: vm.id,
                template: image.template.to_string(),
                version: image.version.to_string(),
            }),
            Some(version) if vm.spec.disk < version.least_disk() => found.push(Violation::SmallDisk { vm: vm.id }),
            Some(_) => {}
        }
        if vm.generation.0 == 0 || vm.instance == 0 || vm.disk_life == 0 {
            found.push(Violation::NoGeneration { vm: vm.id });
        }
    }
}

fn times(state: &ClusterState, found: &mut Vec<Violation>) {
    let nodes = state.nodes.values().map(|node| (node.joined_at, format!("node {}", node.id)));
    let vms = state.vms.values().map(|vm| (vm.created_at, format!("VM {}", vm.id)));
    let versions = state.templates.values().map(|t| (t.added_at, format!("template {}@{}", t.template, t.version)));
    let joins = state.join_tokens.values().map(|t| (t.created_at, format!("join token {}", t.id)));
    let apis = state.api_tokens.values().map(|t| (t.created_at, format!("API token {}", t.id)));
    let peers = state.net_peers.values().map(|peer| (peer.created_at, format!("peer {}", peer.name)));
    let all = nodes.chain(peers).chain(vms).chain(versions).chain(joins).chain(apis);
    found.extend(all.filter(|(at, _)| *at > state.log_time).map(|(_, what)| Violation::Future { what }));
}

#[cfg(test)]
mod tests;

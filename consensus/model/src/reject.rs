//! Why apply refused a command. Deterministic: every node refuses the same command for the same reason.

use crate::{
    digest::Blake3,
    ids::{Generation, NodeId, TokenId, VmId},
    labels::LabelError,
    name::{BridgeName, NodeName, PeerName, TemplateName, VmName},
    scope::Scope,
    size::ByteSize,
    token::Role,
};
use serde::{Deserialize, Serialize};

/// A refusal. The state is as it was before the command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Reject {
    /// The cluster exists already.
    #[error("the cluster is already initialised")]
    AlreadyInitialised,
    /// Nothing may come before [`InitCluster`](crate::command::Command::InitCluster).
    #[error("the cluster is not initialised")]
    NotInitialised,
    /// The actor's token is unknown, revoked or expired.
    #[error("the token is unknown, expired or revoked")]
    UnknownActor,
    /// The actor's role is not enough.
    #[error("this needs the role {needed}")]
    NotAllowed {
        /// The least role that may.
        needed: Role,
    },
    /// The actor's token is for some VMs only, and this is about something else.
    #[error("a token with a scope changes VMs only")]
    VmsOnly,
    /// What would come of it is a VM that the actor's token is not for.
    #[error("the VM would not have the labels {scope}")]
    OutsideScope {
        /// What the token is for.
        scope: Scope,
    },
    /// A node spoke for something that is not its own.
    #[error("node {0} may speak for itself and its own VMs only")]
    NotYours(NodeId),
    /// Only nodes do this, each on its own account.
    #[error("only a node does this, on its own account")]
    NodesOnly,
    /// The same request key came with another body.
    #[error("the idempotency key was used for a different request")]
    KeyReused,
    /// No such node.
    #[error("there is no node {0}")]
    NoSuchNode(NodeId),
    /// The node's name is taken.
    #[error("node name {name} is taken by node {holder}")]
    NodeNameTaken {
        /// The name.
        name: NodeName,
        /// Who has it.
        holder: NodeId,
    },
    /// The node id, key or address is taken.
    #[error("the {what} of the new node is taken by node {holder}")]
    NodeTaken {
        /// "id", "key" or "address".
        what: String,
        /// Who has it.
        holder: NodeId,
    },
    /// VMs are placed on the node.
    #[error("{count} VMs are placed on node {node}")]
    NodeHasVms {
        /// The node.
        node: NodeId,
        /// How many VMs.
        count: u32,
    },
    /// The last member cannot leave.
    #[error("the last node cannot be removed")]
    LastNode,
    /// No new VMs on this node.
    #[error("node {0} is cordoned")]
    Cordoned(NodeId),
    /// The join token cannot be used.
    #[error("join token {id} is {why}")]
    BadJoinToken {
        /// Which.
        id: TokenId,
        /// "unknown", "expired" or "used up".
        why: String,
    },
    /// No such token to revoke.
    #[error("there is no token {0}")]
    NoSuchToken(TokenId),
    /// The id of a new object is taken.
    #[error("the id {0} is taken")]
    IdTaken(String),
    /// No such VM.
    #[error("there is no VM {0}")]
    NoSuchVm(VmId),
    /// The VM's name is taken.
    #[error("VM name {name} is taken by VM {holder} on node {node}")]
    VmNameTaken {
        /// The name.
        name: VmName,
        /// Who has it.
        holder: VmId,
        /// Where that one is.
        node: NodeId,
    },
    /// The VM is being deleted.
    #[error("VM {0} is being deleted")]
    VmDeleting(VmId),
    /// The VM is protected.
    #[error("VM {0} is protected")]
    Protected(VmId),
    /// Only a VM that is to run can be rebooted or paused.
    #[error("VM {0} is not to run")]
    NotRunning(VmId),
    /// The VM's node has no such bridge that guests may use.
    #[error("node {node} has no bridge {bridge} for VMs")]
    NoSuchBridge {
        /// The node.
        node: NodeId,
        /// What was asked for.
        bridge: BridgeName,
    },
    /// Only an image of this kind can be used so.
    #[error("template {template} is not {wanted}")]
    WrongFormat {
        /// The template.
        template: TemplateName,
        /// "a CD (ISO 9660)".
        wanted: String,
    },
    /// Somebody changed the VM in between.
    #[error("VM {vm} is at generation {actual}, not {expected}")]
    Stale {
        /// Which.
        vm: VmId,
        /// What the request was made for.
        expected: Generation,
        /// What it is.
        actual: Generation,
    },
    /// A VM can only be confirmed gone while it is being deleted.
    #[error("VM {0} is not being deleted")]
    NotDeleting(VmId),
    /// A field of a new VM is outside its limits.
    #[error("{field}: {why}")]
    BadSpec {
        /// The field.
        field: String,
        /// The limit.
        why: String,
    },
    /// The VM does not fit on the chosen node (any more): placement is to be asked again.
    #[error("node {node} has {free} of {resource} left to promise, {wanted} are wanted")]
    DoesNotFit {
        /// The node.
        node: NodeId,
        /// Memory, disk or CPUs.
        resource: Resource,
        /// What is wanted; bytes or CPUs.
        wanted: u64,
        /// What is free; bytes or CPUs.
        free: u64,
    },
    /// No such peer.
    #[error("there is no peer {0}")]
    NoSuchPeer(PeerName),
    /// A peer's name or key is taken.
    #[error("the {what} of the new peer is taken by {holder}")]
    PeerTaken {
        /// "name" or "key".
        what: String,
        /// Who has it: "peer laptop", "node 1f…".
        holder: String,
    },
    /// No address is left for peers.
    #[error("no address is free for another peer")]
    NoPeerAddress,
    /// Somebody changed the cluster's cloud-init defaults in between.
    #[error("the cluster's cloud-init defaults are at generation {actual}, not {expected}")]
    StaleDefaults {
        /// What the request was made for.
        expected: Generation,
        /// What it is.
        actual: Generation,
    },
    /// No address is left on the node's subnet.
    #[error("no address is free in the subnet of node {0}")]
    NoAddress(NodeId),
    /// No subnet is left in the cluster's CIDR.
    #[error("no subnet is free in the cluster's CIDR")]
    NoSubnet,
    /// No such template.
    #[error("there is no template {0}")]
    NoSuchTemplate(TemplateName),
    /// No such version of a template.
    #[error("template {template} has no version {version}")]
    NoSuchVersion {
        /// The template.
        template: TemplateName,
        /// The version.
        version: Blake3,
    },
    /// The disk would be smaller than the image.
    #[error("a disk of {wanted} is smaller than the template's {least}")]
    DiskTooSmall {
        /// What is wanted.
        wanted: ByteSize,
        /// The image's size.
        least: ByteSize,
    },
    /// The template has this version already.
    #[error("template {template} has version {version} already")]
    VersionExists {
        /// The template.
        template: TemplateName,
        /// The version.
        version: Blake3,
    },
    /// VMs stand on the version.
    #[error("{count} VMs stand on template {template}")]
    TemplateInUse {
        /// The template.
        template: TemplateName,
        /// How many VMs.
        count: u32,
    },
    /// A feature level never goes down, and this build knows only so many.
    #[error("feature level {wanted} cannot follow {current}")]
    BadFeatureLevel {
        /// What was asked for.
        wanted: u32,
        /// What it is.
        current: u32,
    },
    /// A constraint of the database held against the command: a rule that apply should have checked by itself.
    #[error("the state refused it: {0}")]
    Constraint(String),
}

impl From<LabelError> for Reject {
    fn from(error: LabelError) -> Self {
        Self::BadSpec { field: "labels".to_owned(), why: error.to_string() }
    }
}

/// What a node can run out of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// Virtual CPUs.
    Cpus,
    /// Bytes of memory.
    Memory,
    /// Bytes of disk.
    Disk,
}

impl std::fmt::Display for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Cpus => "CPUs",
            Self::Memory => "memory",
            Self::Disk => "disk",
        })
    }
}

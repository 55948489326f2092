//! What the log holds: typed commands in envelopes. Their encoding is pinned by golden bytes; fields are only ever added.

use crate::{
    change::VmChange,
    cloud_init::{CloudDefaults, CloudInit, UserData},
    digest::{Blake3, Fingerprint},
    event::EventKind,
    ids::{ClusterId, Generation, NodeId, TokenId, VmId},
    labels::LabelPatch,
    mesh::{MeshEnd, MeshKey, NetPeer},
    name::{NodeName, PeerName, TemplateName, VmName},
    node::{Capacity, Node},
    template::TemplateVersion,
    time::Timestamp,
    token::{ApiToken, JoinToken},
    vm::{Console, Desired, ImageRef, Mac, Phase, Vm, VmSpec},
};
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    str::FromStr,
};

/// A command on its way into the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Makes a repetition harmless.
    pub request: RequestKey,
    /// Who asks. Apply checks again that the actor may.
    pub actor: Actor,
    /// When; stamped by the leader. Apply uses the later of this and the last one applied.
    pub at: Timestamp,
    /// What is asked.
    pub command: Command,
}

/// Identifies a request among its actor's requests. A repetition within the key's lifetime gets the first one's reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestKey {
    /// The client's `Idempotency-Key`, or a fresh random one.
    pub key: String,
    /// BLAKE3 of the request: the same key with another body is refused.
    pub body: Blake3,
    /// Who chose the key, and so how long it is remembered.
    pub origin: Origin,
}

/// Who chose a request key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// A client: remembered for 24 hours.
    Client,
    /// A node, for its own retries: remembered for 10 minutes.
    Internal,
}

/// Who asks for a command.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Actor {
    /// A process on a node's local socket; always an admin.
    Local {
        /// The node whose socket it was.
        node: NodeId,
        /// The process's user id, as the kernel told it.
        uid: u32,
    },
    /// The bearer of an API token; its role is looked up at every apply.
    Token(TokenId),
    /// A node, on its own account. It may speak for itself and its VMs only.
    Node(NodeId),
}

impl Actor {
    /// Whose request keys these are. A local user who tries again through another node's socket is the same requester:
    /// whoever may use a local socket is an admin everywhere, and a retry must find the first reply.
    #[must_use]
    pub fn requester(&self) -> String {
        match self {
            Self::Local { uid, .. } => format!("uid:{uid}"),
            Self::Token(_) | Self::Node(_) => self.to_string(),
        }
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local { node, uid } => write!(f, "uid:{uid}@{node}"),
            Self::Token(id) => write!(f, "token:{id}"),
            Self::Node(id) => write!(f, "node:{id}"),
        }
    }
}

/// A text that names no actor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it names nobody who acts")]
pub struct ActorError;

impl FromStr for Actor {
    type Err = ActorError;

    /// Reads what `Display` writes.
    fn from_str(text: &str) -> Result<Self, ActorError> {
        let parse = || {
            let (kind, rest) = text.split_once(':')?;
            Some(match kind {
                "uid" => {
                    let (uid, node) = rest.split_once('@')?;
                    Self::Local { node: node.parse().ok()?, uid: uid.parse().ok()? }
                }
                "token" => Self::Token(rest.parse().ok()?),
                "node" => Self::Node(rest.parse().ok()?),
                _ => return None,
            })
        };
        parse().ok_or(ActorError)
    }
}

/// Everything that can change the replicated state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// The first command of every cluster.
    InitCluster(Box<InitCluster>),
    /// A machine becomes a member.
    AddNode(Box<AddNode>),
    /// A node's own facts changed.
    UpdateNode {
        /// Which.
        node: NodeId,
        /// Where peers reach it now.
        advertise: SocketAddr,
        /// What it can give now.
        capacity: Capacity,
    },
    /// A node renewed its key; the old one is refused from now on.
    RotateNodeKey {
        /// Which.
        node: NodeId,
        /// The new key.
        fingerprint: Fingerprint,
    },
    /// A node made its end of the mesh, or another one.
    SetMeshEnd {
        /// Which.
        node: NodeId,
        /// Its public key and port.
        end: MeshEnd,
    },
    /// New VMs may, or may no longer, be placed on a node.
    SetCordon {
        /// Which.
        node: NodeId,
        /// True: no new VMs.
        cordoned: bool,
    },
    /// A node leaves for good.
    RemoveNode {
        /// Which.
        node: NodeId,
        /// Even though VMs are placed on it: they are lost with it.
        force: bool,
    },
    /// Machines may join with this.
    CreateJoinToken(JoinToken),
    /// Machines may no longer join with this.
    RevokeJoinToken(TokenId),
    /// Clients may use the API with this.
    CreateApiToken(Box<ApiToken>),
    /// Clients may no longer use the API with this.
    RevokeApiToken(TokenId),
    /// A VM on a node that was chosen before; apply checks the choice again.
    CreateVm(Box<CreateVm>),
    /// Start, stop, pause or resume a VM.
    SetPower {
        /// Which.
        vm: VmId,
        /// What is wanted.
        desired: Desired,
        /// How long its guest may take to go off, in seconds: see [`Vm::grace`].
        grace: Option<u32>,
        /// Refuse unless this is the generation now.
        expect: Option<Generation>,
    },
    /// Off and on again with a VM, which takes up what waits for that.
    RebootVm {
        /// Which.
        vm: VmId,
        /// How long its guest may take to go off, in seconds: see [`Vm::grace`].
        grace: Option<u32>,
        /// Refuse unless this is the generation now.
        expect: Option<Generation>,
    },
    /// What a VM is made of changes.
    ChangeVm {
        /// Which.
        vm: VmId,
        /// What shall be different.
        change: Box<VmChange>,
        /// Refuse unless this is the generation now.
        expect: Option<Generation>,
    },
    /// A VM gets another name.
    RenameVm {
        /// Which.
        vm: VmId,
        /// What it is called from now on.
        name: VmName,
        /// Refuse unless this is the generation now.
        expect: Option<Generation>,
    },
    /// A VM is made anew: a fresh root disk from a version of its template, and a new life of its guest.
    ReinitVm {
        /// Which.
        vm: VmId,
        /// What its disk starts from.
        image: ImageRef,
        /// Refuse unless this is the generation now.
        expect: Option<Generation>,
    },
    /// Labels of a node change.
    SetNodeLabels {
        /// Which.
        node: NodeId,
        /// Those that come, change or go.
        labels: LabelPatch,
    },
    /// What a VM's guest is told changes, all of it at once.
    SetCloudInit(Box<SetCloudInit>),
    /// What every guest is told changes.
    SetCloudDefaults(Box<SetCloudDefaults>),
    /// A machine that is no node may reach the guests from now on; apply gives it an address.
    AddNetPeer {
        /// Its name.
        name: PeerName,
        /// Its public key.
        key: MeshKey,
    },
    /// A machine may no longer reach the guests.
    RemoveNetPeer(PeerName),
    /// Away with a VM, disk included.
    DeleteVm {
        /// Which.
        vm: VmId,
        /// Refuse unless this is the generation now.
        expect: Option<Generation>,
    },
    /// The owner has removed the last trace of a VM in phase *deleting*: name, address and MAC are free again.
    ConfirmVmGone {
        /// Which.
        vm: VmId,
    },
    /// Somebody has opened a console of a VM: told, and nothing else.
    OpenConsole {
        /// Whose.
        vm: VmId,
        /// Which.
        console: Console,
    },
    /// A new version of a template; the template comes to be with its first.
    AddTemplateVersion(Box<TemplateVersion>),
    /// Away with a template or one of its versions. Refused while VMs stand on it.
    DeleteTemplate {
        /// Which.
        template: TemplateName,
        /// Only this version; none means all.
        version: Option<Blake3>,
    },
    /// What a node saw happen to its VMs, in order.
    ReportVmEvents(Vec<VmReport>),
    /// All members can do more; proposed by the leader.
    RaiseFeatureLevel(u32),
}

/// The first command of every cluster.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitCluster {
    /// The cluster's identity.
    pub cluster: ClusterId,
    /// The CA's certificate, DER.
    #[serde(with = "crate::bytes")]
    pub ca_cert: Vec<u8>,
    /// The CA's private key, PKCS #8 DER: replicated, so that any node can let others join.
    #[serde(with = "crate::bytes")]
    pub ca_key: Vec<u8>,
    /// What all VMs' addresses are taken from.
    pub cidr: Ipv4Net,
    /// The prefix length of each node's subnet.
    pub subnet_prefix: u8,
    /// The first member.
    pub node: NewNode,
}

impl fmt::Debug for InitCluster {
    /// Without the CA's key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InitCluster")
            .field("cluster", &self.cluster)
            .field("cidr", &self.cidr)
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

/// What a machine says of itself when it becomes a member; the subnet is allocated by apply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewNode {
    /// The id that was minted for it.
    pub id: NodeId,
    /// Its name.
    pub name: NodeName,
    /// Where peers reach it.
    pub advertise: SocketAddr,
    /// The key in its certificate.
    pub fingerprint: Fingerprint,
    /// What it can give.
    pub capacity: Capacity,
}

/// A machine becomes a member by a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddNode {
    /// Who.
    pub node: NewNode,
    /// The token that lets it in; one use is taken off.
    pub token: TokenId,
}

/// A VM to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateVm {
    /// The id that was minted for it.
    pub id: VmId,
    /// Its name.
    pub name: VmName,
    /// The node that placement chose.
    pub node: NodeId,
    /// What it is made of.
    pub spec: VmSpec,
    /// Should it run at once?
    pub desired: Desired,
}

impl CreateVm {
    /// The VM in its first generation, with the address that it was given at `created_at`.
    #[must_use]
    pub fn record(&self, ip: Ipv4Addr, created_at: Timestamp) -> Vm {
        Vm {
            id: self.id,
            name: self.name.clone(),
            node: self.node,
            spec: self.spec.clone(),
            desired: self.desired,
            phase: Phase::Live,
            ip,
            mac: Mac::of(ip),
            generation: Generation::FIRST,
            instance: 1,
            disk_life: 1,
            reboots: 0,
            grace: None,
            created_at,
        }
    }
}

/// What a VM's guest is told changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetCloudInit {
    /// Which.
    pub vm: VmId,
    /// What it is told from now on.
    pub cloud_init: CloudInit,
    /// True begins a new life of the guest: cloud-init runs everything again at the next boot.
    pub rerun: bool,
    /// Refuse unless this is the generation now.
    pub expect: Option<Generation>,
}

/// What every guest is told changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetCloudDefaults {
    /// User-data that each VM's own is merged over.
    pub user_data: Option<UserData>,
    /// Vendor-data.
    pub vendor_data: Option<UserData>,
    /// Refuse unless this is the defaults' generation now.
    pub expect: Option<Generation>,
}

/// What a node saw happen to one of its VMs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmReport {
    /// Which.
    pub vm: VmId,
    /// What happened.
    pub kind: EventKind,
    /// The generation the node was working on. A report of an older one never changes the desired state.
    pub generation: Generation,
    /// The guest was shut down from inside: desired becomes stopped.
    pub by_guest: bool,
    /// The error, where something failed; at most 1 KiB is kept.
    pub detail: Option<String>,
}

/// What an accepted command gives back. Stored with the request key, so that a repetition gets the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// It is done.
    Done,
    /// The node as it is now.
    Node(Box<Node>),
    /// The VM as it is now.
    Vm(Box<Vm>),
    /// The template version as it is now.
    Template(Box<TemplateVersion>),
    /// What every guest is told now.
    CloudDefaults(Box<CloudDefaults>),
    /// The peer as it is now.
    NetPeer(Box<NetPeer>),
}

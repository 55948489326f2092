//! Small commands: everything is told apart by a number.

use waifud_consensus::Proposal;
use waifud_model::{
    command::{Actor, AddNode, Command, InitCluster, NewNode, Origin, RequestKey},
    digest::{Blake3, Fingerprint},
    ids::{ClusterId, NodeId, TokenId},
    name::NodeName,
    node::{Arch, Capacity},
    scope::Scope,
    size::ByteSize,
    time::Timestamp,
    token::{ApiToken, JoinToken, Role},
};

pub(crate) fn id(n: u64) -> NodeId {
    NodeId::from_random(n)
}

fn actor() -> Actor {
    Actor::Local { node: id(1), uid: 0 }
}

/// A proposal under a key of its own.
pub(crate) fn proposal(key: &str, command: Command) -> Proposal {
    let body = Blake3::of(format!("{command:?}").as_bytes());
    Proposal {
        request: RequestKey { key: key.into(), body, origin: Origin::Client },
        actor: actor(),
        command,
        request_id: None,
    }
}

fn new_node(n: u64) -> NewNode {
    NewNode {
        id: id(n),
        name: NodeName::new(format!("node{n}")).unwrap(),
        advertise: ([192, 0, 2, u8::try_from(n).unwrap()], 7777).into(),
        fingerprint: Fingerprint([u8::try_from(n).unwrap(); 32]),
        capacity: Capacity {
            cpus: 16,
            threads: 4,
            memory: ByteSize::gib(8),
            disk: ByteSize::gib(100),
            arch: Arch::X86_64,
            kvm: true,
            bridges: Vec::new(),
        },
    }
}

/// The first command, by node 1.
pub(crate) fn init() -> Proposal {
    let command = Command::InitCluster(Box::new(InitCluster {
        cluster: ClusterId::from_random([1; 16]),
        ca_cert: b"certificate".to_vec(),
        ca_key: b"key".to_vec(),
        cidr: "10.77.0.0/16".parse().unwrap(),
        subnet_prefix: 24,
        node: new_node(1),
    }));
    proposal("init", command)
}

/// What lets nodes in.
pub(crate) fn join_token() -> Proposal {
    let token = JoinToken {
        id: TokenId::from_random(1),
        key: [1; 32],
        expires_at: Timestamp(u64::MAX >> 1),
        uses_left: 100,
        created_at: Timestamp(0),
    };
    proposal("join-token", Command::CreateJoinToken(token))
}

/// Node `n` becomes a member.
pub(crate) fn add_node(n: u64) -> Proposal {
    let add = AddNode { node: new_node(n), token: TokenId::from_random(1) };
    proposal(&format!("add-{n}"), Command::AddNode(Box::new(add)))
}

/// Node `n` leaves.
pub(crate) fn remove_node(n: u64) -> Proposal {
    proposal(&format!("remove-{n}"), Command::RemoveNode { node: id(n), force: true })
}

/// A write: token number `n`, with a description of this size.
pub(crate) fn write_sized(n: u64, size: usize) -> Proposal {
    let token = ApiToken {
        id: TokenId::from_random(n + 1000),
        description: "x".repeat(size),
        hash: Blake3::of(&n.to_le_bytes()),
        role: Role::Viewer,
        expires_at: None,
        created_at: Timestamp(0),
        scope: Scope::default(),
    };
    proposal(&format!("write-{n}"), Command::CreateApiToken(Box::new(token)))
}

/// A write: token number `n`.
pub(crate) fn write(n: u64) -> Proposal {
    write_sized(n, 10)
}

/// The id that [`write`] makes.
pub(crate) fn written(n: u64) -> TokenId {
    TokenId::from_random(n + 1000)
}

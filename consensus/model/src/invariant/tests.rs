//! Tests of the invariants: good states pass, and each rule finds a state that breaks it.

use super::*;
use crate::{
    cloud_init::CloudDefaults,
    digest::{Blake3, Fingerprint, Sha256},
    ids::{ClusterId, Generation, TokenId},
    labels::Labels,
    mesh::{MeshEnd, MeshKey, NetPeer},
    name::{NodeName, PeerName, TemplateName, VmName},
    node::{Arch, Capacity, Node},
    scope::Scope,
    size::ByteSize,
    state::ClusterInfo,
    template::{ImageFormat, Source, TemplateVersion},
    time::Timestamp,
    token::{ApiToken, JoinToken, Role},
    vm::{Desired, ImageRef, Phase, Vm, VmSpec},
};
use proptest::prelude::*;
use std::net::Ipv4Addr;

const T: Timestamp = Timestamp(1000);

fn node(n: u8) -> Node {
    Node {
        id: NodeId::from_random(u64::from(n) + 1),
        name: NodeName::new(format!("node{n}")).unwrap(),
        advertise: ([192, 0, 2, n], 7777).into(),
        fingerprint: Fingerprint([n; 32]),
        labels: Labels::default(),
        cordoned: false,
        capacity: Capacity {
            cpus: 8,
            threads: 4,
            memory: ByteSize::gib(4),
            disk: ByteSize::gib(100),
            arch: Arch::X86_64,
            kvm: true,
            bridges: Vec::new(),
        },
        subnet: format!("10.77.{n}.0/24").parse().unwrap(),
        mesh: Some(MeshEnd { key: MeshKey([n; 32]), port: 7444 }),
        joined_at: T,
    }
}

fn vm(n: u8, owner: u8) -> Vm {
    let ip = Ipv4Addr::new(10, 77, owner, n + 2);
    Vm {
        id: VmId::from_random([n; 16]),
        name: VmName::new(format!("vm{n}")).unwrap(),
        node: node(owner).id,
        spec: VmSpec::new(
            1,
            ByteSize::gib(1),
            ByteSize::gib(10),
            ImageRef { template: TemplateName::new("debian-12").unwrap(), version: Blake3([9; 32]) },
        ),
        desired: Desired::Running,
        phase: Phase::Live,
        ip,
        mac: Mac::of(ip),
        generation: Generation::FIRST,
        instance: 1,
        disk_life: 1,
        reboots: 0,
        grace: None,
        created_at: T,
    }
}

fn laptop() -> NetPeer {
    let name = PeerName::new("laptop").unwrap();
    NetPeer { name, key: MeshKey([99; 32]), ip: Ipv4Addr::new(10, 77, 255, 2), created_at: T }
}

fn good() -> ClusterState {
    let version = TemplateVersion {
        template: TemplateName::new("debian-12").unwrap(),
        version: Blake3([9; 32]),
        sha256: Sha256([1; 32]),
        size: ByteSize::mib(300),
        virtual_size: ByteSize::gib(2),
        format: ImageFormat::Qcow2,
        source: Source::Upload,
        origin: node(0).id,
        added_at: T,
    };
    let join = JoinToken { id: TokenId::from_random(5), key: [1; 32], expires_at: T, uses_left: 1, created_at: T };
    let api = ApiToken {
        id: TokenId::from_random(6),
        description: String::new(),
        hash: Blake3([3; 32]),
        role: Role::Viewer,
        expires_at: None,
        created_at: T,
        scope: Scope::default(),
    };
    ClusterState {
        cluster: Some(ClusterInfo {
            id: ClusterId::from_random([1; 16]),
            ca_cert: vec![1],
            ca_key: vec![2],
            cidr: network::DEFAULT_CIDR,
            subnet_prefix: 24,
            feature_level: 1,
        }),
        nodes: (0..3).map(node).map(|n| (n.id, n)).collect(),
        vms: [vm(0, 0), vm(1, 0), vm(2, 1)].into_iter().map(|v| (v.id, v)).collect(),
        templates: [((version.template.clone(), version.version), version)].into(),
        cloud_defaults: CloudDefaults::default(),
        net_peers: [(laptop().name, laptop())].into(),
        join_tokens: [(join.id, join)].into(),
        api_tokens: [(api.id, api)].into(),
        log_time: T,
    }
}

#[test]
fn good_states_are_good() {
    assert_eq!(check(&ClusterState::default()), []);
    assert_eq!(check(&good()), []);
    assert_eq!(overbooked(&good()), []);
}

/// One way to spoil a good state, and a part of the text of what must be found.
type Spoil = (&'static str, fn(&mut ClusterState));

fn first_vm(state: &mut ClusterState) -> &mut Vm {
    state.vms.get_mut(&vm(0, 0).id).unwrap()
}

fn first_node(state: &mut ClusterState) -> &mut Node {
    state.nodes.get_mut(&node(0).id).unwrap()
}

fn first_peer(state: &mut ClusterState) -> &mut NetPeer {
    state.net_peers.values_mut().next().unwrap()
}

const SPOILS: [Spoil; 28] = [
    ("mesh key", |s| first_peer(s).key = MeshKey([0; 32])),
    ("not one for peers", |s| first_peer(s).ip = Ipv4Addr::new(10, 77, 255, 1)),
    ("filed", |s| first_peer(s).name = PeerName::new("other").unwrap()),
    ("younger", |s| first_peer(s).created_at = Timestamp(1001)),
    ("life zero", |s| first_vm(s).instance = 0),
    ("no cluster", |s| s.cluster = None),
    ("no node", |s| {
        s.nodes.clear();
        s.vms.clear();
    }),
    ("under another id", |s| first_vm(s).id = VmId::from_random([77; 16])),
    ("under another id", |s| first_node(s).id = NodeId::from_random(77)),
    ("VM name vm1 belongs to", |s| first_vm(s).name = vm(1, 0).name),
    ("address 10.77.0.3 belongs to", |s| first_vm(s).ip = vm(1, 0).ip),
    ("MAC 52:54:0a:4d:00:03 belongs to", |s| first_vm(s).mac = vm(1, 0).mac),
    ("node name node1 belongs to", |s| first_node(s).name = node(1).name),
    ("peer address 192.0.2.1:7777 belongs to", |s| first_node(s).advertise = node(1).advertise),
    ("key 01010101", |s| first_node(s).fingerprint = node(1).fingerprint),
    ("subnet 10.77.1.0/24 belongs to", |s| first_node(s).subnet = node(1).subnet),
    ("subnet 10.77.1.0/24 belongs to", |s| first_node(s).subnet = "10.77.0.0/23".parse().unwrap()),
    ("not one of the cluster's", |s| first_node(s).subnet = "10.78.0.0/24".parse().unwrap()),
    ("not one of the cluster's", |s| first_node(s).subnet = "10.77.0.0/25".parse().unwrap()),
    ("which is no member", |s| first_vm(s).node = NodeId::from_random(99)),
    ("no guest address of 10.77.0.0/24", |s| first_vm(s).ip = "10.77.0.1".parse().unwrap()),
    ("no guest address of 10.77.0.0/24", |s| first_vm(s).ip = "10.77.1.9".parse().unwrap()),
    ("not that of its address", |s| first_vm(s).mac = Mac([2; 6])),
    ("which does not exist", |s| first_vm(s).spec.image.version = Blake3([8; 32])),
    ("smaller than its image", |s| first_vm(s).spec.disk = ByteSize::gib(1)),
    ("generation or life zero", |s| first_vm(s).generation = Generation(0)),
    ("younger than the last command", |s| first_vm(s).created_at = Timestamp(1001)),
    ("token id 0000000000000005 belongs to", |s| {
        let mut token = s.api_tokens.pop_first().unwrap().1;
        token.id = TokenId::from_random(5);
        s.api_tokens.insert(token.id, token);
    }),
];

#[test]
fn every_rule_finds_its_breaker() {
    for (n, (expected, spoil)) in SPOILS.iter().enumerate() {
        let mut state = good();
        spoil(&mut state);
        let found: Vec<String> = check(&state).iter().map(ToString::to_string).collect();
        assert!(found.iter().any(|text| text.contains(expected)), "spoil {n}: {expected:?} not in {found:?}");
    }
}

#[test]
fn promises_are_counted_on_each_node() {
    let mut state = good();
    first_vm(&mut state).spec.memory = ByteSize::gib(4);
    let found: Vec<String> = overbooked(&state).iter().map(ToString::to_string).collect();
    assert_eq!(found, ["node 0000000000000001 promises 5368709120 of memory, it has 4294967296"]);
    assert_eq!(check(&state), [], "a node that shrank is a fact, not a broken rule");
}

proptest! {
    /// Whatever else is wrong, two of anything unique are found among any number of VMs on any nodes.
    #[test]
    fn twins_are_found(owners in proptest::collection::vec(0..3_u8, 2..40), a: prop::sample::Index, b: prop::sample::Index) {
        let mut state = good();
        state.vms = owners.iter().enumerate().map(|(n, owner)| vm(n as u8, *owner)).map(|v| (v.id, v)).collect();
        prop_assert_eq!(check(&state), []);
        let ids: Vec<VmId> = state.vms.keys().copied().collect();
        let (a, b) = (*a.get(&ids), *b.get(&ids));
        let twin = state.vms[&b].clone();
        let spoiled = state.vms.get_mut(&a).unwrap();
        (spoiled.ip, spoiled.mac, spoiled.name, spoiled.node) = (twin.ip, twin.mac, twin.name, twin.node);
        prop_assert_eq!(check(&state).len(), if a == b { 0 } else { 3 });
    }
}

//! The JSON of the interface, pinned: what stands here is what programs outside rely on. Fields are only ever added.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must end")]

use expect_test::{Expect, expect};
use serde::{Serialize, de::DeserializeOwned};
use std::fmt::Debug;
use waifud_api::{
    cloud_init::{CloudDefaults, CloudInit, CloudInitQuery, CloudInitSaved},
    cluster::{Advice, CaFingerprint, ClusterStatus, Member, StateDigest},
    event::{Actor, Change, Event, EventId, Observed, Subject},
    net::{MeshEnd, Net, NetPeer, NetPeerCreate, NodeNet},
    node::{Node, NodeRole, Resources},
    problem::NodeEvidence,
    template::{Template, TemplateAdd, TemplateVersion},
    time::Time,
    token::{ApiToken, ApiTokenCreate, ApiTokenCreated, JoinToken, JoinTokenCreate, JoinTokenCreated},
    user_data::UserDataIn,
    vm::{LastError, Placement, PlacementPreview, Silent, TemplateRef, VmCreate, VmStatus},
};
use waifud_model::{
    cloud_init::{Datasource, Imds},
    digest::{Blake3, Sha256},
    event::EventKind,
    ids::{ClusterId, Generation, NodeId, TokenId, VmId},
    labels::Labels,
    mesh::MeshKey,
    name::{NodeName, PeerName, TemplateName, VmName},
    node::Arch,
    observed::{Sighting, VmState},
    size::ByteSize,
    template::ImageFormat,
    time::Timestamp,
    token::Role,
};

fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T, expected: Expect) {
    let json = serde_json::to_string_pretty(value).unwrap();
    expected.assert_eq(&json);
    assert_eq!(serde_json::from_str::<T>(&json).unwrap(), *value, "it reads back as it was");
}

fn at(seconds: u64) -> Time {
    Time(Timestamp(1_760_000_000_000 + seconds * 1000))
}

fn node_name(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

fn debian() -> TemplateName {
    TemplateName::new("debian-12").unwrap()
}

#[test]
fn a_node() {
    let node = Node {
        name: node_name("n1"),
        id: NodeId::from_random(1),
        address: "192.168.1.11:7443".parse().unwrap(),
        alive: true,
        since: Some(at(0)),
        cordoned: false,
        role: NodeRole::Leader,
        capacity: Resources { cpus: 16, memory: ByteSize::gib(31), disk: ByteSize::gib(400) },
        reserved: Resources { cpus: 2, memory: ByteSize::gib(4), disk: ByteSize::gib(10) },
        threads: 4,
        vms: 1,
        subnet: "10.77.1.0/24".parse().unwrap(),
        kvm: true,
        arch: Arch::X86_64,
        bridges: vec!["br0".parse().unwrap()],
        labels: Labels::default(),
        version: Some("0.1.0".to_owned()),
        joined_at: at(0),
    };
    check(
        &node,
        expect![[r#"
        {
          "name": "n1",
          "id": "0000000000000001",
          "address": "192.168.1.11:7443",
          "alive": true,
          "since": "2025-10-09T08:53:20.000Z",
          "cordoned": false,
          "role": "leader",
          "capacity": {
            "cpus": 16,
            "memory": 33285996544,
            "disk": 429496729600
          },
          "reserved": {
            "cpus": 2,
            "memory": 4294967296,
            "disk": 10737418240
          },
          "threads": 4,
          "vms": 1,
          "subnet": "10.77.1.0/24",
          "kvm": true,
          "arch": "x86_64",
          "bridges": [
            "br0"
          ],
          "labels": {},
          "version": "0.1.0",
          "joined_at": "2025-10-09T08:53:20.000Z"
        }"#]],
    );
}

#[test]
fn a_template() {
    let version = TemplateVersion {
        template: debian(),
        version: Blake3([1; 32]),
        sha256: Sha256([2; 32]),
        size: ByteSize::mib(300),
        virtual_size: ByteSize::gib(2),
        format: ImageFormat::Qcow2,
        url: Some("https://cloud.debian.org/x.qcow2".to_owned()),
        nodes: vec![node_name("n1"), node_name("n2")],
        vms: 3,
        added_at: at(0),
    };
    check(
        &Template { name: debian(), versions: vec![version] },
        expect![[r#"
        {
          "name": "debian-12",
          "versions": [
            {
              "template": "debian-12",
              "version": "0101010101010101010101010101010101010101010101010101010101010101",
              "sha256": "0202020202020202020202020202020202020202020202020202020202020202",
              "size": 314572800,
              "virtual_size": 2147483648,
              "format": "qcow2",
              "url": "https://cloud.debian.org/x.qcow2",
              "nodes": [
                "n1",
                "n2"
              ],
              "vms": 3,
              "added_at": "2025-10-09T08:53:20.000Z"
            }
          ]
        }"#]],
    );
    let add = TemplateAdd { url: "https://cloud.debian.org/x.qcow2".to_owned(), sha256: Sha256([2; 32]) };
    check(
        &add,
        expect![[r#"
        {
          "url": "https://cloud.debian.org/x.qcow2",
          "sha256": "0202020202020202020202020202020202020202020202020202020202020202"
        }"#]],
    );
}

#[test]
fn a_cluster() {
    let status = ClusterStatus {
        id: ClusterId::from_random([1; 16]),
        ca: CaFingerprint::of([0x9f; 32]),
        cidr: "10.77.0.0/16".parse().unwrap(),
        answered_by: node_name("n1"),
        quorum: true,
        leader: Some(node_name("n1")),
        term: 3,
        vms: 2,
        members: vec![Member {
            name: node_name("n1"),
            role: NodeRole::Leader,
            alive: true,
            since: Some(at(0)),
            applied: Some(812),
            version: None,
        }],
        feature_level: 1,
        state: StateDigest { index: 812, digest: Blake3([3; 32]) },
        advice: vec![Advice {
            code: "single_voter".to_owned(),
            message: "if n1 is lost, so is what the cluster knows".to_owned(),
            remedy: Some("add two nodes".to_owned()),
        }],
    };
    check(
        &status,
        expect![[r#"
            {
              "id": "01010101-0101-4101-8101-010101010101",
              "ca": "9F:9F:9F:9F:9F:9F:9F:9F:9F:9F:9F:9F:9F:9F:9F:9F:9F:9F:9F:9F:9F:9F:9F:9F:9F:9F:9F:9F:9F:9F:9F:9F",
              "cidr": "10.77.0.0/16",
              "answered_by": "n1",
              "quorum": true,
              "leader": "n1",
              "term": 3,
              "vms": 2,
              "members": [
                {
                  "name": "n1",
                  "role": "leader",
                  "alive": true,
                  "since": "2025-10-09T08:53:20.000Z",
                  "applied": 812,
                  "version": null
                }
              ],
              "feature_level": 1,
              "state": {
                "index": 812,
                "digest": "0303030303030303030303030303030303030303030303030303030303030303"
              },
              "advice": [
                {
                  "code": "single_voter",
                  "message": "if n1 is lost, so is what the cluster knows",
                  "remedy": "add two nodes"
                }
              ]
            }"#]],
    );
}

#[test]
fn tokens() {
    let info = JoinToken { id: TokenId::from_random(5), uses_left: 1, expires_at: at(3600), created_at: at(0) };
    check(
        &JoinTokenCreated { token: "waifu1…".to_owned(), info },
        expect![[r#"
        {
          "token": "waifu1…",
          "info": {
            "id": "0000000000000005",
            "uses_left": 1,
            "expires_at": "2025-10-09T09:53:20.000Z",
            "created_at": "2025-10-09T08:53:20.000Z"
          }
        }"#]],
    );
    let info = ApiToken {
        id: TokenId::from_random(6),
        description: "laptop".to_owned(),
        role: Role::Operator,
        expires_at: None,
        created_at: at(0),
        scope: std::collections::BTreeMap::from([("team".to_owned(), "web".to_owned())]).try_into().unwrap(),
    };
    let made = ApiTokenCreated { token: "secret".to_owned(), info };
    assert!(!format!("{made:?}").contains("secret"));
    check(
        &made,
        expect![[r#"
        {
          "token": "secret",
          "info": {
            "id": "0000000000000006",
            "description": "laptop",
            "role": "operator",
            "expires_at": null,
            "created_at": "2025-10-09T08:53:20.000Z",
            "scope": {
              "team": "web"
            }
          }
        }"#]],
    );
    assert_eq!(serde_json::from_str::<JoinTokenCreate>("{}").unwrap(), JoinTokenCreate::default());
    let create: ApiTokenCreate = serde_json::from_str(r#"{"role":"viewer"}"#).unwrap();
    assert_eq!((create.role, create.valid_seconds), (Role::Viewer, None));
}

#[test]
fn events() {
    let event = Event {
        id: EventId { index: 812, seq: 1 },
        at: at(0),
        actor: Actor::Local { node: "n1".to_owned(), uid: 0 },
        command: "set_power".to_owned(),
        subject: Subject::Vm { id: VmId::from_random([7; 16]), name: VmName::new("web-1").unwrap() },
        kind: EventKind::Changed,
        changes: vec![Change {
            field: "desired".to_owned(),
            old: Some("running".to_owned()),
            new: Some("stopped".to_owned()),
        }],
    };
    check(
        &event,
        expect![[r#"
            {
              "id": "812.1",
              "at": "2025-10-09T08:53:20.000Z",
              "actor": {
                "kind": "local",
                "node": "n1",
                "uid": 0
              },
              "command": "set_power",
              "subject": {
                "kind": "vm",
                "id": "ec270707-0707-4707-8707-070707070707",
                "name": "web-1"
              },
              "kind": "changed",
              "changes": [
                {
                  "field": "desired",
                  "old": "running",
                  "new": "stopped"
                }
              ]
            }"#]],
    );
    let status = VmStatus {
        state: VmState::Failed,
        since: Some(at(5)),
        pending: true,
        waits: Vec::new(),
        changes: Vec::new(),
        doing: None,
        held: None,
        fetching: None,
        restarts: 0,
        cpu_percent: None,
        memory_used: None,
        met: vec![Sighting::Arp],
        cloud_init_done: false,
        silent: Some(Silent { since: Some(at(9)) }),
        last_error: Some(LastError {
            message: "no space left".to_owned(),
            at: Some(at(5)),
            attempts: Some(3),
            next_try: Some(at(15)),
        }),
    };
    let seen =
        Observed::Vm { id: VmId::from_random([7; 16]), name: VmName::new("web-1").unwrap(), status: Box::new(status) };
    check(
        &seen,
        expect![[r#"
            {
              "kind": "vm",
              "id": "ec270707-0707-4707-8707-070707070707",
              "name": "web-1",
              "status": {
                "state": "failed",
                "since": "2025-10-09T08:53:25.000Z",
                "pending": true,
                "met": [
                  "arp"
                ],
                "silent": {
                  "since": "2025-10-09T08:53:29.000Z"
                },
                "last_error": {
                  "message": "no space left",
                  "at": "2025-10-09T08:53:25.000Z",
                  "attempts": 3,
                  "next_try": "2025-10-09T08:53:35.000Z"
                }
              }
            }"#]],
    );
    check(
        &Observed::Skipped,
        expect![[r#"
        {
          "kind": "skipped"
        }"#]],
    );
    check(
        &Actor::Token { id: TokenId::from_random(6) },
        expect![[r#"
        {
          "kind": "token",
          "id": "0000000000000006"
        }"#]],
    );
    check(
        &Subject::Cluster,
        expect![[r#"
        {
          "kind": "cluster"
        }"#]],
    );
}

#[test]
fn a_placement() {
    let preview = PlacementPreview {
        placement: Placement {
            node: node_name("n2"),
            reason: "most free memory of 3".to_owned(),
            rejected: vec![NodeEvidence { node: node_name("n1"), reason: "cordoned".to_owned() }],
        },
        template: TemplateRef { name: debian(), version: Blake3([1; 32]) },
        disk: ByteSize::gib(10),
        warnings: vec!["user_data: line 2: odd".to_owned()],
    };
    check(
        &preview,
        expect![[r#"
            {
              "placement": {
                "node": "n2",
                "reason": "most free memory of 3",
                "rejected": [
                  {
                    "node": "n1",
                    "reason": "cordoned"
                  }
                ]
              },
              "template": {
                "name": "debian-12",
                "version": "0101010101010101010101010101010101010101010101010101010101010101"
              },
              "disk": 10737418240,
              "warnings": [
                "user_data: line 2: odd"
              ]
            }"#]],
    );
}

#[test]
fn a_request_with_everything() {
    let json = r##"{
        "name": "web-1", "template": "debian-12@9f3c21", "cpus": 2, "memory": "4G", "disk": "20G", "node": "n2",
        "user_data": "#cloud-config\n", "network_config": "version: 2\n", "datasource": "no_cloud",
        "imds": "v2", "ssh_keys": ["ssh-ed25519 AAAA me"], "labels": {"env": "prod"},
        "restart": "always", "start": false
    }"##;
    let request: VmCreate = serde_json::from_str(json).unwrap();
    check(
        &request,
        expect![[r##"
            {
              "name": "web-1",
              "template": "debian-12@9f3c21",
              "cpus": 2,
              "memory": 4294967296,
              "disk": 21474836480,
              "node": "n2",
              "user_data": "#cloud-config\n",
              "network_config": "version: 2\n",
              "ssh_keys": [
                "ssh-ed25519 AAAA me"
              ],
              "datasource": "no_cloud",
              "imds": "v2",
              "labels": {
                "env": "prod"
              },
              "restart": "always",
              "firmware": "bios",
              "cpu_model": "host",
              "start": false
            }"##]],
    );
    for bad in [r#"{"template":"../x"}"#, r#"{"template":"a","name":"../x"}"#, r#"{"template":"a","cpus":-1}"#, "{}"] {
        assert!(serde_json::from_str::<VmCreate>(bad).is_err(), "{bad}");
    }
}

#[test]
fn what_guests_are_told() {
    let text = |text: &str| UserDataIn::new(text.as_bytes().to_vec()).unwrap();
    let told = CloudInit {
        user_data: Some(text("#!/bin/sh\n")),
        network_config: Some(UserDataIn::new(vec![0xff]).unwrap()),
        ssh_keys: vec!["ssh-ed25519 AAAA me".to_owned()],
        datasource: Datasource::OpenStack,
        imds: Imds::V2,
    };
    assert!(!format!("{told:?}").contains("/bin/sh"), "no log shows it");
    check(
        &told,
        expect![[r##"
        {
          "user_data": "#!/bin/sh\n",
          "network_config": {
            "base64": "/w=="
          },
          "ssh_keys": [
            "ssh-ed25519 AAAA me"
          ],
          "datasource": "open_stack",
          "imds": "v2"
        }"##]],
    );
    assert_eq!(serde_json::from_str::<CloudInit>("{}").unwrap(), CloudInit::default());
    check(
        &CloudInitQuery { rerun: true, dry_run: false },
        expect![[r#"
        {
          "rerun": true,
          "dry_run": false
        }"#]],
    );
    let saved = CloudInitSaved {
        generation: Generation(3),
        instance_id: Some("i-07070707070700002".to_owned()),
        warnings: vec!["user_data: line 2: odd".to_owned()],
    };
    check(
        &saved,
        expect![[r#"
        {
          "generation": 3,
          "instance_id": "i-07070707070700002",
          "warnings": [
            "user_data: line 2: odd"
          ]
        }"#]],
    );
    check(
        &CloudDefaults { user_data: Some(text("#cloud-config\n")), vendor_data: None },
        expect![[r##"
        {
          "user_data": "#cloud-config\n"
        }"##]],
    );
}

#[test]
fn a_network() {
    let key = MeshKey([7; 32]);
    let node = NodeNet {
        node: node_name("n1"),
        subnet: "10.77.0.0/24".parse().unwrap(),
        gateway: [10, 77, 0, 1].into(),
        address: "192.168.1.11".parse().unwrap(),
        mesh: Some(MeshEnd { key, endpoint: "192.168.1.11:7444".parse().unwrap() }),
    };
    let net = Net {
        cidr: "10.77.0.0/16".parse().unwrap(),
        peers_subnet: Some("10.77.255.0/24".parse().unwrap()),
        domain: "waifu.internal".to_owned(),
        nodes: vec![node],
    };
    check(
        &net,
        expect![[r#"
        {
          "cidr": "10.77.0.0/16",
          "peers_subnet": "10.77.255.0/24",
          "domain": "waifu.internal",
          "nodes": [
            {
              "node": "n1",
              "subnet": "10.77.0.0/24",
              "gateway": "10.77.0.1",
              "address": "192.168.1.11",
              "mesh": {
                "key": "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=",
                "endpoint": "192.168.1.11:7444"
              }
            }
          ]
        }"#]],
    );
    let name = PeerName::new("laptop").unwrap();
    check(
        &NetPeer { name: name.clone(), key, ip: [10, 77, 255, 2].into(), created_at: at(0) },
        expect![[r#"
        {
          "name": "laptop",
          "key": "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=",
          "ip": "10.77.255.2",
          "created_at": "2025-10-09T08:53:20.000Z"
        }"#]],
    );
    check(
        &NetPeerCreate { name: name.clone(), key },
        expect![[r#"
        {
          "name": "laptop",
          "key": "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc="
        }"#]],
    );
    check(
        &Subject::Peer { name },
        expect![[r#"
        {
          "kind": "peer",
          "name": "laptop"
        }"#]],
    );
}

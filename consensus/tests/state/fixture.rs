//! Small values that commands are made of: everything is told apart by a number.

use rusqlite::Connection;
use std::path::Path;
use waifud_consensus::state::{self, Accepted, Halt, Ledger};
use waifud_model::{
    change::{Patch, VmChange},
    cloud_init::{CloudInit, UserData},
    command::{Actor, AddNode, Command, CreateVm, Envelope, InitCluster, NewNode, Origin, RequestKey, VmReport},
    digest::{Blake3, Fingerprint, Sha256},
    event::EventKind,
    hardware::Firmware,
    ids::{ClusterId, Generation, NodeId, TokenId, VmId},
    labels::{LabelPatch, Labels},
    mesh::{MeshEnd, MeshKey},
    name::{DiskName, NodeName, PeerName, TemplateName, VmName},
    node::{Arch, Capacity},
    reject::Reject,
    scope::Scope,
    size::ByteSize,
    template::{ImageFormat, Source, TemplateVersion},
    time::Timestamp,
    token::{ApiToken, JoinToken, Role},
    vm::{Desired, ImageRef, RestartPolicy, VmSpec},
};

pub(crate) const MINUTE: u64 = 60_000;
pub(crate) const HOUR: u64 = 60 * MINUTE;
/// The moment of the first command.
pub(crate) const START: Timestamp = Timestamp(1_000_000);

pub(crate) fn node_id(n: u8) -> NodeId {
    NodeId::from_random(u64::from(n) + 1)
}

pub(crate) fn vm_id(n: u8) -> VmId {
    VmId::from_random([n; 16])
}

pub(crate) fn token_id(n: u8) -> TokenId {
    TokenId::from_random(u64::from(n) + 1)
}

pub(crate) fn vm_name(n: u8) -> VmName {
    VmName::new(format!("vm{n}")).unwrap()
}

pub(crate) fn template(n: u8) -> TemplateName {
    TemplateName::new(format!("template-{n}")).unwrap()
}

pub(crate) fn version(n: u8) -> Blake3 {
    Blake3([n; 32])
}

pub(crate) fn local() -> Actor {
    Actor::Local { node: node_id(0), uid: 0 }
}

pub(crate) fn capacity() -> Capacity {
    Capacity {
        cpus: 16,
        threads: 4,
        memory: ByteSize::gib(8),
        disk: ByteSize::gib(100),
        arch: Arch::X86_64,
        kvm: true,
        bridges: Vec::new(),
    }
}

pub(crate) fn new_node(n: u8) -> NewNode {
    NewNode {
        id: node_id(n),
        name: NodeName::new(format!("node{n}")).unwrap(),
        advertise: ([192, 0, 2, n], 7777).into(),
        fingerprint: Fingerprint([n; 32]),
        capacity: capacity(),
    }
}

/// A cluster with room for four nodes of thirteen guests each.
pub(crate) fn init() -> Command {
    Command::InitCluster(Box::new(InitCluster {
        cluster: ClusterId::from_random([1; 16]),
        ca_cert: b"certificate".to_vec(),
        ca_key: b"the key of the CA".to_vec(),
        cidr: "10.77.0.0/26".parse().unwrap(),
        subnet_prefix: 28,
        node: new_node(0),
    }))
}

pub(crate) fn join_token(n: u8) -> JoinToken {
    let expires_at = Timestamp(START.0 + HOUR);
    JoinToken { id: token_id(n), key: [n; 32], expires_at, uses_left: 2, created_at: Timestamp(0) }
}

pub(crate) fn api_token(n: u8, role: Role) -> ApiToken {
    ApiToken {
        id: token_id(n),
        description: format!("token {n}"),
        hash: Blake3([n; 32]),
        role,
        expires_at: None,
        created_at: Timestamp(0),
        scope: Scope::default(),
    }
}

/// What a token is for that sees VMs of [`spec`], as long as they are not changed by [`label_patch`].
pub(crate) fn scope() -> Scope {
    Scope::new(labels(&[("env", "prod")]))
}

/// A token for some VMs only.
pub(crate) fn scoped_token(n: u8, role: Role) -> Command {
    Command::CreateApiToken(Box::new(ApiToken { scope: scope(), ..api_token(n, role) }))
}

pub(crate) fn labels(pairs: &[(&str, &str)]) -> Labels {
    let map: std::collections::BTreeMap<_, _> =
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    map.try_into().unwrap()
}

pub(crate) fn add_node(n: u8, token: u8) -> Command {
    Command::AddNode(Box::new(AddNode { node: new_node(n), token: token_id(token) }))
}

pub(crate) fn template_version(t: u8, v: u8) -> TemplateVersion {
    TemplateVersion {
        template: template(t),
        version: version(v),
        sha256: Sha256([v; 32]),
        size: ByteSize::mib(300),
        virtual_size: ByteSize::gib(2),
        format: ImageFormat::Qcow2,
        source: Source::Url("https://user:hunter2@example.com/image.qcow2?signature=hunter2".to_owned()),
        origin: node_id(0),
        added_at: Timestamp(0),
    }
}

pub(crate) fn secret(text: &str) -> UserData {
    UserData::new(text.as_bytes().to_vec()).unwrap()
}

pub(crate) fn peer_name(n: u8) -> PeerName {
    PeerName::new(format!("peer{n}")).unwrap()
}

pub(crate) fn mesh_end(n: u8) -> MeshEnd {
    MeshEnd { key: MeshKey([n; 32]), port: 7444 }
}

pub(crate) fn spec() -> VmSpec {
    let image = ImageRef { template: template(0), version: version(0) };
    VmSpec {
        cloud_init: CloudInit {
            user_data: Some(secret("#cloud-config\npassword: hunter2\n")),
            ssh_keys: vec!["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5 me@here".to_owned()],
            ..CloudInit::default()
        },
        labels: labels(&[("env", "prod")]),
        ..VmSpec::new(2, ByteSize::gib(1), ByteSize::gib(10), image)
    }
}

/// A change of everything that can be changed without another object.
pub(crate) fn vm_change() -> VmChange {
    VmChange {
        cpus: Some(3),
        memory: Some(ByteSize::gib(2)),
        memory_max: Patch::Set(ByteSize::gib(4)),
        disk: Some(ByteSize::gib(11)),
        labels: label_patch(),
        description: Some("what it is for".to_owned()),
        protected: Some(false),
        autostart: Some(false),
        restart: Some(RestartPolicy::Never),
        firmware: Some(Firmware::Uefi),
        cpu_model: "Skylake-Server".parse().ok(),
        disks: [(DiskName::new("data").unwrap(), Some(ByteSize::gib(1)))].into(),
        cd: Patch::Clear,
        bridges: Some(Vec::new()),
    }
}

pub(crate) fn label_patch() -> LabelPatch {
    LabelPatch([("env".to_owned(), None), ("tier".to_owned(), Some("web".to_owned()))].into())
}

pub(crate) fn vm(n: u8, node: u8) -> CreateVm {
    CreateVm { id: vm_id(n), name: vm_name(n), node: node_id(node), spec: spec(), desired: Desired::Running }
}

pub(crate) fn create(n: u8, node: u8) -> Command {
    Command::CreateVm(Box::new(vm(n, node)))
}

pub(crate) fn report(n: u8, kind: EventKind, generation: u64, by_guest: bool) -> VmReport {
    VmReport { vm: vm_id(n), kind, generation: Generation(generation), by_guest, detail: None }
}

pub(crate) fn envelope(actor: Actor, key: &str, at: Timestamp, command: Command) -> Envelope {
    let body = Blake3::of(format!("{command:?}").as_bytes());
    Envelope { request: RequestKey { key: key.to_owned(), body, origin: Origin::Client }, actor, at, command }
}

/// A `state.db` in memory and the log that it was made by.
pub(crate) struct Bench {
    pub(crate) db: Connection,
    pub(crate) ledger: Ledger,
    pub(crate) index: u64,
    pub(crate) at: Timestamp,
}

impl Bench {
    /// An empty state.
    pub(crate) fn empty() -> Self {
        Self::on(Path::new(":memory:"))
    }

    /// An empty state in a file.
    pub(crate) fn on(path: &Path) -> Self {
        Self { db: state::open(path).unwrap(), ledger: Ledger::default(), index: 0, at: START }
    }

    /// A cluster of `nodes` nodes with template 0 in version 0, join token 100, and API tokens 10 (viewer), 11 (operator) and 12 (admin).
    pub(crate) fn cluster(nodes: u8) -> Self {
        let mut bench = Self::empty();
        for command in founding(nodes) {
            bench.done(command);
        }
        bench
    }

    pub(crate) fn view(&self) -> state::View<'_> {
        state::View::new(&self.db)
    }

    /// Changes rows, as if much had happened in between; gives how many.
    pub(crate) fn tamper(&mut self, sql: &str) -> usize {
        self.ledger = Ledger::default();
        self.db.execute(sql, []).unwrap()
    }

    /// Applies an envelope at the next index.
    pub(crate) fn apply(&mut self, envelope: &Envelope) -> Result<Result<Accepted, Reject>, Halt> {
        self.index += 1;
        state::apply(&self.db, &mut self.ledger, self.index, envelope)
    }

    /// Applies a command by `actor` under a key of its own.
    pub(crate) fn by(&mut self, actor: Actor, command: Command) -> Result<Accepted, Reject> {
        let envelope = envelope(actor, &format!("own-{}", self.index), self.at, command);
        self.apply(&envelope).unwrap()
    }

    /// Applies a command that an admin may give and that must be accepted.
    pub(crate) fn done(&mut self, command: Command) -> Accepted {
        self.by(local(), command).unwrap()
    }

    /// Applies a command by an admin that must be refused.
    pub(crate) fn refused(&mut self, command: Command) -> String {
        self.by(local(), command).unwrap_err().to_string()
    }
}

/// The commands that [`Bench::cluster`] begins with.
pub(crate) fn founding(nodes: u8) -> Vec<Command> {
    let mut commands = vec![init()];
    commands.push(Command::CreateJoinToken(JoinToken {
        uses_left: 10,
        expires_at: Timestamp(START.0 + 1000 * HOUR),
        ..join_token(100)
    }));
    commands.extend((1..nodes).map(|n| add_node(n, 100)));
    for (n, role) in [(10, Role::Viewer), (11, Role::Operator), (12, Role::Admin)] {
        commands.push(Command::CreateApiToken(Box::new(api_token(n, role))));
    }
    commands.push(Command::AddTemplateVersion(Box::new(template_version(0, 0))));
    commands
}

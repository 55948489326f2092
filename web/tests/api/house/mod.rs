//! Nodes in one process: real consensus in temporary directories, an in-memory wire that can be cut, fake ports.

mod answer;
mod fakes;
mod log;
mod wire;

pub(crate) use answer::{Answer, delete, get, json, read_stream};
pub(crate) use fakes::{Answers, LOG};
pub(crate) use log::Log;

use axum::{Router, body::Body};
use fakes::{Counter, FakeConsoles, FakeDoctor, FakeImages, FakeJoinTokens, FakeObserver, FakeTasks, Still};
use http::{Method, Request};
use hyper::{body::Incoming, client::conn::http1::SendRequest};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};
use tempfile::TempDir;
use tokio::{sync::watch, task::JoinHandle};
use tower::ServiceExt;
use waifud_consensus::{Config, Handle, Liveness, Proposal};
use waifud_model::{
    cloud_init::{CloudInit, UserData},
    command::{Actor, AddNode, Command, CreateVm, InitCluster, NewNode, Origin, RequestKey},
    digest::{Blake3, Fingerprint},
    ids::{ClusterId, NodeId, TokenId, VmId},
    mesh::MeshEnd,
    name::{NodeName, TemplateName, VmName},
    network,
    node::{Arch, Capacity},
    observed::VmObservation,
    scope::Scope,
    size::ByteSize,
    time::Timestamp,
    token::{JoinToken, Role},
    vm::{Desired, ImageRef, VmSpec},
};
use waifud_web::{
    App, Caller, DigestCache, Metrics,
    ports::{NodeSeen, Observed},
};
use wire::{End, Wire};

/// The moment at which every test plays.
pub(crate) const NOW: Timestamp = Timestamp(1_760_000_000_000);

/// How long anything may take before a test gives up.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) fn node_id(n: u64) -> NodeId {
    NodeId::from_random(n)
}

/// Nodes and the wire between them.
pub(crate) struct House {
    pub(crate) nodes: Vec<Arc<Node>>,
    wire: Arc<Wire>,
    _dirs: Vec<TempDir>,
}

/// One node: its router, its consensus, and the levers of its fakes.
pub(crate) struct Node {
    pub(crate) router: Router,
    pub(crate) app: App,
    pub(crate) consensus: Handle,
    pub(crate) observed: watch::Sender<Arc<Observed>>,
    pub(crate) images: Arc<FakeImages>,
    pub(crate) tasks: Arc<FakeTasks>,
    pub(crate) consoles: Arc<FakeConsoles>,
    liveness: watch::Sender<Liveness>,
}

impl House {
    /// A cluster of `count` nodes that vote as the design says, with a template `tiny`.
    pub(crate) async fn start(count: u64) -> Self {
        let house = Self::bare(count).await;
        let first = &house.nodes[0];
        first.consensus.bootstrap().await.unwrap();
        let cidr = network::DEFAULT_CIDR;
        let init = InitCluster {
            cluster: ClusterId::from_random([1; 16]),
            ca_cert: vec![1],
            ca_key: vec![2],
            cidr,
            subnet_prefix: network::DEFAULT_SUBNET_PREFIX,
            node: new_node(1),
        };
        first.propose("init", Command::InitCluster(Box::new(init))).await;
        let token = TokenId::from_random(1);
        let uses_left = u32::try_from(count).unwrap();
        let join = JoinToken { id: token, key: [0; 32], expires_at: Timestamp(NOW.0 * 2), uses_left, created_at: NOW };
        if count > 1 {
            first.propose("join", Command::CreateJoinToken(join)).await;
        }
        for n in 2..=count {
            let add = AddNode { node: new_node(n), token };
            first.propose(&format!("add {n}"), Command::AddNode(Box::new(add))).await;
        }
        let voters = if count < 3 { 1 } else { 3 };
        for node in &house.nodes {
            let mut status = node.consensus.status();
            let ready = status.wait_for(|s| s.voters.len() == voters && s.leader.is_some());
            tokio::time::timeout(DEADLINE, ready).await.expect("the voters are there in time").unwrap();
        }
        first.upload("tiny", b"tiny image").await;
        let applied = first.consensus.applied().borrow().index;
        for node in &house.nodes {
            assert!(node.consensus.wait_applied(applied, DEADLINE).await);
        }
        house
    }

    /// Nodes that are in no cluster yet.
    pub(crate) async fn bare(count: u64) -> Self {
        let wire = Arc::new(Wire::default());
        let (mut nodes, mut dirs) = (Vec::new(), Vec::new());
        for n in 1..=count {
            let dir = tempfile::tempdir().unwrap();
            nodes.push(Arc::new(Node::start(n, count, &wire, dir.path().to_owned()).await));
            dirs.push(dir);
        }
        let routes = nodes.iter().zip(1..).map(|(node, n)| (node_id(n), Arc::clone(node)));
        wire.connect(routes.collect());
        Self { nodes, wire, _dirs: dirs }
    }

    /// Puts `count` VMs on the nodes in turn, each with so many bytes of user-data, and waits until all nodes know them.
    pub(crate) async fn fill(&self, count: u64, user_data: usize) {
        let first = &self.nodes[0];
        for node in &self.nodes {
            let capacity =
                Capacity { cpus: 1 << 20, memory: ByteSize::gib(1 << 20), disk: ByteSize::gib(1 << 20), ..capacity() };
            let seen = first.consensus.read(|view| view.nodes()).await.unwrap();
            let advertise = seen.iter().find(|seen| seen.id == node.app.node).unwrap().advertise;
            let update = Command::UpdateNode { node: node.app.node, advertise, capacity };
            node.propose_as(Actor::Node(node.app.node), "larger", update).await;
        }
        let template: TemplateName = "tiny".parse().unwrap();
        let tiny = template.clone();
        let newest = first.consensus.read(move |view| view.newest_version(&tiny)).await.unwrap().unwrap();
        for (n, node) in (0..count).zip(self.nodes.iter().cycle()) {
            let image = ImageRef { template: template.clone(), version: newest.version };
            let spec = VmSpec {
                cloud_init: CloudInit {
                    user_data: Some(UserData::new(vec![b'#'; user_data]).unwrap()),
                    ..CloudInit::default()
                },
                labels: BTreeMap::from([("n".to_owned(), n.to_string())]).try_into().unwrap(),
                ..VmSpec::new(1, ByteSize::mib(64), ByteSize::gib(2), image)
            };
            let mut id = [0; 16];
            id[..8].copy_from_slice(&n.to_be_bytes());
            let create = CreateVm {
                id: VmId::from_random(id),
                name: VmName::new(format!("vm-{n}")).unwrap(),
                node: node.app.node,
                spec,
                desired: Desired::Stopped,
            };
            first.propose(&format!("vm {n}"), Command::CreateVm(Box::new(create))).await;
        }
        let applied = first.consensus.applied().borrow().index;
        for node in &self.nodes {
            assert!(node.consensus.wait_applied(applied, DEADLINE).await);
        }
    }

    /// Lets node `n` hear nothing of the others any more; they go on without it.
    pub(crate) fn deafen(&self, n: u64) {
        self.wire.deafen(Some(node_id(n)));
    }

    /// Lets node `n` take requests that are forwarded to it and never answer.
    pub(crate) fn stall(&self, n: u64) {
        self.wire.stall(node_id(n));
    }

    /// The ids of the requests that nodes have forwarded, and to whom.
    pub(crate) fn forwarded(&self) -> Vec<(NodeId, String)> {
        self.wire.forwarded()
    }

    /// Lets it hear again.
    pub(crate) fn mend(&self) {
        self.wire.deafen(None);
    }

    /// No majority agrees on anything any more, though the nodes reach each other.
    pub(crate) fn lose_quorum(&self) {
        self.wire.mute();
        for (node, n) in self.nodes.iter().zip(1..) {
            node.liveness.send_modify(|liveness| liveness.alive = BTreeSet::from([node_id(n)]));
        }
    }

    /// Cuts all nodes off from each other, and lets each see it.
    pub(crate) fn cut(&self) {
        self.wire.cut();
        for (node, n) in self.nodes.iter().zip(1..) {
            let others = (1..=self.nodes.len() as u64).filter(|other| *other != n);
            node.liveness.send_modify(|liveness| liveness.alive = BTreeSet::from([node_id(n)]));
            node.see(|observed| {
                for other in others {
                    let seen = Arc::make_mut(observed.nodes.get_mut(&node_id(other)).unwrap());
                    (seen.alive, seen.since) = (false, Timestamp(NOW.0 - 5_000));
                }
            });
        }
    }
}

fn new_node(n: u64) -> NewNode {
    NewNode {
        id: node_id(n),
        name: NodeName::new(format!("n{n}")).unwrap(),
        advertise: SocketAddr::from(([192, 0, 2, u8::try_from(n).unwrap()], 7443)),
        fingerprint: Fingerprint([u8::try_from(n).unwrap(); 32]),
        capacity: capacity(),
    }
}

fn capacity() -> Capacity {
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

impl Node {
    async fn start(n: u64, count: u64, wire: &Arc<Wire>, dir: PathBuf) -> Self {
        let id = node_id(n);
        let all: BTreeSet<NodeId> = (1..=count).map(node_id).collect();
        let liveness = watch::Sender::new(Liveness { alive: all.clone(), ..Liveness::default() });
        let config = Config::new(dir, id, Arc::new(|| NOW));
        let transport = Arc::new(End::new(id, wire.clone()));
        let consensus = Handle::start(config, transport.clone(), liveness.subscribe()).await.unwrap();
        let seen = |alive| NodeSeen {
            alive,
            since: Timestamp(NOW.0 - 60_000),
            version: Some("0.1.0".to_owned()),
            applied: None,
            vms: BTreeMap::new(),
            usage: BTreeMap::new(),
            images: BTreeSet::new(),
        };
        let observed = Observed { nodes: all.iter().map(|id| (*id, Arc::new(seen(true)))).collect() };
        let observed = watch::Sender::new(Arc::new(observed));
        let images = Arc::new(FakeImages::default());
        let tasks = Arc::new(FakeTasks::default());
        let consoles = Arc::new(FakeConsoles::default());
        let app = App {
            node: id,
            name: NodeName::new(format!("n{n}")).unwrap(),
            version: "0.1.0",
            consensus: consensus.clone(),
            observer: Arc::new(FakeObserver::new(observed.subscribe())),
            forwarder: transport,
            images: images.clone(),
            tasks: tasks.clone(),
            consoles: consoles.clone(),
            doctor: Arc::new(FakeDoctor),
            join_tokens: Arc::new(FakeJoinTokens),
            clock: Arc::new(Still),
            random: Arc::new(Counter::from(n << 32)),
            metrics: Arc::new(Metrics::default()),
            rates: Arc::default(),
            digests: Arc::new(DigestCache::default()),
        };
        Self { router: waifud_web::router(app.clone()), app, consensus, observed, images, tasks, consoles, liveness }
    }

    /// Lets this node tell its end of the mesh.
    pub(crate) async fn tell_mesh_end(&self, end: MeshEnd) {
        let command = Command::SetMeshEnd { node: self.app.node, end };
        self.propose_as(Actor::Node(self.app.node), "mesh", command).await;
    }

    /// Lets this node offer bridges to VMs.
    pub(crate) async fn offer(&self, bridges: &[&str]) {
        let capacity = Capacity { bridges: bridges.iter().map(|name| name.parse().unwrap()).collect(), ..capacity() };
        let advertise = ([192, 0, 2, 1], 7443).into();
        let command = Command::UpdateNode { node: self.app.node, advertise, capacity };
        self.propose_as(Actor::Node(self.app.node), "facts", command).await;
    }

    async fn propose(&self, key: &str, command: Command) {
        self.propose_as(Actor::Local { node: self.app.node, uid: 0 }, key, command).await;
    }

    pub(crate) async fn propose_as(&self, actor: Actor, key: &str, command: Command) {
        let body = Blake3::of(key.as_bytes());
        let request = RequestKey { key: key.to_owned(), body, origin: Origin::Internal };
        self.consensus.propose(Proposal { request, actor, command, request_id: None }).await.unwrap();
    }

    /// Changes what this node observes.
    pub(crate) fn see(&self, change: impl FnOnce(&mut Observed)) {
        self.observed.send_modify(|observed| change(Arc::make_mut(observed)));
    }

    /// Lets this node hear the owner `n` tell of a VM.
    pub(crate) fn hear_of(&self, n: u64, vm: VmId, told: VmObservation) {
        self.see(|observed| {
            Arc::make_mut(observed.nodes.get_mut(&node_id(n)).unwrap()).vms.insert(vm, told);
        });
    }

    /// Sends a request as the local admin.
    pub(crate) async fn call(&self, request: Request<Body>) -> Answer {
        self.call_as(Role::Admin, request).await
    }

    /// Sends a request as a local user of this role.
    pub(crate) async fn call_as(&self, role: Role, mut request: Request<Body>) -> Answer {
        let actor = Actor::Local { node: self.app.node, uid: 0 };
        request.extensions_mut().insert(Caller { actor, role, scope: Scope::default() });
        self.send(request).await
    }

    /// A connection of HTTP/1.1 on which all comes from `caller`, and the task that serves it.
    pub(crate) async fn connect(&self, caller: Caller) -> (SendRequest<Body>, JoinHandle<()>) {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let router = self.router.clone();
        let service = tower::service_fn(move |request: Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(caller.clone());
            router.clone().oneshot(request)
        });
        let serving = tokio::spawn(async move {
            let served = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(theirs), TowerToHyperService::new(service))
                .with_upgrades();
            // How the asker ends it is the asker's business.
            let _ = served.await;
        });
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(ours)).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        (sender, serving)
    }

    /// Sends a request as it is.
    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = tokio::time::timeout(DEADLINE, self.router.clone().oneshot(request)).await;
        Answer::read(response.expect("every request is answered in time").unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call(get(path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: &str) -> Answer {
        self.call(json(Method::POST, path, body)).await
    }

    /// Adds a version of a template.
    pub(crate) async fn upload(&self, template: &str, bytes: &'static [u8]) -> Answer {
        let request = Request::post(format!("/api/v1/templates/{template}/versions"))
            .header("content-type", "application/octet-stream")
            .body(Body::from(bytes))
            .unwrap();
        self.call(request).await
    }
}

//! Nodes in one process: real consensus in temporary directories, an in-memory wire that can be cut, fake ports.

use async_trait::async_trait;
use axum::{Router, body::Body};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tempfile::TempDir;
use tokio::sync::watch;
use tower::ServiceExt;
use waifud_api::vm::LastError;
use waifud_consensus::{Config, Handle, Liveness, Proposal, RpcKind, Transport, TransportError};
use waifud_model::{
    command::{Actor, AddNode, Command, InitCluster, NewNode, Origin, RequestKey},
    digest::{Blake3, Fingerprint, Sha256},
    ids::{ClusterId, NodeId, TokenId, VmId},
    name::NodeName,
    network,
    node::{Arch, Capacity},
    observed::VmObservation,
    size::ByteSize,
    state::ClusterInfo,
    template::ImageFormat,
    time::Timestamp,
    token::{JoinToken, Role},
};
use waifud_web::{
    App, Caller, DigestCache, Metrics,
    ports::{
        Clock, ForwardError, Forwarder, ImageSource, Images, ImportError, Imported, JoinTokens, MintError, MintedToken,
        NodeSeen, Observed, Observer, Random, Tasks,
    },
};

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
        *wire.nodes.lock().unwrap() = routes.collect();
        Self { nodes, wire, _dirs: dirs }
    }

    /// Cuts all nodes off from each other, and lets each see it.
    pub(crate) fn cut(&self) {
        self.wire.cut.store(true, Ordering::SeqCst);
        for (node, n) in self.nodes.iter().zip(1..) {
            let others = (1..=self.nodes.len() as u64).filter(|other| *other != n);
            node.liveness.send_modify(|liveness| liveness.alive = BTreeSet::from([node_id(n)]));
            node.see(|observed| {
                for other in others {
                    let seen = observed.nodes.get_mut(&node_id(other)).unwrap();
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
        capacity: Capacity {
            cpus: 16,
            threads: 4,
            memory: ByteSize::gib(8),
            disk: ByteSize::gib(100),
            arch: Arch::X86_64,
            kvm: true,
        },
    }
}

impl Node {
    async fn start(n: u64, count: u64, wire: &Arc<Wire>, dir: PathBuf) -> Self {
        let id = node_id(n);
        let all: BTreeSet<NodeId> = (1..=count).map(node_id).collect();
        let liveness = watch::Sender::new(Liveness { alive: all.clone(), ..Liveness::default() });
        let config = Config::new(dir, id, Arc::new(|| NOW));
        let transport = Arc::new(End { from: id, wire: wire.clone() });
        let consensus = Handle::start(config, transport.clone(), liveness.subscribe()).await.unwrap();
        let seen = |alive| NodeSeen {
            alive,
            since: Timestamp(NOW.0 - 60_000),
            version: Some("0.1.0".to_owned()),
            applied: None,
            vms: BTreeMap::new(),
            images: BTreeSet::new(),
        };
        let observed = Observed { nodes: all.iter().map(|id| (*id, seen(true))).collect() };
        let observed = watch::Sender::new(Arc::new(observed));
        let images = Arc::new(FakeImages::default());
        let tasks = Arc::new(FakeTasks::default());
        let app = App {
            node: id,
            name: NodeName::new(format!("n{n}")).unwrap(),
            version: "0.1.0",
            consensus: consensus.clone(),
            observer: Arc::new(FakeObserver(observed.subscribe())),
            forwarder: transport,
            images: images.clone(),
            tasks: tasks.clone(),
            join_tokens: Arc::new(FakeJoinTokens),
            clock: Arc::new(Still),
            random: Arc::new(Counter(AtomicU64::new(n << 32))),
            metrics: Arc::new(Metrics::default()),
            digests: Arc::new(DigestCache::default()),
        };
        Self { router: waifud_web::router(app.clone()), app, consensus, observed, images, tasks, liveness }
    }

    async fn propose(&self, key: &str, command: Command) {
        let body = Blake3::of(key.as_bytes());
        let request = RequestKey { key: key.to_owned(), body, origin: Origin::Internal };
        let actor = Actor::Local { node: self.app.node, uid: 0 };
        self.consensus.propose(Proposal { request, actor, command }).await.unwrap();
    }

    /// Changes what this node observes.
    pub(crate) fn see(&self, change: impl FnOnce(&mut Observed)) {
        self.observed.send_modify(|observed| change(Arc::make_mut(observed)));
    }

    /// Lets this node hear the owner `n` tell of a VM.
    pub(crate) fn hear_of(&self, n: u64, vm: VmId, told: VmObservation) {
        self.see(|observed| {
            observed.nodes.get_mut(&node_id(n)).unwrap().vms.insert(vm, told);
        });
    }

    /// Sends a request as the local admin.
    pub(crate) async fn call(&self, request: Request<Body>) -> Answer {
        self.call_as(Role::Admin, request).await
    }

    /// Sends a request as a local user of this role.
    pub(crate) async fn call_as(&self, role: Role, mut request: Request<Body>) -> Answer {
        let actor = Actor::Local { node: self.app.node, uid: 0 };
        request.extensions_mut().insert(Caller { actor, role });
        self.send(request).await
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

pub(crate) fn get(path: &str) -> Request<Body> {
    Request::get(path).body(Body::empty()).unwrap()
}

pub(crate) fn delete(path: &str) -> Request<Body> {
    Request::delete(path).body(Body::empty()).unwrap()
}

pub(crate) fn json(method: Method, path: &str, body: &str) -> Request<Body> {
    let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
    request.body(Body::from(body.to_owned())).unwrap()
}

/// An answer, read to its end.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: http::HeaderMap,
    pub(crate) bytes: Bytes,
}

impl Answer {
    async fn read(response: Response<Body>) -> Self {
        let (parts, body) = response.into_parts();
        Self { status: parts.status, headers: parts.headers, bytes: body.collect().await.unwrap().to_bytes() }
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The status and the JSON, for goldens. The request's id differs each time and is taken out.
    pub(crate) fn shown(&self) -> String {
        let mut json = self.json();
        if let Some(problem) = json.as_object_mut() {
            let id = problem.remove("request_id");
            assert!(id.is_none_or(|id| id == self.header("x-request-id")), "the problem carries the request's id");
        }
        format!("{}\n{}\n", self.status.as_u16(), serde_json::to_string_pretty(&json).unwrap())
    }

    /// The status, the problem's code, detail and remedy: what a person sees of it.
    pub(crate) fn told(&self) -> String {
        assert_eq!(self.header("content-type"), "application/problem+json");
        let problem = self.json();
        let text = |field: &str| problem[field].as_str().unwrap_or("-").to_owned();
        format!("{} {}: {}\n→ {}\n", self.status.as_u16(), text("code"), text("detail"), text("remedy"))
    }
}

/// The wire: who is on it, and whether it is cut.
#[derive(Default)]
struct Wire {
    nodes: Mutex<BTreeMap<NodeId, Arc<Node>>>,
    cut: AtomicBool,
}

impl Wire {
    fn reach(&self, to: NodeId) -> Option<Arc<Node>> {
        if self.cut.load(Ordering::SeqCst) { None } else { self.nodes.lock().unwrap().get(&to).cloned() }
    }
}

/// One node's end of the wire.
struct End {
    from: NodeId,
    wire: Arc<Wire>,
}

impl fmt::Debug for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("End").field("from", &self.from).finish_non_exhaustive()
    }
}

fn unreachable(node: NodeId) -> TransportError {
    TransportError::Unreachable { node, why: "cut".to_owned() }
}

#[async_trait]
impl Transport for End {
    async fn call(&self, to: NodeId, kind: RpcKind, body: Bytes, _: Duration) -> Result<Bytes, TransportError> {
        let node = self.wire.reach(to).ok_or_else(|| unreachable(to))?;
        let served = node.consensus.serve_call(self.from, kind, body).await;
        served.map_err(|error| TransportError::Broken { node: to, why: error.to_string() })
    }

    async fn send_snapshot(&self, to: NodeId, header: Bytes, file: PathBuf) -> Result<Bytes, TransportError> {
        let node = self.wire.reach(to).ok_or_else(|| unreachable(to))?;
        let broken = |why: String| TransportError::Broken { node: to, why };
        let file = tokio::fs::File::open(file).await.map_err(|error| broken(error.to_string()))?;
        node.consensus.serve_snapshot(self.from, header, file).await.map_err(|error| broken(error.to_string()))
    }
}

#[async_trait]
impl Forwarder for End {
    async fn forward(
        &self,
        to: NodeId,
        caller: &Caller,
        mut request: Request<Body>,
    ) -> Result<Response<Body>, ForwardError> {
        let Some(node) = self.wire.reach(to) else {
            return Err(ForwardError { to, source: "cut".into() });
        };
        request.extensions_mut().insert(caller.clone());
        Ok(node.router.clone().oneshot(request).await.unwrap())
    }
}

#[derive(Debug)]
struct FakeObserver(watch::Receiver<Arc<Observed>>);

impl Observer for FakeObserver {
    fn observed(&self) -> watch::Receiver<Arc<Observed>> {
        self.0.clone()
    }
}

/// Takes anything whose first byte is not `!`; a "disk" is ten times its bytes.
#[derive(Debug, Default)]
pub(crate) struct FakeImages {
    pub(crate) held: Mutex<BTreeSet<Blake3>>,
}

#[async_trait]
impl Images for FakeImages {
    async fn import(&self, source: ImageSource, expected: Option<Sha256>) -> Result<Imported, ImportError> {
        let bytes: Vec<u8> = match source {
            ImageSource::Upload(stream) => {
                let chunks: Vec<Bytes> = stream.try_collect().await.map_err(ImportError::BrokenOff)?;
                chunks.concat()
            }
            ImageSource::Url(url) => match url.strip_prefix("https://images.test/") {
                Some(path) => path.as_bytes().to_vec(),
                None => return Err(ImportError::Url(format!("{url} leads into the nodes' own networks"))),
            },
        };
        let sha256 = Sha256(*Blake3::of(&bytes).0.first_chunk().unwrap());
        if let Some(expected) = expected.filter(|expected| *expected != sha256) {
            return Err(ImportError::Checksum { expected, actual: sha256 });
        }
        if bytes.first().is_none_or(|first| *first == b'!') {
            return Err(ImportError::NotAnImage("it is empty or truncated".to_owned()));
        }
        let version = Blake3::of(&bytes);
        self.held.lock().unwrap().insert(version);
        let size = ByteSize::bytes(bytes.len() as u64);
        Ok(Imported { version, sha256, size, virtual_size: ByteSize::gib(2), format: ImageFormat::Raw })
    }

    async fn release(&self, version: Blake3) {
        self.held.lock().unwrap().remove(&version);
    }
}

#[derive(Debug, Default)]
pub(crate) struct FakeTasks {
    pub(crate) errors: Mutex<BTreeMap<VmId, LastError>>,
    pub(crate) broken: AtomicBool,
}

impl Tasks for FakeTasks {
    fn last_error(&self, vm: VmId) -> Option<LastError> {
        assert!(!self.broken.load(Ordering::SeqCst), "a fault of the program");
        self.errors.lock().unwrap().get(&vm).cloned()
    }
}

#[derive(Debug)]
struct FakeJoinTokens;

impl JoinTokens for FakeJoinTokens {
    fn mint(&self, id: TokenId, cluster: &ClusterInfo, addresses: &[SocketAddr]) -> Result<MintedToken, MintError> {
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        Ok(MintedToken { text: format!("{}/{id}/{}", cluster.id, addresses.join(",")), key: [3; 32] })
    }
}

#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        NOW
    }
}

/// Counts instead of drawing, so that goldens hold.
#[derive(Debug)]
struct Counter(AtomicU64);

impl Random for Counter {
    fn fill(&self, bytes: &mut [u8]) {
        let count = self.0.fetch_add(1, Ordering::SeqCst);
        for (n, byte) in bytes.iter_mut().enumerate() {
            *byte = count.to_be_bytes()[n % 8];
        }
    }
}

/// Reads server-sent events until `enough`.
pub(crate) async fn read_stream(response: Response<Body>, enough: impl Fn(&str) -> bool) -> String {
    let mut text = String::new();
    let mut body = response.into_body().into_data_stream();
    while !enough(&text) {
        let chunk = tokio::time::timeout(DEADLINE, body.next()).await.expect("the event comes in time");
        text.push_str(std::str::from_utf8(&chunk.expect("the stream goes on").unwrap()).unwrap());
    }
    text
}

//! Clusters for tests: a CA, a table everybody watches, and nodes that can be killed and started again.

use async_trait::async_trait;
use bytes::Bytes;
use std::{
    collections::BTreeMap,
    future::Future,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{
    runtime::Runtime,
    sync::watch,
    time::{Instant, timeout},
};
use waifud_gossip::{
    Peer, PeerTable,
    identity::{Ca, Identity, NodeKey},
    membership::{Gossip, GossipConfig, Pace},
    peers::{PeerError, PeerStream, Peers, Protocol, Service},
};
use waifud_model::ids::{ClusterId, NodeId};

/// Nothing in these tests takes longer on a machine that is busy with other things.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Ten times faster than in earnest.
pub(crate) fn fast_pace() -> Pace {
    Pace { interval: Duration::from_millis(50), phi: 8.0, window: 10, prior: Duration::from_millis(120) }
}

pub(crate) struct Cluster {
    pub(crate) ca: Ca,
    pub(crate) table: watch::Sender<Arc<PeerTable>>,
    dir: tempfile::TempDir,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        Self::with_id(ClusterId::from_random([1; 16]))
    }

    pub(crate) fn with_id(id: ClusterId) -> Self {
        let ca = Ca::generate(id).unwrap();
        Self { ca, table: watch::channel(Arc::default()).0, dir: tempfile::tempdir().unwrap() }
    }

    /// A member on a free port, in the table.
    pub(crate) fn member(&self, n: u64) -> Node {
        let node = Node::bind(self, id(n), NodeKey::generate().unwrap(), any_port());
        self.admit(&node);
        node
    }

    pub(crate) fn admit(&self, node: &Node) {
        self.table.send_modify(|table| {
            Arc::make_mut(table).insert(node.id, node.as_peer());
        });
    }

    pub(crate) fn remove(&self, node: NodeId) {
        self.table.send_modify(|table| {
            Arc::make_mut(table).remove(&node);
        });
    }

    pub(crate) fn identity(&self, node: NodeId, key: NodeKey) -> Identity {
        Identity::issue(&self.ca, node, key, SystemTime::now()).unwrap()
    }

    pub(crate) fn gossip_config(&self, node: NodeId, pace: Pace) -> GossipConfig {
        GossipConfig { generation_file: self.dir.path().join(node.to_string()), pace }
    }
}

/// A node in a runtime of its own, so that it can be killed without a farewell.
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) key: NodeKey,
    pub(crate) addr: SocketAddr,
    pub(crate) peers: Peers,
    pub(crate) identity: watch::Sender<Arc<Identity>>,
    pub(crate) runtime: Runtime,
}

impl Node {
    pub(crate) fn bind(cluster: &Cluster, id: NodeId, key: NodeKey, listen: SocketAddr) -> Self {
        Self::bind_as(cluster.identity(id, key.clone()), key, listen, cluster.table.subscribe())
    }

    pub(crate) fn bind_as(
        identity: Identity,
        key: NodeKey,
        listen: SocketAddr,
        table: watch::Receiver<Arc<PeerTable>>,
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let id = identity.node();
        let identity = watch::channel(Arc::new(identity)).0;
        let peers = {
            let _inside = runtime.enter();
            Peers::bind(listen, identity.subscribe(), table).unwrap()
        };
        peers.register(Protocol::Api, Arc::new(Echo));
        Self { id, key, addr: peers.local_addr().unwrap(), peers, identity, runtime }
    }

    pub(crate) fn as_peer(&self) -> Peer {
        Peer {
            name: format!("n{}", self.id.get()).parse().unwrap(),
            addr: self.addr,
            fingerprint: self.identity.borrow().fingerprint(),
        }
    }

    pub(crate) fn gossip(&self, cluster: &Cluster, pace: Pace) -> Gossip {
        let config = cluster.gossip_config(self.id, pace);
        let peers = self.peers.clone();
        self.block(async move { Gossip::start(peers, config).await }).unwrap()
    }

    /// Runs something in the node's runtime, with a deadline.
    pub(crate) fn block<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(async { timeout(DEADLINE, future).await.expect("within the deadline") })
    }

    /// One echo.
    pub(crate) fn echo(&self, to: NodeId) -> Result<Bytes, PeerError> {
        let request = Bytes::from_static(b"ping");
        self.block(self.peers.call(to, Protocol::Api, request, Duration::from_secs(5), 1 << 20))
    }

    /// Dies as a machine without power does: nothing is said, the port is free. Gives what is needed to come back.
    pub(crate) fn kill(self) -> (NodeId, NodeKey, SocketAddr) {
        let Self { id, key, addr, runtime, peers, .. } = self;
        runtime.shutdown_timeout(Duration::from_secs(5));
        drop(peers);
        (id, key, addr)
    }
}

/// Answers what it is asked, and by whom.
struct Echo;

#[async_trait]
impl Service for Echo {
    async fn serve(&self, from: NodeId, mut stream: PeerStream) {
        let Ok(request) = stream.recv.read_to_end(1 << 20).await else { return };
        let reply = format!("{from}: {}", String::from_utf8_lossy(&request));
        let _ = stream.send.write_all(reply.as_bytes()).await;
    }
}

pub(crate) fn id(n: u64) -> NodeId {
    NodeId::from_random(n)
}

pub(crate) fn any_port() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// Asks again until the answer is yes; for things that nothing announces.
pub(crate) fn eventually(what: &str, mut ask: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !ask() {
        assert!(Instant::now() < end, "never came true: {what}");
        std::thread::yield_now();
    }
}

/// What an echo of `from` looks like.
pub(crate) fn echo_of(from: NodeId) -> Result<Bytes, PeerError> {
    Ok(Bytes::from(format!("{from}: ping")))
}

/// Nodes by number.
pub(crate) fn members(cluster: &Cluster, numbers: impl IntoIterator<Item = u64>) -> BTreeMap<u64, Node> {
    numbers.into_iter().map(|n| (n, cluster.member(n))).collect()
}

//! The wire between nodes in one process: Raft's requests, snapshots, and forwarded HTTP.

use super::Node;
use async_trait::async_trait;
use axum::body::Body;
use bytes::Bytes;
use http::{Request, Response};
use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use waifud_consensus::{RpcKind, Transport, TransportError};
use waifud_model::ids::NodeId;
use waifud_web::{
    Caller,
    ports::{ForwardError, Forwarder},
};

/// The wire: who is on it, and whether it is cut.
#[derive(Default)]
pub(crate) struct Wire {
    nodes: Mutex<BTreeMap<NodeId, Arc<Node>>>,
    cut: AtomicBool,
    /// Consensus alone gets nothing through.
    mute: AtomicBool,
    /// Whom nobody reaches.
    deaf: Mutex<Option<NodeId>>,
    /// Who does not answer what is forwarded to it.
    stalled: Mutex<Option<NodeId>>,
    /// The ids of the requests that were forwarded, and to whom.
    forwarded: Mutex<Vec<(NodeId, String)>>,
}

impl Wire {
    pub(crate) fn connect(&self, nodes: BTreeMap<NodeId, Arc<Node>>) {
        *self.nodes.lock().unwrap() = nodes;
    }

    pub(crate) fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
    }

    pub(crate) fn mute(&self) {
        self.mute.store(true, Ordering::SeqCst);
    }

    pub(crate) fn deafen(&self, node: Option<NodeId>) {
        *self.deaf.lock().unwrap() = node;
    }

    fn vote(&self, to: NodeId) -> Option<Arc<Node>> {
        if self.mute.load(Ordering::SeqCst) { None } else { self.reach(to) }
    }

    pub(crate) fn stall(&self, node: NodeId) {
        *self.stalled.lock().unwrap() = Some(node);
    }

    pub(crate) fn forwarded(&self) -> Vec<(NodeId, String)> {
        self.forwarded.lock().unwrap().clone()
    }

    fn reach(&self, to: NodeId) -> Option<Arc<Node>> {
        if *self.deaf.lock().unwrap() == Some(to) {
            return None;
        }
        if self.cut.load(Ordering::SeqCst) { None } else { self.nodes.lock().unwrap().get(&to).cloned() }
    }
}

/// One node's end of the wire.
pub(crate) struct End {
    from: NodeId,
    wire: Arc<Wire>,
}

impl End {
    pub(crate) fn new(from: NodeId, wire: Arc<Wire>) -> Self {
        Self { from, wire }
    }
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
        let node = self.wire.vote(to).ok_or_else(|| unreachable(to))?;
        let served = node.consensus.serve_call(self.from, kind, body).await;
        served.map_err(|error| TransportError::Broken { node: to, why: error.to_string() })
    }

    async fn send_snapshot(&self, to: NodeId, header: Bytes, file: PathBuf) -> Result<Bytes, TransportError> {
        let node = self.wire.vote(to).ok_or_else(|| unreachable(to))?;
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
        let id = request.headers().get("x-request-id").map_or("", |id| id.to_str().unwrap());
        self.wire.forwarded.lock().unwrap().push((to, id.to_owned()));
        if *self.wire.stalled.lock().unwrap() == Some(to) {
            std::future::pending::<()>().await;
        }
        request.headers_mut().insert("host", "peer".parse().unwrap());
        // As text, which is how it travels.
        let caller = caller.to_string().parse().unwrap();
        let (mut sender, _) = node.connect(caller).await;
        Ok(sender.send_request(request).await.unwrap().map(Body::new))
    }
}

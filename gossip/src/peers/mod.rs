//! The one endpoint all traffic between nodes goes through: it listens and dials on one UDP port.
//!
//! In: streams that services ask for, streams of peers. Out: the same, each attributed to a member whose key is in the
//! [`PeerTable`]. There is one connection for each peer, made when it is first needed, kept while it
//! works, and shared by all protocols; whoever dials first, both sides use it. It never trusts a name, an address or a
//! valid chain by itself, never keeps a connection of somebody who left the table, and never lets a caller wait for a
//! peer that cannot be reached longer than [`DIAL_TIMEOUT`].
//!
//! ```text
//!   open/call ──> link (pool, backoff) ──> dial ──TLS, key in table, welcome──┐
//!                                                                             ├──> serve: streams to services
//!   UDP port  ──> accept (limits, retry) ──TLS, key in table──> welcome ──────┘
//!                     └── ALPN waifud-join/1 ──> join desk
//! ```

mod accept;
mod admission;
mod dial;
mod error;
mod link;
mod protocol;
mod serve;
mod tls;
mod transport;

pub use dial::DIAL_TIMEOUT;
pub use error::{BindError, PeerError};
pub use protocol::{Answered, PeerStream, Protocol, Question, Service};

pub(crate) use protocol::JOIN_ALPN;
pub(crate) use tls::provider;
pub(crate) use transport::client_transport;

use crate::{
    identity::Identity,
    join::JoinDesk,
    table::{PeerTable, PeerTableWatch},
};
use bytes::Bytes;
use link::Links;
use protocol::CloseCode;
use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use waifud_model::ids::NodeId;

/// How long [`Peers::shutdown`] waits for the farewell to be acknowledged.
const FAREWELL: Duration = Duration::from_millis(500);

/// Where gossip messages go: who sent one, and its bytes.
pub(crate) type GossipInbox = mpsc::Sender<(NodeId, Bytes)>;

/// The endpoint. Clones share it.
#[derive(Clone)]
pub struct Peers {
    inner: Arc<Inner>,
}

/// What the endpoint's tasks share.
struct Inner {
    endpoint: quinn::Endpoint,
    identity: watch::Receiver<Arc<Identity>>,
    table: PeerTableWatch,
    links: Links,
    services: RwLock<BTreeMap<Protocol, Arc<dyn Service>>>,
    gossip: RwLock<Option<GossipInbox>>,
    desk: RwLock<Option<Arc<dyn JoinDesk>>>,
    stop: CancellationToken,
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers").field("identity", &*self.inner.identity.borrow()).finish_non_exhaustive()
    }
}

impl Peers {
    /// Listens on `listen` as whoever `identity` says, for whoever `table` holds. A new identity is used for new
    /// connections and leaves those that stand; a new table is in force at once. Must be called inside a runtime.
    ///
    /// # Errors
    /// The address cannot be bound, or the identity cannot be used for TLS.
    pub fn bind(
        listen: SocketAddr,
        identity: watch::Receiver<Arc<Identity>>,
        table: PeerTableWatch,
    ) -> Result<Self, BindError> {
        let current = identity.borrow().clone();
        let endpoint = tls::endpoint(listen, &current)?;
        let inner = Arc::new(Inner {
            endpoint,
            identity,
            table,
            links: Links::default(),
            services: RwLock::default(),
            gossip: RwLock::default(),
            desk: RwLock::default(),
            stop: CancellationToken::new(),
        });
        tokio::spawn(accept::run(inner.clone()));
        tokio::spawn(follow_table(inner.clone()));
        tokio::spawn(follow_identity(inner.clone()));
        Ok(Self { inner })
    }

    /// Serves streams of `protocol` from now on; the last one registered wins.
    pub fn register(&self, protocol: Protocol, service: Arc<dyn Service>) {
        self.inner.services.write().unwrap_or_else(PoisonError::into_inner).insert(protocol, service);
    }

    /// Lets machines join through this node from now on.
    pub fn open_join_desk(&self, desk: Arc<dyn JoinDesk>) {
        *self.inner.desk.write().unwrap_or_else(PoisonError::into_inner) = Some(desk);
    }

    /// Opens a stream to a member. A peer that died a moment ago may still have a connection here: reading from the
    /// stream wants a deadline of the caller's own.
    ///
    /// # Errors
    /// Within [`DIAL_TIMEOUT`] and a little: the peer is no member, cannot be reached, or refuses; at once, if it could
    /// not be reached a moment ago.
    pub async fn open(&self, to: NodeId, protocol: Protocol) -> Result<PeerStream, PeerError> {
        dial::open(&self.inner, to, protocol).await
    }

    /// Sends one request and reads the whole reply, of at most `max_reply` bytes.
    ///
    /// # Errors
    /// What [`open`](Self::open) gives, a reset by the service, a reply that is too long, or `timeout` for everything
    /// together. After anything but a failure to reach the peer, the request may or may not have been carried out; what has not
    /// arrived by then is taken back, and never arrives.
    pub async fn call(
        &self,
        to: NodeId,
        protocol: Protocol,
        request: Bytes,
        timeout: Duration,
        max_reply: usize,
    ) -> Result<Bytes, PeerError> {
        let exchange = async {
            let PeerStream { send, mut recv } = self.open(to, protocol).await?;
            let mut question = Question::on(send);
            let lost = |why: &dyn fmt::Display| PeerError::Lost { node: to, why: why.to_string() };
            question.send.write_chunk(request).await.map_err(|e| lost(&e))?;
            question.send.finish().map_err(|e| lost(&e))?;
            match recv.read_to_end(max_reply).await {
                Ok(reply) => {
                    question.answered().tell();
                    Ok(Bytes::from(reply))
                }
                Err(quinn::ReadToEndError::TooLong) => Err(PeerError::TooLong { node: to, limit: max_reply }),
                Err(quinn::ReadToEndError::Read(quinn::ReadError::Reset(code))) => {
                    Err(PeerError::Reset { node: to, code: code.into_inner() })
                }
                Err(quinn::ReadToEndError::Read(e)) => Err(lost(&e)),
            }
        };
        tokio::time::timeout(timeout, exchange).await.unwrap_or(Err(PeerError::Timeout { node: to, after: timeout }))
    }

    /// This node.
    #[must_use]
    pub fn me(&self) -> NodeId {
        self.inner.me()
    }

    /// The table in force.
    #[must_use]
    pub fn table(&self) -> PeerTableWatch {
        self.inner.table.clone()
    }

    /// Where the endpoint listens; with port 0 asked for, the port it got.
    ///
    /// # Errors
    /// The socket is gone.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.inner.endpoint.local_addr()
    }

    /// Says farewell on all connections and stops. Peers see the connections end at once instead of timing out.
    pub async fn shutdown(&self) {
        self.inner.stop.cancel();
        CloseCode::ShuttingDown.close_endpoint(&self.inner.endpoint);
        // Whether the farewell arrives is the network's business; there is nothing to do about it.
        let _ = tokio::time::timeout(FAREWELL, self.inner.endpoint.wait_idle()).await;
    }

    /// Sends one gossip message on a stream of its own, and waits until it has arrived.
    pub(crate) async fn send_gossip(&self, to: NodeId, message: Bytes) -> Result<(), PeerError> {
        dial::send_uni(&self.inner, to, Protocol::Gossip, message).await
    }

    /// Notes that somebody hears this member again: it is worth another try now.
    pub(crate) fn heard_again(&self, node: NodeId) {
        self.inner.links.pardon(node);
    }

    /// Directs gossip messages of peers into `inbox` from now on.
    pub(crate) fn direct_gossip(&self, inbox: GossipInbox) {
        *self.inner.gossip.write().unwrap_or_else(PoisonError::into_inner) = Some(inbox);
    }

    /// The cluster's id, as the certificate has it.
    pub(crate) fn cluster(&self) -> waifud_model::ids::ClusterId {
        self.inner.identity.borrow().subject().cluster
    }
}

impl Inner {
    fn me(&self) -> NodeId {
        self.identity.borrow().node()
    }

    fn table(&self) -> Arc<PeerTable> {
        self.table.borrow().clone()
    }

    fn service(&self, protocol: Protocol) -> Option<Arc<dyn Service>> {
        self.services.read().unwrap_or_else(PoisonError::into_inner).get(&protocol).cloned()
    }

    fn gossip(&self) -> Option<GossipInbox> {
        self.gossip.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn desk(&self) -> Option<Arc<dyn JoinDesk>> {
        self.desk.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Closes the connections of whoever leaves the table.
async fn follow_table(inner: Arc<Inner>) {
    let mut table = inner.table.clone();
    let mut before = table.borrow().clone();
    loop {
        tokio::select! {
            () = inner.stop.cancelled() => return,
            changed = table.changed() => if changed.is_err() { return },
        }
        let current = table.borrow_and_update().clone();
        inner.links.keep_members(&before, &current);
        before = current;
    }
}

/// Shows new connections the newest certificate.
async fn follow_identity(inner: Arc<Inner>) {
    let mut identity = inner.identity.clone();
    loop {
        tokio::select! {
            () = inner.stop.cancelled() => return,
            changed = identity.changed() => if changed.is_err() { return },
        }
        let current = identity.borrow_and_update().clone();
        match tls::server_config(&current) {
            Ok(config) => inner.endpoint.set_server_config(Some(config)),
            Err(error) => tracing::error!(?error, "the new identity cannot be used; the old one stays in use"),
        }
    }
}

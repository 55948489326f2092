//! HTTP between nodes: requests that another node has to answer travel over a peer stream and meet the same router there.
//!
//! In: a request and who asks ([`Forwarder`]); streams of peers. Out: the answer, its body still streaming. HTTP/1.1 runs
//! on the bare stream (RFC 9112), so that upgrades and bodies of any length pass. A member's word about the caller is
//! believed: it has checked the caller at its own door, and every node could do everything by itself anyway.

use async_trait::async_trait;
use axum::{Router, body::Body};
use http::{HeaderName, HeaderValue, Request, Response};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use std::io;
use tower::ServiceExt as _;
use waifud_gossip::peers::{PeerStream, Peers, Protocol, Question, Service};
use waifud_model::{command::Actor, ids::NodeId};
use waifud_web::{
    caller::Caller,
    ports::{ForwardError, Forwarder},
};

/// How often a request was forwarded. A node forwards to the owner that its own replica names; when two replicas
/// disagree the request must not go round for ever.
const HOPS: HeaderName = HeaderName::from_static("waifu-hops");
/// One hop to the owner, and one more if the owner has just changed.
const HOPS_MAX: u8 = 2;

/// Sends requests to other nodes.
#[derive(Debug, Clone)]
pub(super) struct PeerForwarder {
    peers: Peers,
}

impl PeerForwarder {
    /// Over these peers.
    #[must_use]
    pub(super) fn new(peers: Peers) -> Self {
        Self { peers }
    }

    async fn exchange(
        &self,
        to: NodeId,
        request: Request<Body>,
    ) -> Result<Response<Body>, Box<dyn std::error::Error + Send + Sync>> {
        let PeerStream { send, recv } = self.peers.open(to, Protocol::Api).await?;
        // A request that is given up must not be carried out later, when what was lost of it arrives after all.
        let question = Question::on(send);
        let answered = question.answered();
        let io = TokioIo::new(tokio::io::join(recv, question));
        let (mut sender, connection) = hyper::client::conn::http1::handshake::<_, Body>(io).await?;
        // The connection is driven until both bodies are through; dropping the answer ends it.
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%to, %error, "a forwarded request ended early");
            }
        });
        let answer = sender.send_request(request).await?;
        answered.tell();
        Ok(answer.map(Body::new))
    }
}

#[async_trait]
impl Forwarder for PeerForwarder {
    async fn forward(
        &self,
        to: NodeId,
        caller: &Caller,
        mut request: Request<Body>,
    ) -> Result<Response<Body>, ForwardError> {
        let failed = |source| ForwardError { to, source };
        let hops = hops(&request);
        if hops >= HOPS_MAX {
            return Err(failed(io::Error::other("the request was forwarded in a circle").into()));
        }
        let identity = HeaderValue::from_str(&caller.to_string()).map_err(|e| failed(e.into()))?;
        let headers = request.headers_mut();
        headers.insert(Caller::HEADER, identity);
        headers.insert(HOPS, HeaderValue::from(u16::from(hops) + 1));
        headers.insert(http::header::HOST, HeaderValue::from_static("waifud.internal"));
        self.exchange(to, request).await.map_err(failed)
    }
}

fn hops<B>(request: &Request<B>) -> u8 {
    request.headers().get(HOPS).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok()).unwrap_or(0)
}

/// Serves requests that other nodes forward.
#[derive(Debug)]
pub(super) struct PeerHttp(pub Router);

#[async_trait]
impl Service for PeerHttp {
    async fn serve(&self, from: NodeId, PeerStream { send, recv }: PeerStream) {
        let router = self.0.clone();
        let service = tower::service_fn(move |request: Request<hyper::body::Incoming>| {
            let mut request = request.map(Body::new);
            if let Some(caller) = vouched_for(from, &mut request) {
                request.extensions_mut().insert(caller);
            }
            router.clone().oneshot(request)
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(tokio::io::join(recv, send)), TowerToHyperService::new(service))
            .with_upgrades();
        if let Err(error) = connection.await {
            tracing::debug!(%from, %error, "a peer's request ended early");
        }
    }
}

/// Takes the caller's header off a request of `from`. People come through any node; nodes speak for themselves.
fn vouched_for(from: NodeId, request: &mut Request<Body>) -> Option<Caller> {
    let caller: Caller = request.headers_mut().remove(Caller::HEADER)?.to_str().ok()?.parse().ok()?;
    match caller.actor {
        Actor::Node(claimed) if claimed != from => {
            tracing::warn!(%from, %claimed, "a node spoke for another one over HTTP");
            None
        }
        _ => Some(caller),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use waifud_model::{scope::Scope, token::Role};

    #[test]
    fn a_vouched_caller_is_taken_off_the_request() {
        let from = NodeId::from_random(7);
        let actor = Actor::Local { node: NodeId::from_random(8), uid: 0 };
        let caller = Caller { actor, role: Role::Viewer, scope: Scope::default() };
        let mut request = request_of(&caller);
        assert_eq!(vouched_for(from, &mut request), Some(caller));
        assert!(request.headers().is_empty());
        assert_eq!(vouched_for(from, &mut request), None);
    }

    #[test]
    fn a_node_speaks_for_itself_only() {
        let (from, other) = (NodeId::from_random(7), NodeId::from_random(8));
        let caller = |node| Caller { actor: Actor::Node(node), role: Role::Admin, scope: Scope::default() };
        assert_eq!(vouched_for(from, &mut request_of(&caller(from))), Some(caller(from)));
        assert_eq!(vouched_for(from, &mut request_of(&caller(other))), None);
    }

    fn request_of(caller: &Caller) -> Request<Body> {
        Request::builder().header(Caller::HEADER, caller.to_string()).body(Body::empty()).unwrap()
    }

    #[test]
    fn hops_are_counted() {
        let mut request = Request::new(());
        assert_eq!(hops(&request), 0);
        request.headers_mut().insert(HOPS, HeaderValue::from(2u16));
        assert_eq!(hops(&request), 2);
    }
}

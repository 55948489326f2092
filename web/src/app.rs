//! What a request handler may reach: the replicated state and the ports. Cloned into every request, so all is shared.
//!
//! Operations take the two or three fields they need, not the whole; this struct exists because axum's state is one value.

use crate::{
    caller::Caller,
    console::Consoles,
    digest::DigestCache,
    metrics::Metrics,
    ports::{Clock, Doctor, ForwardError, Forwarder, Images, JoinTokens, Observed, Observer, Random, Tasks},
    rates::Rates,
    request_id,
};
use axum::body::Body;
use http::{Request, Response};
use std::sync::Arc;
use waifud_consensus::Handle;
use waifud_model::{ids::NodeId, name::NodeName};

/// The parts that the router works with.
#[derive(Debug, Clone)]
pub struct App {
    /// The node that answers.
    pub node: NodeId,
    /// Its name.
    pub name: NodeName,
    /// The build that answers, as `waifud --version` says it.
    pub version: &'static str,
    /// The replicated state.
    pub consensus: Handle,
    /// What is heard of all nodes.
    pub observer: Arc<dyn Observer>,
    /// The way to other nodes' routers.
    pub forwarder: Arc<dyn Forwarder>,
    /// This node's image store.
    pub images: Arc<dyn Images>,
    /// This node's reconciler.
    pub tasks: Arc<dyn Tasks>,
    /// The consoles of this node's guests.
    pub consoles: Arc<dyn Consoles>,
    /// What this node finds when it looks at itself.
    pub doctor: Arc<dyn Doctor>,
    /// The encoder of join tokens.
    pub join_tokens: Arc<dyn JoinTokens>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// The source of randomness.
    pub random: Arc<dyn Random>,
    /// What `/metrics` tells about requests.
    pub metrics: Arc<Metrics>,
    /// Who asked how often, over HTTPS.
    pub rates: Arc<Rates>,
    /// The digest of the state, as it was last computed.
    pub digests: Arc<DigestCache>,
}

impl App {
    /// The newest picture of all nodes.
    pub(crate) fn observed(&self) -> Arc<Observed> {
        self.observer.observed().borrow().clone()
    }

    /// Has another node answer, under the id of the request at hand.
    ///
    /// # Errors
    /// As [`Forwarder::forward`].
    pub(crate) async fn forward(
        &self,
        node: NodeId,
        caller: &Caller,
        mut request: Request<Body>,
    ) -> Result<Response<Body>, ForwardError> {
        if let Some(id) = request_id::current() {
            request_id::put(request.headers_mut(), &id);
        }
        self.forwarder.forward(node, caller, request).await
    }
}

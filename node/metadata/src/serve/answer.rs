//! One request and its answer.
//!
//! In: the request, and the peer that the listener found. Out: bytes of the asker's own documents, or a status. Must not tell
//! apart, to somebody unknown, what there is and what there is not.

use super::{
    Guests, Rate, Tokens,
    bucket::Buckets,
    token::TTL,
    told::{self, Form},
};
use crate::stack::Peer;
use axum::{
    Extension, Router,
    body::{Body, HttpBody},
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use std::{
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use waifud_cloudinit::{Document, Documents, phone_home::PATH};
use waifud_model::cloud_init::Imds;

const TOKEN: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token");
const TOKEN_TTL: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token-ttl-seconds");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Where EC2 gives tokens; it has no dated versions.
const TOKEN_PATH: &str = "/latest/api/token";

/// Looking a guest up is a look into memory. Longer than this, and it is better to have the guest try again.
const LOOKUP: Duration = Duration::from_secs(2);

/// Bytes that a PUT for a token may carry. It needs none, but some clients send a few, and they are never read.
const PUT_BODY: u64 = 1024;

/// What answers need.
#[derive(Clone)]
pub struct Service {
    guests: Arc<dyn Guests>,
    tokens: Tokens,
    buckets: Arc<Buckets>,
    told: Arc<Buckets>,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("buckets", &self.buckets).finish_non_exhaustive()
    }
}

impl Service {
    /// Answers for these guests, each as often as `rate` allows.
    #[must_use]
    pub fn new(guests: Arc<dyn Guests>, tokens: Tokens, rate: Rate) -> Self {
        let buckets = |rate| Arc::new(Buckets::new(rate));
        Self { guests, tokens, buckets: buckets(rate), told: buckets(told::RATE) }
    }
}

/// The service as a router. Requests must carry a [`Peer`] as an extension; [`super::run`] adds it.
pub fn router(service: Service) -> Router {
    Router::new().fallback(answer).with_state(service)
}

async fn answer(State(service): State<Service>, Extension(Peer(peer)): Extension<Peer>, request: Request) -> Response {
    let asker = *peer.ip();
    if let Err(wait) = service.buckets.take(asker, Instant::now()) {
        return again_after(StatusCode::TOO_MANY_REQUESTS, wait);
    }
    match look_up(&service, asker).await {
        Some(Some(documents)) => {
            service.guests.asked(asker);
            if request.method() == Method::POST && request.uri().path() == PATH {
                return service.hear(asker, &documents, request).await;
            }
            service.answer_guest(&documents, &request, SystemTime::now())
        }
        Some(None) => StatusCode::NOT_FOUND.into_response(),
        None => again_after(StatusCode::SERVICE_UNAVAILABLE, Duration::from_secs(1)),
    }
}

/// The asker's documents; none within none if no VM has the address, none if that cannot be known.
async fn look_up(service: &Service, asker: Ipv4Addr) -> Option<Option<Arc<Documents>>> {
    match tokio::time::timeout(LOOKUP, service.guests.by_address(asker)).await {
        Ok(Ok(found)) => Some(found),
        Ok(Err(error)) => {
            let reason = std::error::Error::source(&error).map(ToString::to_string);
            tracing::warn!(%asker, %error, reason, "a metadata request cannot be answered");
            None
        }
        Err(_) => {
            tracing::warn!(%asker, "a metadata request was given up: looking the guest up took too long");
            None
        }
    }
}

impl Service {
    /// What a guest tells of itself, which is kept out of reach like its documents.
    async fn hear(&self, asker: Ipv4Addr, documents: &Documents, request: Request) -> Response {
        if let Err(refused) = self.admits(documents, request.headers(), SystemTime::now()) {
            return refused.into_response();
        }
        if request.headers().contains_key(FORWARDED_FOR) {
            return StatusCode::FORBIDDEN.into_response();
        }
        if let Err(wait) = self.told.take(asker, Instant::now()) {
            return again_after(StatusCode::TOO_MANY_REQUESTS, wait);
        }
        match told::read(documents, request).await {
            Ok(Form::ThisLife) => {}
            Ok(Form::AnotherLife) => {
                return (StatusCode::CONFLICT, "that is not its instance-id now\n").into_response();
            }
            Err(status) => return status.into_response(),
        }
        match tokio::time::timeout(told::NOTED, self.guests.cloud_init_done(documents)).await {
            Ok(Ok(())) => StatusCode::NO_CONTENT.into_response(),
            Ok(Err(error)) => {
                let reason = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(vm = %documents.vm(), reason, "that a guest's cloud-init is done cannot be noted");
                again_after(StatusCode::SERVICE_UNAVAILABLE, Duration::from_secs(1))
            }
            Err(_) => again_after(StatusCode::SERVICE_UNAVAILABLE, Duration::from_secs(1)),
        }
    }

    fn answer_guest(&self, documents: &Documents, request: &Request, now: SystemTime) -> Response {
        let (path, headers) = (request.uri().path(), request.headers());
        let size = request.body().size_hint().upper();
        match *request.method() {
            Method::PUT if path == TOKEN_PATH => match size {
                Some(0..=PUT_BODY) => self.give_token(documents, headers, now),
                _ => StatusCode::PAYLOAD_TOO_LARGE.into_response(),
            },
            Method::GET | Method::HEAD if path == TOKEN_PATH => not_allowed("PUT"),
            Method::GET | Method::HEAD if size != Some(0) => StatusCode::PAYLOAD_TOO_LARGE.into_response(),
            Method::GET | Method::HEAD => self.give_document(documents, path, headers, now),
            _ => not_allowed("GET, HEAD"),
        }
    }

    /// As EC2 does it: refused to whoever was forwarded, since an open proxy in the guest adds that header.
    fn give_token(&self, documents: &Documents, headers: &HeaderMap, now: SystemTime) -> Response {
        if headers.contains_key(FORWARDED_FOR) {
            return StatusCode::FORBIDDEN.into_response();
        }
        let asked = headers.get(TOKEN_TTL).and_then(|value| value.to_str().ok()?.parse().ok());
        let Some(ttl) = asked.filter(|ttl| TTL.contains(ttl)) else {
            let text = "X-aws-ec2-metadata-token-ttl-seconds has to be from 1 to 21600\n";
            return (StatusCode::BAD_REQUEST, text).into_response();
        };
        let token = self.tokens.issue(documents, ttl, now);
        ([(TOKEN_TTL, HeaderValue::from(ttl))], token).into_response()
    }

    /// Whether a request may be answered, for its token.
    fn admits(&self, documents: &Documents, headers: &HeaderMap, now: SystemTime) -> Result<(), StatusCode> {
        let token = headers.get(TOKEN).map(|token| self.tokens.holds(token.as_bytes(), documents, now));
        match (documents.imds(), token) {
            // A bad token is never taken for none. Without one, a VM that requires it does not even tell which paths there are.
            (_, Some(false)) | (Imds::V2, None) => Err(StatusCode::UNAUTHORIZED),
            _ => Ok(()),
        }
    }

    fn give_document(&self, documents: &Documents, path: &str, headers: &HeaderMap, now: SystemTime) -> Response {
        if let Err(refused) = self.admits(documents, headers, now) {
            return refused.into_response();
        }
        let found = match documents.imds() {
            Imds::V2 => documents.ec2(path),
            Imds::Any => find(documents, path),
        };
        found.map_or_else(|| StatusCode::NOT_FOUND.into_response(), give)
    }
}

/// The datasources have no path in common: NoCloud has four names at the top, OpenStack a folder of its own.
fn find<'d>(documents: &'d Documents, path: &str) -> Option<&'d Document> {
    documents.ec2(path).or_else(|| documents.nocloud(path)).or_else(|| documents.openstack(path))
}

/// The bytes themselves, not a copy.
fn give(document: &Document) -> Response {
    let mut response = Response::new(Body::from(Bytes::from_owner(document.bytes().clone())));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(document.content_type()));
    response
}

fn not_allowed(allowed: &'static str) -> Response {
    (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, allowed)]).into_response()
}

/// In whole seconds, as HTTP has it.
fn again_after(status: StatusCode, wait: Duration) -> Response {
    (status, [(header::RETRY_AFTER, HeaderValue::from(wait.as_secs() + 1))]).into_response()
}

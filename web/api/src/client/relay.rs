//! Passes somebody else's request through to the cluster, as it is: what `waifuctl panel` does for a browser.

use super::{Client, ClientError, Refusal, error::plain};
use bytes::Bytes;
use reqwest::{Method, Response, header::HeaderMap};
use std::sync::atomic::Ordering;

/// A request to be passed through. Its headers are sent as they are: the caller takes out what concerns one hop only.
#[derive(Debug)]
pub struct RelayRequest {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: RelayBody,
}

/// The body of a request to be passed through.
#[derive(Debug)]
pub enum RelayBody {
    /// All of it: another endpoint can be tried with it.
    Whole(Bytes),
    /// A stream: it can be sent once.
    Stream(reqwest::Body),
}

impl Client {
    /// Passes a request through; whatever is answered is given back, problems too, and 101 where the request asks for an
    /// upgrade. Other endpoints are asked only while none
    /// was connected to.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] or [`ClientError::Unanswered`]; [`ClientError::Protocol`] if an upgrade cannot be asked for.
    pub async fn relay(&self, request: RelayRequest) -> Result<Response, ClientError> {
        let count = self.inner.hosts.len();
        let first = self.inner.preferred.load(Ordering::Relaxed);
        let (whole, mut stream) = match request.body {
            RelayBody::Whole(bytes) => (Some(bytes), None),
            RelayBody::Stream(body) => (None, Some(body)),
        };
        let upgrades = request.headers.contains_key(reqwest::header::UPGRADE);
        let mut refusals = Vec::new();
        for number in (0..count).map(|n| (first + n) % count) {
            let Some(body) = whole.clone().map(reqwest::Body::from).or_else(|| stream.take()) else { break };
            let host = &self.inner.hosts[number];
            let http = if upgrades { host.upgrading(&self.inner.config)? } else { &host.http };
            let sent = http
                .request(request.method.clone(), format!("{}{}", host.base, request.path))
                .headers(request.headers.clone())
                .body(body)
                .send()
                .await;
            match sent {
                Ok(response) => {
                    self.inner.preferred.store(number, Ordering::Relaxed);
                    self.remember(&response);
                    return Ok(response);
                }
                Err(error) => {
                    refusals.push(Refusal { endpoint: host.endpoint.clone(), reason: plain(&error) });
                    if !error.is_connect() {
                        return Err(ClientError::Unanswered(refusals));
                    }
                }
            }
        }
        Err(ClientError::Unreachable(refusals))
    }
}

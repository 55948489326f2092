//! Sends one request: endpoint after endpoint, and round after round while it may succeed a moment later.
//!
//! ```text
//!              ┌── could not connect ──> next endpoint ──┐
//!   attempt ───┼── broke off, may be repeated ───────────┤── none left ──> Unreachable | Unanswered
//!              ├── this node is out of order ────────────┘
//!              ├── no leader yet, busy, unknown ──> wait, all endpoints again, until `retry_for` is over
//!              ├── another problem ──> Problem
//!              └── success
//! ```

use super::{Client, ClientError, Endpoint, Refusal, answer, error::plain};
use crate::{headers, problem::Problem};
use bytes::Bytes;
use futures::future::BoxFuture;
use reqwest::{Method, Response, header::CONTENT_TYPE};
use std::{sync::atomic::Ordering, time::Duration};
use tokio::time::Instant;

/// The first pause between rounds; doubled each time. A new leader is usually there within half a second.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause between rounds.
const LAST_PAUSE: Duration = Duration::from_millis(800);

/// One request, in a form that can be sent more than once.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: Method,
    /// With the query.
    pub(super) path: String,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Body,
    /// May it be sent again after it may have arrived?
    pub(super) repeatable: bool,
    /// None: for as long as it takes.
    pub(super) answer_timeout: Option<Duration>,
}

/// What a request carries.
pub(super) enum Body {
    Empty,
    Json(Bytes),
    /// Opened anew for every attempt.
    Opened(Opener),
}

/// Makes the same body once more.
pub(super) type Opener = Box<dyn Fn() -> BoxFuture<'static, Result<(reqwest::Body, u64), ClientError>> + Send + Sync>;

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Empty => f.write_str("Empty"),
            Self::Json(json) => write!(f, "Json({} bytes)", json.len()),
            Self::Opened(_) => f.write_str("Opened"),
        }
    }
}

impl Request {
    pub(super) fn get(path: impl Into<String>) -> Self {
        Self {
            method: Method::GET,
            path: path.into(),
            headers: Vec::new(),
            body: Body::Empty,
            repeatable: true,
            answer_timeout: None,
        }
    }

    pub(super) fn header(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }
}

/// How one endpoint took it.
enum Attempt {
    Success(Response),
    /// It never arrived: another endpoint may be asked whatever it is.
    NotSent(String),
    /// It may have arrived.
    NotAnswered(String),
    /// It arrived, and this node cannot do it.
    OutOfOrder(Problem),
    /// It arrived, and may succeed a moment later.
    Momentary(Problem),
}

impl Client {
    /// Sends `request`; the answer is a success whose body was not read yet.
    pub(super) async fn send(&self, request: &Request) -> Result<(Endpoint, Response), ClientError> {
        let deadline = Instant::now() + self.inner.config.retry_for;
        let mut pause = FIRST_PAUSE;
        loop {
            let problem = match self.round(request).await? {
                Ok(success) => return Ok(success),
                Err(problem) => problem,
            };
            if Instant::now() + pause > deadline {
                return Err(ClientError::Problem(Box::new(problem)));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    /// Asks each endpoint once, until one answers. A momentary problem ends the round without ending the request.
    async fn round(&self, request: &Request) -> Result<Result<(Endpoint, Response), Problem>, ClientError> {
        let count = self.inner.hosts.len();
        let first = self.inner.preferred.load(Ordering::Relaxed);
        let (mut refusals, mut maybe_done, mut out_of_order) = (Vec::new(), false, None);
        for number in (0..count).map(|n| (first + n) % count) {
            let endpoint = &self.inner.hosts[number].endpoint;
            let reason = match self.attempt(number, request).await? {
                Attempt::Success(response) => {
                    self.inner.preferred.store(number, Ordering::Relaxed);
                    return Ok(Ok((endpoint.clone(), response)));
                }
                Attempt::Momentary(problem) => {
                    self.inner.preferred.store(number, Ordering::Relaxed);
                    return Ok(Err(problem));
                }
                Attempt::OutOfOrder(problem) => out_of_order.insert(problem).detail.clone(),
                Attempt::NotSent(reason) => reason,
                Attempt::NotAnswered(reason) => {
                    maybe_done |= request.method != Method::GET;
                    reason
                }
            };
            refusals.push(Refusal { endpoint: endpoint.clone(), reason });
            if maybe_done && !request.repeatable {
                break;
            }
        }
        Err(match out_of_order {
            Some(problem) if !maybe_done => ClientError::Problem(Box::new(problem)),
            _ if maybe_done => ClientError::Unanswered(refusals),
            _ => ClientError::Unreachable(refusals),
        })
    }

    async fn attempt(&self, number: usize, request: &Request) -> Result<Attempt, ClientError> {
        let host = &self.inner.hosts[number];
        let mut builder = host.http.request(request.method.clone(), format!("{}{}", host.base, request.path));
        for (name, value) in &request.headers {
            builder = builder.header(*name, value);
        }
        let index = self.inner.index.load(Ordering::Relaxed);
        if index > 0 {
            builder = builder.header(headers::INDEX, index);
        }
        if self.inner.config.linearizable {
            builder = builder.header(headers::CONSISTENCY, "linearizable");
        }
        builder = match &request.body {
            Body::Empty => builder,
            Body::Json(json) => builder.header(CONTENT_TYPE, "application/json").body(json.clone()),
            Body::Opened(open) => {
                let (body, length) = open().await?;
                builder
                    .header(CONTENT_TYPE, headers::OCTET_STREAM)
                    .header(reqwest::header::CONTENT_LENGTH, length)
                    .body(body)
            }
        };
        let sent = match request.answer_timeout {
            Some(limit) => tokio::time::timeout(limit, builder.send()).await,
            None => Ok(builder.send().await),
        };
        let response = match sent {
            Err(_) => return Ok(Attempt::NotAnswered("no answer in time".to_owned())),
            Ok(Err(error)) if error.is_connect() => return Ok(Attempt::NotSent(plain(&error))),
            Ok(Err(error)) => return Ok(Attempt::NotAnswered(plain(&error))),
            Ok(Ok(response)) => response,
        };
        self.remember(&response);
        if response.status().is_success() {
            return Ok(Attempt::Success(response));
        }
        let problem = answer::problem(response).await;
        if problem.code.is_of_this_node() {
            Ok(Attempt::OutOfOrder(problem))
        } else if problem.code.is_momentary() {
            Ok(Attempt::Momentary(problem))
        } else {
            Err(ClientError::Problem(Box::new(problem)))
        }
    }

    /// Keeps the highest index: later requests ask for at least this much.
    pub(super) fn remember(&self, response: &Response) {
        let index = response.headers().get(headers::INDEX).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
        if let Some(index) = index {
            self.inner.index.fetch_max(index, Ordering::Relaxed);
        }
    }
}

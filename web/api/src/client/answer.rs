//! What comes back: the value, and what its headers say of its freshness; or a problem.

use super::{ClientError, Endpoint, error::plain};
use crate::{
    headers,
    problem::{Problem, ProblemCode},
};
use reqwest::{Response, header::HeaderMap};
use serde::de::DeserializeOwned;
use std::time::Duration;
use waifud_model::ids::Generation;

/// A problem document is a page at most; more is somebody else's server.
const PROBLEM_MAX: usize = 1 << 20;

/// What a call gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<T> {
    /// What was asked for.
    pub value: T,
    /// How fresh it is.
    pub freshness: Freshness,
}

impl<T> Answer<T> {
    /// The same answer with another value.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Answer<U> {
        Answer { value: f(self.value), freshness: self.freshness }
    }
}

/// What the answering node says of its own state.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Freshness {
    /// Who answered.
    pub node: Option<String>,
    /// How long ago it last knew that it was up to date.
    pub age: Option<Duration>,
    /// The log index it had applied.
    pub applied: Option<u64>,
    /// The log index of the write that was answered.
    pub index: Option<u64>,
    /// Why the data may be out of date, in one word; none if it is not.
    pub stale: Option<String>,
    /// The generation of what was answered: a VM's, or that of the cluster's cloud-init defaults.
    pub generation: Option<Generation>,
    /// Names the request in the node's log.
    pub request_id: Option<String>,
    /// What whoever asked should know although it was done.
    pub warnings: Vec<String>,
}

impl Freshness {
    pub(super) fn of(map: &HeaderMap) -> Self {
        let text = |name: &str| map.get(name).and_then(|value| value.to_str().ok());
        let warnings = map.get_all(headers::WARNING).into_iter();
        let number = |name: &str| text(name).and_then(|value| value.parse::<u64>().ok());
        Self {
            node: text(headers::NODE).map(str::to_owned),
            age: number(headers::AGE).map(Duration::from_millis),
            applied: number(headers::APPLIED),
            index: number(headers::INDEX),
            stale: text(headers::STALE).map(str::to_owned),
            generation: text(headers::ETAG).and_then(|tag| tag.trim_matches('"').parse().ok()).map(Generation),
            request_id: text(headers::REQUEST_ID).map(str::to_owned),
            warnings: warnings.filter_map(|value| value.to_str().ok()).map(str::to_owned).collect(),
        }
    }
}

/// Reads the whole answer as JSON.
pub(super) async fn json<T: DeserializeOwned>(
    endpoint: &Endpoint,
    response: Response,
) -> Result<Answer<T>, ClientError> {
    let freshness = Freshness::of(response.headers());
    let fault = |what: String| ClientError::Protocol { endpoint: endpoint.clone(), what };
    let path = response.url().path().to_owned();
    let body = response.bytes().await.map_err(|e| fault(format!("the answer broke off: {}", plain(&e))))?;
    let value = serde_json::from_slice(&body).map_err(|e| fault(format!("its answer to {path} does not read: {e}")))?;
    Ok(Answer { value, freshness })
}

/// Reads an answer that is not a success. What is not a problem document becomes one, so that callers see one kind.
pub(super) async fn problem(mut response: Response) -> Problem {
    let status = response.status();
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() > PROBLEM_MAX {
            break;
        }
    }
    serde_json::from_slice(&body).unwrap_or_else(|_| {
        let text: String = String::from_utf8_lossy(&body).chars().filter(|c| !c.is_control()).take(200).collect();
        let detail =
            if text.is_empty() { format!("the answer is {status}") } else { format!("the answer is {status}: {text}") };
        Problem { status: status.as_u16(), ..Problem::new(ProblemCode::Other, detail) }
    })
}

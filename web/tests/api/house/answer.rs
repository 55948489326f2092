//! Requests and answers, in the few forms that tests need.

use super::DEADLINE;
use axum::body::Body;
use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use waifud_api::problem::Problem;

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
    pub(crate) async fn read(response: Response<Body>) -> Self {
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

    pub(crate) fn problem(&self) -> Problem {
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

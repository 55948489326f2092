//! What happens around every request: an id, a deadline, a count, and an answer in one form even when something breaks.
//!
//! In: any request. Out: the inner answer; panics, deadlines and errors of libraries become problems, and each problem gets
//! the request's id. Nothing here knows what a request is about.
//!
//! ```text
//!   observed ( id, span, panic, problem form, count ) ──> deadline ──> freshness (see there) ──> handler
//! ```

use crate::{
    app::App,
    leftover::Leftover,
    problem::{Failure, Told, respond},
    request_id,
};
use axum::{
    body::{Body, to_bytes},
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures::FutureExt;
use http::header;
use std::{panic::AssertUnwindSafe, time::Duration};
use tokio::time::Instant;
use tracing::Instrument;
use waifud_api::headers::PROBLEM_JSON;

/// How long a request that is no transfer may take: a proposal answers within two seconds, a create tries a few times.
const DEADLINE: Duration = Duration::from_secs(15);

/// How much of a library's error text is read.
const TEXT_MAX: usize = 4096;

/// The outermost layer.
pub(crate) async fn observed(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let began = Instant::now();
    let id = request_id::take(&app, request.headers());
    // Whoever passes the request on to another node finds the id here, and the other node takes it over.
    request_id::put(request.headers_mut(), &id);
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map_or("(panel)", MatchedPath::as_str).to_owned();
    let uri = request.uri().clone();
    let span = tracing::info_span!("request", %id, %method, path = uri.path());
    let (leftover, request) = Leftover::of(request);
    let inner = AssertUnwindSafe(request_id::within(id.clone(), next.run(request))).catch_unwind();
    let response = async {
        match inner.await {
            Ok(response) => in_form(response).await,
            // The panic's text is in the log already, by the panic hook.
            Err(_) => Failure::Panicked.into_response(),
        }
    }
    .instrument(span)
    .await;
    let (status, took) = (response.status(), began.elapsed());
    leftover.drain().await;
    tracing::debug!(%id, %method, path = uri.path(), route, status = status.as_u16(), ?took, "answered");
    app.metrics.count(&method, &route, status, took);
    named(response, &id)
}

/// Ends requests that take too long. Not for uploads, downloads and event streams.
pub(crate) async fn deadline(request: Request, next: Next) -> Response {
    match tokio::time::timeout(DEADLINE, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Failure::TimedOut(DEADLINE).into_response(),
    }
}

/// Errors of the router and of extractors are plain text or nothing; they get the form of all others.
async fn in_form(response: Response) -> Response {
    let status = response.status();
    let is_problem = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == PROBLEM_JSON);
    if is_problem || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let (parts, body) = response.into_parts();
    let text = to_bytes(body, TEXT_MAX).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let mut response = match status {
        http::StatusCode::METHOD_NOT_ALLOWED => Failure::Method("this method".to_owned()).into_response(),
        _ => Failure::Plain { status, text }.into_response(),
    };
    if let Some(allow) = parts.headers.get(header::ALLOW) {
        response.headers_mut().insert(header::ALLOW, allow.clone());
    }
    response
}

/// Puts the id on the answer, and into the problem if it is one.
fn named(mut response: Response, id: &str) -> Response {
    if let Some(Told(mut problem)) = response.extensions_mut().remove::<Told>() {
        problem.request_id = Some(id.to_owned());
        let (parts, body): (_, Body) = respond(*problem).into_parts();
        for name in [header::CONTENT_LENGTH, header::CONTENT_TYPE] {
            if let Some(value) = parts.headers.get(&name) {
                response.headers_mut().insert(name, value.clone());
            }
        }
        *response.body_mut() = body;
    }
    request_id::put(response.headers_mut(), id);
    response
}

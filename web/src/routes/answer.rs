//! The forms of answers.

use crate::{conditional, ops::Done};
use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use std::fmt;
use waifud_api::{
    headers::{INDEX, NEXT, WARNING},
    page::{Listed, Page},
    vm::Vm,
};

/// A change that was made, with the object as it is now.
pub(super) fn changed<T: Serialize>(status: StatusCode, done: Done<T>) -> Response {
    indexed(done.index, (status, Json(done.value)).into_response())
}

/// A change that leaves nothing to show.
pub(super) fn gone(done: Done<()>) -> Response {
    indexed(done.index, StatusCode::NO_CONTENT.into_response())
}

/// A part of a list, and where the next one begins.
pub(super) fn part<T: Listed + Serialize>(Page { items, next }: Page<T>) -> Response {
    let mut response = Json(items).into_response();
    if let Some(value) = next.and_then(|next| HeaderValue::try_from(next.to_string()).ok()) {
        response.headers_mut().insert(NEXT, value);
    }
    response
}

/// A change of a VM.
pub(super) fn vm_changed(status: StatusCode, done: Done<Vm>) -> Response {
    let generation = done.value.generation;
    tagged(generation, changed(status, done))
}

/// Puts the `ETag` on.
pub(super) fn tagged(of: impl fmt::Display, mut response: Response) -> Response {
    conditional::tag(response.headers_mut(), of);
    response
}

/// Forbids to keep the answer: it holds what only its asker may read.
pub(super) fn uncached(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Puts `Location` on.
pub(super) fn located(path: &str, mut response: Response) -> Response {
    if let Ok(value) = HeaderValue::try_from(path) {
        response.headers_mut().insert(header::LOCATION, value);
    }
    response
}

/// Says beside the answer what whoever asked should know.
pub(super) fn warned(warning: &'static str, mut response: Response) -> Response {
    response.headers_mut().insert(WARNING, HeaderValue::from_static(warning));
    response
}

fn indexed(index: u64, mut response: Response) -> Response {
    response.headers_mut().insert(INDEX, HeaderValue::from(index));
    response
}

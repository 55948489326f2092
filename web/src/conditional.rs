//! `ETag`, `If-Match` and `If-None-Match`: nobody changes what they have not seen, and nobody reads again what is the same.
//!
//! ```text
//!   one VM, cloud-init          "3"        its generation; apply compares it
//!   one node, template, peer    "r5f…"     the digest of what is wanted of it; compared before the command is proposed
//!   everything else             W/"5f…"    the digest of the answer; it has no use but `If-None-Match`
//! ```
//!
//! In: the request's headers. Out: what the change is meant for; 304 in place of what the asker has. Observations never change
//! the `ETag` of one object, so a 304 says that it is wanted as before and nothing of how it is: no cache may keep such an
//! answer and ask so by itself.

use crate::problem::Failure;
use axum::{
    body::{Body, to_bytes},
    extract::{FromRequestParts, Request},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts};
use serde::Serialize;
use std::{fmt, time::Duration};
use waifud_consensus::Handle;
use waifud_model::{digest::Blake3, ids::Generation};

/// How long a change waits until the replica has all that was acknowledged before.
const CATCH_UP: Duration = Duration::from_secs(1);

/// What `If-Match` asked for; none when the header was absent or `*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IfMatch(pub(crate) Option<Generation>);

impl<S: Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        parse(parts.headers.get(header::IF_MATCH)).map(Self)
    }
}

fn parse(value: Option<&HeaderValue>) -> Result<Option<Generation>, Failure> {
    let Some(value) = value else { return Ok(None) };
    let refuse = || Failure::Header {
        name: "If-Match",
        why: "it must be one ETag as the GET gave it, for example \"3\", or *".to_owned(),
    };
    let Some(digits) = one(value).ok_or_else(refuse)? else { return Ok(None) };
    digits.parse().map(|n| Some(Generation(n))).map_err(|_| refuse())
}

/// The text of one strong tag; none for `*`.
fn one(value: &HeaderValue) -> Option<Option<&str>> {
    match value.to_str().ok()?.trim() {
        "*" => Some(None),
        text => text.strip_prefix('"')?.strip_suffix('"').filter(|tag| !tag.contains('"')).map(Some),
    }
}

/// What one object without generations is wanted to be, in short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Revision(String);

impl Revision {
    /// Of what is wanted, and of nothing that is observed.
    pub(crate) fn of(wanted: &impl Serialize) -> Result<Self, Failure> {
        let json = serde_json::to_vec(wanted).map_err(|_| Failure::Internal("a revision cannot be written"))?;
        // The letter keeps it from being taken for a generation.
        Ok(Self(format!("r{}", short(&json))))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn short(bytes: &[u8]) -> String {
    Blake3::of(bytes).to_string().chars().take(16).collect()
}

/// What `If-Match` asked for of an object without generations; none when the header was absent or `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IfRevision(Option<Revision>);

impl<S: Sync> FromRequestParts<S> for IfRevision {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let Some(value) = parts.headers.get(header::IF_MATCH) else { return Ok(Self(None)) };
        let refuse = || Failure::Header {
            name: "If-Match",
            why: "it must be one ETag as the GET gave it, with its quotes, or *".to_owned(),
        };
        one(value).map(|tag| Self(tag.map(|tag| Revision(tag.to_owned())))).ok_or_else(refuse)
    }
}

impl IfRevision {
    /// Before the object is read that is compared: has the replica take in every change that was acknowledged.
    pub(crate) async fn settle(&self, consensus: &Handle) -> Result<(), Failure> {
        if self.0.is_none() {
            return Ok(());
        }
        consensus.linearize(CATCH_UP).await.map(drop).map_err(Failure::Linearize)
    }

    /// Refuses where the object is not the one that was seen any more.
    pub(crate) fn check(&self, now: &Revision) -> Result<(), Failure> {
        match &self.0 {
            Some(seen) if seen != now => {
                Err(Failure::Changed { seen: seen.0.chars().take(80).collect(), now: now.clone() })
            }
            _ => Ok(()),
        }
    }
}

/// Puts the `ETag` of a generation or a revision on an answer.
pub(crate) fn tag(headers: &mut HeaderMap, of: impl fmt::Display) {
    put(headers, format!("\"{of}\""));
}

/// Puts the `ETag` of a whole answer on, for who makes the tag once for many answers.
pub(crate) fn tag_whole(headers: &mut HeaderMap, of: &Whole) {
    put(headers, of.0.clone());
}

/// The digest of an answer.
#[derive(Debug, Clone)]
pub(crate) struct Whole(String);

impl Whole {
    pub(crate) fn of(json: &[u8]) -> Self {
        Self(format!("W/\"{}\"", short(json)))
    }
}

fn put(headers: &mut HeaderMap, tag: String) {
    if let Ok(value) = HeaderValue::try_from(tag) {
        headers.insert(header::ETAG, value);
    }
}

/// The layer around what gives JSON: every answer to a GET has an `ETag`, and none is sent that the asker has.
pub(crate) async fn layer(request: Request, next: Next) -> Response {
    let known = request.headers().get(header::IF_NONE_MATCH).cloned();
    let get = request.method() == Method::GET;
    let response = next.run(request).await;
    let json = |kind: &HeaderValue| kind.to_str().is_ok_and(|kind| kind.ends_with("json"));
    if !get || response.status() != StatusCode::OK || !response.headers().get(header::CONTENT_TYPE).is_some_and(json) {
        return response;
    }
    let (mut parts, mut body) = response.into_parts();
    let kept = match parts.headers.get(header::ETAG) {
        Some(tag) if !is_weak(tag) => "no-store",
        Some(_) => "private, no-cache",
        None => {
            // All of these are in memory already.
            let Ok(bytes) = to_bytes(body, usize::MAX).await else {
                return Failure::Internal("an answer broke off").into_response();
            };
            tag_whole(&mut parts.headers, &Whole::of(&bytes));
            body = Body::from(bytes);
            "private, no-cache"
        }
    };
    parts.headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static(kept));
    if known.zip(parts.headers.get(header::ETAG)).is_some_and(|(known, tag)| has(&known, tag)) {
        parts.status = StatusCode::NOT_MODIFIED;
        parts.headers.remove(header::CONTENT_TYPE);
        parts.headers.remove(header::CONTENT_LENGTH);
        body = Body::empty();
    }
    Response::from_parts(parts, body)
}

fn is_weak(tag: &HeaderValue) -> bool {
    tag.as_bytes().starts_with(b"W/")
}

/// Is the tag among those of `If-None-Match`? Weak ones are as good there (RFC 9110, 13.1.2).
fn has(known: &HeaderValue, tag: &HeaderValue) -> bool {
    let strong = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    let (Ok(known), Ok(tag)) = (known.to_str(), tag.to_str()) else { return false };
    known.split(',').any(|one| one.trim() == "*" || strong(one) == strong(tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_tag_or_a_star() {
        let read = |text: &'static str| parse(Some(&HeaderValue::from_static(text)));
        assert_eq!(read("\"3\"").unwrap(), Some(Generation(3)));
        assert_eq!(read("*").unwrap(), None);
        assert_eq!(parse(None).unwrap(), None);
        for bad in ["3", "W/\"3\"", "\"3\", \"4\"", "\"x\"", ""] {
            assert!(read(bad).is_err(), "{bad}");
        }
        let known = |text: &'static str, tag| has(&HeaderValue::from_static(text), &HeaderValue::from_static(tag));
        for (text, tag) in [("\"3\"", "\"3\""), ("\"1\", W/\"3\"", "\"3\""), ("\"a\"", "W/\"a\""), ("*", "\"3\"")] {
            assert!(known(text, tag), "{text} {tag}");
        }
        for (text, tag) in [("\"3\"", "\"33\""), ("3", "\"3\""), ("", "\"3\"")] {
            assert!(!known(text, tag), "{text} {tag}");
        }
    }
}

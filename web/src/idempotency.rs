//! `Idempotency-Key`: a request that is sent twice is done once.
//!
//! In: the header and what makes two requests the same one (method, target, precondition, body). Out: the
//! [`RequestKey`] that travels with the command into the log, where apply compares and remembers. Must not remember
//! anything by itself: a retry may arrive at another node.

use crate::{
    app::App,
    ports::{Random, draw},
    problem::Failure,
};
use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Request, rejection::BytesRejection},
};
use http::{HeaderMap, Method, Uri, header, request::Parts};
use serde::de::DeserializeOwned;
use std::time::Duration;
use waifud_model::{
    command::{Origin, RequestKey},
    digest::Blake3,
};

/// The header's name.
const HEADER: &str = "idempotency-key";

/// Longest key: enough for two UUIDs and a word, little enough to store one with every write.
const KEY_MAX: usize = 128;

/// How long a body that is no image may take to come: a mebibyte over a bad telephone line.
const BODY_WITHIN: Duration = Duration::from_secs(10);

/// A request without a body, and its key.
#[derive(Debug)]
pub(crate) struct Keyed(pub(crate) RequestKey);

impl FromRequestParts<App> for Keyed {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Failure> {
        seal(app.random.as_ref(), &parts.method, &parts.uri, &parts.headers, b"").map(Self)
    }
}

/// A request with a JSON body, and its key.
#[derive(Debug)]
pub(crate) struct KeyedJson<T> {
    /// Makes a repetition harmless.
    pub(crate) key: RequestKey,
    /// What was sent.
    pub(crate) body: T,
}

impl<T: DeserializeOwned> FromRequest<App> for KeyedJson<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, app: &App) -> Result<Self, Failure> {
        let (parts, body) = request.into_parts();
        if !is_json(&parts.headers) {
            return Err(Failure::MediaType { wanted: "application/json" });
        }
        let read = Bytes::from_request(Request::from_parts(parts.clone(), body), app);
        let bytes = tokio::time::timeout(BODY_WITHIN, read).await.map_err(|_| Failure::TooSlow(BODY_WITHIN))?;
        let bytes = bytes.map_err(unread)?;
        let key = seal(app.random.as_ref(), &parts.method, &parts.uri, &parts.headers, &bytes)?;
        Ok(Self { key, body: parse(&bytes)? })
    }
}

/// True for `application/json` and its `+json` relatives.
pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    let text = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

fn unread(rejection: BytesRejection) -> Failure {
    if rejection.status() == http::StatusCode::PAYLOAD_TOO_LARGE {
        Failure::TooLarge { limit: crate::BODY_LIMIT }
    } else {
        Failure::BrokenOff
    }
}

/// Reads JSON; an error names the field.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    // Serde reads a struct out of a list too, field after field: `[]` would be all defaults.
    if bytes.trim_ascii_start().starts_with(b"[") {
        return Err(Failure::Body {
            field: None,
            syntax: false,
            why: "it is a list, and an object is wanted".to_owned(),
        });
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let (path, error) = (error.path().to_string(), error.into_inner());
        let text = error.to_string();
        if !error.is_data() {
            return Failure::Body { field: None, syntax: true, why: text };
        }
        // Whoever is told the field needs no line and column.
        let why = text.rsplit_once(" at line ").map_or(text.as_str(), |(why, _)| why);
        let field = field(&path, why);
        let why = if field.is_some() { why.to_owned() } else { without_text(why) };
        Failure::Body { field, syntax: false, why }
    })?;
    reader.end().map_err(|error| Failure::Body { field: None, syntax: true, why: error.to_string() })?;
    Ok(value)
}

/// What serde says of a body that is one text, without the text: it may be a document with secrets, sent bare.
fn without_text(why: &str) -> String {
    let bare = why.strip_prefix("invalid type: string ").and_then(|rest| rest.rsplit_once(", expected "));
    bare.map_or_else(|| why.to_owned(), |(_, expected)| format!("invalid type: string, expected {expected}"))
}

/// Which field is meant: serde names one that is missing in its text only.
fn field(path: &str, why: &str) -> Option<String> {
    let parent = Some(path).filter(|path| *path != ".");
    let missing = why.strip_prefix("missing field `").and_then(|rest| rest.split_once('`')).map(|(name, _)| name);
    match (parent, missing) {
        (Some(parent), Some(missing)) => Some(format!("{parent}.{missing}")),
        (None, Some(missing)) => Some(missing.to_owned()),
        (parent, None) => parent.map(str::to_owned),
    }
}

/// Makes the request's key: the client's, or a fresh one.
pub(crate) fn seal(
    random: &dyn Random,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<RequestKey, Failure> {
    let condition = headers.get(header::IF_MATCH).map(http::HeaderValue::as_bytes).unwrap_or_default();
    let body = digest(&[
        method.as_str().as_bytes(),
        uri.path_and_query().map_or("/", |p| p.as_str()).as_bytes(),
        condition,
        body,
    ]);
    let Some(value) = headers.get(HEADER) else {
        return Ok(fresh(random, body));
    };
    let key = value.to_str().ok().filter(|k| (1..=KEY_MAX).contains(&k.len())).ok_or_else(|| Failure::Header {
        name: "Idempotency-Key",
        why: format!("it must be 1 to {KEY_MAX} printable ASCII characters; a fresh UUID for each request is best"),
    })?;
    Ok(RequestKey { key: key.to_owned(), body, origin: Origin::Client })
}

/// A key that nobody else has.
pub(crate) fn fresh(random: &dyn Random, body: Blake3) -> RequestKey {
    RequestKey { key: hex(&draw::<16>(random)), body, origin: Origin::Internal }
}

/// One digest over parts that cannot run into each other.
fn digest(parts: &[&[u8]]) -> Blake3 {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    Blake3(*hasher.finalize().as_bytes())
}

fn hex(bytes: &[u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use serde::Deserialize;

    #[derive(Debug)]
    struct Fixed;

    impl Random for Fixed {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(7);
        }
    }

    fn key(header: Option<&'static str>, uri: &'static str, body: &[u8]) -> Result<RequestKey, Failure> {
        let mut headers = HeaderMap::new();
        if let Some(value) = header {
            headers.insert(HEADER, HeaderValue::from_static(value));
        }
        seal(&Fixed, &Method::POST, &Uri::from_static(uri), &headers, body)
    }

    #[test]
    fn the_key_is_the_clients_and_the_digest_covers_the_request() {
        let one = key(Some("k"), "/vms", b"{}").unwrap();
        assert_eq!((one.key.as_str(), one.origin), ("k", Origin::Client));
        assert_eq!(one, key(Some("k"), "/vms", b"{}").unwrap());
        assert_ne!(one.body, key(Some("k"), "/vms", b"{ }").unwrap().body);
        assert_ne!(one.body, key(Some("k"), "/vm", b"s{}").unwrap().body);
        let fresh = key(None, "/vms", b"{}").unwrap();
        assert_eq!((fresh.key.as_str(), fresh.origin), ("07070707070707070707070707070707", Origin::Internal));
        assert!(key(Some(""), "/vms", b"").is_err());
    }

    #[test]
    fn a_bad_body_names_its_field() {
        #[derive(Debug, Deserialize)]
        struct Inner {
            #[allow(dead_code, reason = "only its reading is tested")]
            memory: u64,
        }
        #[derive(Debug, Deserialize)]
        struct Outer {
            #[allow(dead_code, reason = "only its reading is tested")]
            spec: Inner,
        }
        let failure = parse::<Outer>(br#"{"spec":{"memory":"x"}}"#).unwrap_err();
        assert!(
            matches!(&failure, Failure::Body { field: Some(field), syntax: false, .. } if field == "spec.memory"),
            "{failure:?}"
        );
        assert_eq!(field("spec", "missing field `memory`"), Some("spec.memory".to_owned()));
        assert_eq!(field(".", "invalid type: map, expected a string"), None);
        let bare = parse::<Outer>(br#""password: hunter2""#).unwrap_err();
        assert!(
            matches!(&bare, Failure::Body { field: None, why, .. } if why == "invalid type: string, expected struct Outer"),
            "{bare:?}"
        );
        for list in [&b"[]"[..], br#" [{"memory":1}]"#] {
            assert!(matches!(parse::<Outer>(list).unwrap_err(), Failure::Body { syntax: false, .. }));
        }
        assert!(matches!(parse::<Outer>(b"{").unwrap_err(), Failure::Body { syntax: true, .. }));
        assert!(matches!(parse::<u64>(b"1 2").unwrap_err(), Failure::Body { syntax: true, .. }));
    }
}

//! `ETag` and `If-Match`: the generation of a VM's specification, or of the cluster's cloud-init defaults, so that nobody
//! changes what they have not seen.
//!
//! In: the request's headers. Out: the generation the change is meant for. Observations never change an `ETag`.

use crate::problem::Failure;
use axum::extract::FromRequestParts;
use http::{HeaderMap, HeaderValue, header, request::Parts};
use waifud_model::ids::Generation;

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
    let text = value.to_str().map_err(|_| refuse())?.trim();
    if text == "*" {
        return Ok(None);
    }
    let digits = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).ok_or_else(refuse)?;
    digits.parse().map(|n| Some(Generation(n))).map_err(|_| refuse())
}

/// Puts the `ETag` of `generation` on an answer.
pub(crate) fn tag(headers: &mut HeaderMap, generation: Generation) {
    if let Ok(value) = HeaderValue::try_from(format!("\"{generation}\"")) {
        headers.insert(header::ETAG, value);
    }
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
    }
}

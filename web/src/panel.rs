//! The panel's static files, out of the binary.
//!
//! In: a path. Out: the file with a strict content security policy and caching by content, or the page itself for paths
//! that a browser opened (every object of the panel has a URL). Must not need a token, and must hold nothing secret.

use crate::problem::Failure;
use axum::response::{IntoResponse, Response};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri,
    header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH},
};
use rust_embed::{Embed, EmbeddedFile};

/// The built panel, or the stub page (see `build.rs`).
#[derive(Embed)]
#[folder = "$WAIFUD_PANEL_DIR"]
struct Files;

const PAGE: &str = "index.html";

/// Files whose name holds a digest of their content never change; the page that names them is asked for every time.
const FOREVER: &str = "public, max-age=31536000, immutable";
const ASK_AGAIN: &str = "no-cache";

/// Everything from this origin only, no inline code, no frames around us.
const SECURITY: [(HeaderName, &str); 5] = [
    (
        http::header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; \
         connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    (http::header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (http::header::X_FRAME_OPTIONS, "DENY"),
    (http::header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];

/// Serves a file of the panel; everything no route took ends here.
pub(crate) async fn serve(method: Method, uri: Uri, headers: HeaderMap) -> Result<Response, Failure> {
    let path = uri.path();
    if path == "/api" || path.starts_with("/api/") {
        return Err(Failure::NoSuchPath(path.to_owned()));
    }
    if !matches!(method, Method::GET | Method::HEAD) {
        return Ok(([(ALLOW, "GET, HEAD")], Failure::Method(method.to_string())).into_response());
    }
    let name = path.trim_start_matches('/');
    let opened = headers.get(ACCEPT).and_then(|v| v.to_str().ok()).is_some_and(|v| v.contains("text/html"));
    let (name, file) = match Files::get(name) {
        Some(file) => (name, file),
        None if name.is_empty() || opened => (PAGE, page()?),
        None => return Err(Failure::NoSuchPath(path.to_owned())),
    };
    Ok(answer(name, file, headers.get(IF_NONE_MATCH)))
}

fn page() -> Result<EmbeddedFile, Failure> {
    Files::get(PAGE).ok_or_else(|| Failure::NoSuchPath("/".to_owned()))
}

fn answer(name: &str, file: EmbeddedFile, known: Option<&HeaderValue>) -> Response {
    let etag = format!("\"{}\"", waifud_model::digest::Sha256(file.metadata.sha256_hash()).short());
    let caching = if has_digest(name) { FOREVER } else { ASK_AGAIN };
    let unchanged = known.and_then(|v| v.to_str().ok()).is_some_and(|v| v.split(',').any(|tag| tag.trim() == etag));
    let head = [(CACHE_CONTROL, caching.to_owned()), (ETAG, etag)];
    if unchanged {
        return (StatusCode::NOT_MODIFIED, SECURITY, head).into_response();
    }
    (SECURITY, head, [(CONTENT_TYPE, content_type(name))], file.data.into_owned()).into_response()
}

/// esbuild names its outputs `name-HASH.ext`, the hash being eight letters of base 32.
fn has_digest(name: &str) -> bool {
    let stem = name.rsplit('/').next().unwrap_or(name).split('.').next().unwrap_or(name);
    stem.rsplit_once('-')
        .is_some_and(|(_, hash)| hash.len() == 8 && hash.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit()))
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_with_a_digest_are_kept_forever() {
        assert!(has_digest("assets/main-7XQK2ABC.js"));
        for name in ["index.html", "main.js", "vm-list.js", "icon-64.png", "main-7xqk2abc.js"] {
            assert!(!has_digest(name), "{name}");
        }
    }
}

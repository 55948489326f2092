//! Passes a browser's request on to a node, and the answer back, both as they come: events and uploads stream, and the
//! WebSocket of a console is carried until either side ends it.

use super::door::{Door, Entry};
use bytes::Bytes;
use futures::TryStreamExt as _;
use http::{
    HeaderMap, Request, Response, StatusCode,
    header::{self, HeaderName, HeaderValue},
};
use http_body_util::{BodyExt as _, BodyStream, Empty, Full, combinators::BoxBody};
use hyper::{
    body::{Body as _, Incoming},
    upgrade::OnUpgrade,
};
use hyper_util::rt::TokioIo;
use waifud_api::client::{Client, RelayBody, RelayRequest, reqwest};

/// Bodies up to here are read first, so that another endpoint can be tried with them: forms are small, uploads are not.
const WHOLE_MAX: u64 = 1 << 20;

/// The body of an answer.
type Answer = BoxBody<Bytes, reqwest::Error>;

/// Headers that concern one hop only (RFC 9110, 7.6.1), and those that speak of the browser's way to us: cookie and origin
/// have done their duty at the door, and the node must see the client's own credentials only.
const NOT_ON: [HeaderName; 12] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
    header::PROXY_AUTHORIZATION,
    header::PROXY_AUTHENTICATE,
    header::HOST,
    header::COOKIE,
    header::AUTHORIZATION,
    header::ORIGIN,
    header::REFERER,
];
/// Headers of answers that do not go back. The panel's session here is the door's, not the node's.
const NOT_BACK: [HeaderName; 6] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::TRAILER,
    header::UPGRADE,
    header::SET_COOKIE,
    header::STRICT_TRANSPORT_SECURITY,
];

/// Answers one request.
pub(super) async fn handle(door: &Door, client: &Client, request: Request<Incoming>) -> Response<Answer> {
    match door.judge(request.method(), request.uri().path(), request.headers()) {
        Entry::Open => relay(client, request).await,
        Entry::SignIn => welcome(door),
        Entry::Spent => page(StatusCode::GONE, "This link was used. Run waifuctl panel again for another."),
        Entry::Shut(why) => page(StatusCode::FORBIDDEN, why),
    }
}

/// Sets the cookie, and goes to the panel from a page of our own: a redirect would still count as coming from where the link was
/// opened, and a strict cookie would not be sent along.
fn welcome(door: &Door) -> Response<Answer> {
    let mut answer = page(StatusCode::OK, "Signed in.");
    let html = Bytes::from_static(
        b"<!doctype html><meta http-equiv=\"refresh\" content=\"0;url=/\"><title>waifu</title>Signed in.",
    );
    *answer.body_mut() = Full::new(html).map_err(|never| match never {}).boxed();
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    if let Ok(cookie) = HeaderValue::from_str(&door.set_cookie()) {
        answer.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    answer
}

fn page(status: StatusCode, text: &str) -> Response<Answer> {
    let mut answer = Response::new(Full::new(Bytes::from(format!("{text}\n"))).map_err(|never| match never {}).boxed());
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    answer
}

async fn relay(client: &Client, mut request: Request<Incoming>) -> Response<Answer> {
    let browser = is_websocket(request.headers()).then(|| hyper::upgrade::on(&mut request));
    let (head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned();
    let body = match body.size_hint().exact() {
        Some(size) if size <= WHOLE_MAX => match body.collect().await {
            Ok(whole) => RelayBody::Whole(whole.to_bytes()),
            Err(_) => return page(StatusCode::BAD_REQUEST, "The request broke off."),
        },
        _ => {
            let chunks = BodyStream::new(body).try_filter_map(async |frame| Ok(frame.into_data().ok()));
            RelayBody::Stream(reqwest::Body::wrap_stream(chunks))
        }
    };
    let mut headers = passed(&head.headers, &NOT_ON);
    if browser.is_some() {
        upgrading(&mut headers);
    }
    let relayed = RelayRequest { method: head.method, path, headers, body };
    match client.relay(relayed).await {
        Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => match browser {
            Some(browser) => carry(browser, response),
            None => page(StatusCode::BAD_GATEWAY, "The node goes on as something that was not asked for."),
        },
        Ok(response) => {
            let (mut head, body) = Response::<reqwest::Body>::from(response).into_parts();
            head.headers = passed(&head.headers, &NOT_BACK);
            head.version = http::Version::HTTP_11;
            Response::from_parts(head, body.boxed())
        }
        Err(error) => page(StatusCode::BAD_GATEWAY, &error.to_string()),
    }
}

/// Panels ask for nothing else.
fn is_websocket(headers: &HeaderMap) -> bool {
    headers.get(header::UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Each hop asks for itself.
fn upgrading(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}

/// Tells the browser that it is done, and carries bytes both ways from then on.
fn carry(browser: OnUpgrade, response: reqwest::Response) -> Response<Answer> {
    let mut answer = page(StatusCode::SWITCHING_PROTOCOLS, "");
    *answer.body_mut() = Empty::new().map_err(|never| match never {}).boxed();
    *answer.headers_mut() = passed(response.headers(), &NOT_BACK);
    upgrading(answer.headers_mut());
    tokio::spawn(async move {
        // The browser upgrades when it has read this answer. How either side ends it is passed on by ending the other.
        if let (Ok(browser), Ok(mut node)) = tokio::join!(browser, response.upgrade()) {
            let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(browser), &mut node).await;
        }
    });
    answer
}

/// The headers without some, and without those that `Connection` names.
fn passed(headers: &HeaderMap, without: &[HeaderName]) -> HeaderMap {
    let named: Vec<String> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    let stays = |name: &HeaderName| !without.contains(name) && !named.iter().any(|other| other == name.as_str());
    headers.iter().filter(|(name, _)| stays(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_concerns_one_hop_stays_behind() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Secret"),
            ("x-secret", "1"),
            ("cookie", "a=b"),
            ("accept", "*/*"),
            ("accept", "text/html"),
        ] {
            headers.append(name, value.parse().unwrap());
        }
        let passed = passed(&headers, &NOT_ON);
        let names: Vec<_> = passed.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["accept"]);
        assert_eq!(passed.get_all("accept").iter().count(), 2);
    }
}

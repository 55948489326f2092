//! `waifuctl panel` as a browser sees it: one link, one browser, and then the API as it is.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    dead_code,
    reason = "a test that cannot go on must end; the fake is shared"
)]

mod fake;

use bytes::Bytes;
use fake::{Fake, ok};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::TcpStream,
};

/// Asks the panel's address like a browser.
async fn ask(address: &str, request: http::request::Builder, body: &str) -> (Response<()>, String) {
    let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let request: Request<Full<Bytes>> = request.header("host", address).body(body.to_owned().into()).unwrap();
    let (head, body) = sender.send_request(request).await.unwrap().into_parts();
    let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    (Response::from_parts(head, ()), text)
}

#[tokio::test]
async fn one_browser_is_let_in_and_sees_the_api() {
    let fake = Fake::serve(|line, body| match line {
        "GET /api/v1/cluster" => ok(json!({
            "id": "01010101-0101-4101-8101-010101010101", "cidr": "10.77.0.0/16", "answered_by": "n1", "quorum": true,
            "leader": "n1", "term": 1, "vms": 0, "members": [], "feature_level": 1,
            "state": { "index": 1, "digest": "0".repeat(64) }, "advice": []
        })),
        "POST /api/v1/vms" => ok(json!({ "echo": String::from_utf8_lossy(body) })),
        "GET /" => {
            let mut page = ok(json!("the panel"));
            page.headers_mut().insert("content-security-policy", "default-src 'self'".parse().unwrap());
            page.headers_mut().insert("set-cookie", "session=node".parse().unwrap());
            page
        }
        _ => fake::refuse(waifud_api::problem::ProblemCode::NoSuchEndpoint),
    });
    let mut child = fake.command(&["panel", "--no-open"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let link = tokio::time::timeout(fake::DEADLINE, lines.next_line()).await.unwrap().unwrap().unwrap();
    let (address, path) = link.strip_prefix("http://").unwrap().split_once('/').unwrap();

    let (shut, _) = ask(address, Request::get("/api/v1/cluster"), "").await;
    assert_eq!(shut.status(), StatusCode::FORBIDDEN, "nobody comes in without the link");
    let (welcome, _) = ask(address, Request::get(format!("/{path}")), "").await;
    assert_eq!(welcome.status(), StatusCode::OK);
    let cookie = welcome.headers()["set-cookie"].to_str().unwrap();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    let cookie = cookie.split(';').next().unwrap();
    let (spent, _) = ask(address, Request::get(format!("/{path}")), "").await;
    assert_eq!(spent.status(), StatusCode::GONE, "the link works once");

    let (page, text) = ask(address, Request::get("/").header("cookie", cookie), "").await;
    assert_eq!((page.status(), text.as_str()), (StatusCode::OK, "\"the panel\""));
    assert!(page.headers().contains_key("content-security-policy"));
    assert!(!page.headers().contains_key("set-cookie"), "the node's session is not the browser's");
    let post = Request::post("/api/v1/vms").header("cookie", cookie).header("origin", format!("http://{address}"));
    let (_, echo) = ask(address, post, "hello").await;
    assert_eq!(echo, r#"{"echo":"hello"}"#);
    let forged = Request::post("/api/v1/vms").header("cookie", cookie).header("origin", "http://127.0.0.1:1");
    assert_eq!(ask(address, forged, "hello").await.0.status(), StatusCode::FORBIDDEN);
    assert_eq!(fake.asked(), ["GET /api/v1/cluster", "GET /", "POST /api/v1/vms"], "what was shut out went nowhere");
    child.kill().await.unwrap();
}

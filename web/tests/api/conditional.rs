//! Conditions: what is the same is not sent again, and what was changed unseen is not changed.
//!
//! Which paths there are is read from the API's own description, so one that is added is tried too.

use crate::house::{Answer, House, Node, delete, get, json};
use axum::body::Body;
use expect_test::expect;
use http::{HeaderValue, Method, Request, StatusCode};
use serde_json::Value;
use std::sync::Arc;
use waifud_model::mesh::MeshKey;

/// How often a path is asked anew whose answer moved between two questions.
const ASKED_AGAIN: usize = 5;

/// A house with one of everything.
async fn furnished() -> House {
    let house = House::start(1).await;
    let node = &house.nodes[0];
    let peer = format!(r#"{{"name":"laptop","key":"{}"}}"#, MeshKey([1; 32]));
    for (path, body) in [
        ("/api/v1/vms", r#"{"name":"web-1","template":"tiny"}"#),
        ("/api/v1/net/peers", &peer),
        ("/api/v1/tokens", r#"{"role":"viewer"}"#),
        ("/api/v1/cluster/join-tokens", "{}"),
    ] {
        assert_eq!(node.post(path, body).await.status, StatusCode::CREATED, "{path}");
    }
    house
}

/// The path about what the house has.
fn filled(path: &str) -> String {
    let name = match path.split('/').nth(3) {
        Some("vms" | "history") => "web-1",
        Some("templates") => "tiny",
        Some("nodes") => "n1",
        Some("net") => "laptop",
        _ => "",
    };
    let filled = path.replace("{name}", name).replace("{kind}", "vm");
    assert!(!filled.contains('{') && !filled.contains("//"), "this test knows nothing that {path} could be about");
    filled
}

/// All operations that take this header: path, method, description.
async fn taking(node: &Node, header: &str) -> Vec<(String, Method, Value)> {
    let document = node.get("/api/v1/openapi.json").await.json();
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let takes = operation["parameters"].as_array().unwrap().iter().any(|one| one["name"] == header);
            if takes {
                found.push((path.clone(), method.to_uppercase().parse().unwrap(), operation.clone()));
            }
        }
    }
    found
}

async fn with(node: &Node, mut request: Request<Body>, header: &'static str, value: &str) -> Answer {
    request.headers_mut().insert(header, HeaderValue::try_from(value).unwrap());
    node.call(request).await
}

/// Asks for what is there, then again in every way of saying that it is there already, and in one that says that it is not.
/// The error is what was answered otherwise.
async fn not_sent_again(node: &Node, path: &str) -> Result<(), String> {
    let first = node.get(path).await;
    let tag = first.header("etag");
    assert!(!tag.is_empty() && first.status == 200, "{path}: {}", first.text());
    for known in [tag.to_owned(), format!("\"x\", W/{}", tag.trim_start_matches("W/")), "*".to_owned()] {
        let again = with(node, get(path), "if-none-match", &known).await;
        assert!(!again.header("waifu-applied").is_empty(), "{path}: how fresh it is is told all the same");
        if (again.status, again.bytes.len(), again.header("etag")) != (StatusCode::NOT_MODIFIED, 0, tag) {
            return Err(format!("{known}: {} {}, after {tag}", again.status, again.header("etag")));
        }
    }
    let other = with(node, get(path), "if-none-match", "\"other\"").await;
    if (other.status, other.bytes.len()) == (StatusCode::OK, first.bytes.len()) {
        Ok(())
    } else {
        Err(format!("{} with {} bytes", other.status, other.bytes.len()))
    }
}

#[tokio::test]
async fn nothing_is_sent_again_to_who_has_it() {
    let house = furnished().await;
    let node = &house.nodes[0];
    let operations = taking(node, "If-None-Match").await;
    assert!(operations.len() >= 17, "{operations:?}");
    for (path, _, operation) in &operations {
        assert!(operation["responses"]["304"]["headers"]["ETag"].is_object(), "{path}");
        let path = filled(path);
        // The cluster's tells how far each node is, and may move between two questions.
        let mut asked = Err(String::new());
        for _ in 0..ASKED_AGAIN {
            asked = not_sent_again(node, &path).await;
            if asked.is_ok() {
                break;
            }
        }
        assert_eq!(asked, Ok(()), "{path}");
    }
}

#[tokio::test]
async fn every_json_under_the_api_can_be_asked_for_so() {
    let house = House::start(1).await;
    let node = &house.nodes[0];
    let taken: Vec<String> = taking(node, "If-None-Match").await.into_iter().map(|(path, ..)| path).collect();
    let document = node.get("/api/v1/openapi.json").await.json();
    let json = |item: &Value| {
        let content = item["get"]["responses"]["200"]["content"].as_object();
        content.is_some_and(|content| content.keys().any(|kind| kind.ends_with("json")))
    };
    let paths = document["paths"].as_object().unwrap().iter();
    let left: Vec<&String> =
        paths.filter(|(path, item)| json(item) && !taken.contains(path)).map(|(path, _)| path).collect();
    assert_eq!(left, ["/api/v1/nodes/{name}/doctor"], "a node that looks at itself has no state to compare");
}

#[tokio::test]
async fn nobody_changes_what_they_have_not_seen() {
    let house = furnished().await;
    let node = &house.nodes[0];
    let operations = taking(node, "If-Match").await;
    assert!(operations.len() >= 16, "{operations:?}");
    for (path, method, _) in operations {
        let path = filled(&path);
        // What is there is more than one generation old, or none at all.
        let body = if path.ends_with("/rename") { r#"{"name":"web-2"}"# } else { "{}" };
        let stale = ["/vms/", "/cloud-init"].iter().any(|generations| path.contains(generations));
        let tag = if stale { "\"99\"" } else { "\"r0000000000000000\"" };
        let refused = with(node, json(method.clone(), &path, body), "if-match", tag).await;
        assert_eq!(
            (refused.status, &refused.json()["code"]),
            (StatusCode::PRECONDITION_FAILED, &"stale".into()),
            "{method} {path}"
        );
        let unread = with(node, json(method.clone(), &path, body), "if-match", "3").await;
        assert_eq!(unread.status, StatusCode::BAD_REQUEST, "{method} {path}");
    }
}

#[tokio::test]
async fn what_was_seen_may_be_changed_once() {
    let house = furnished().await;
    let node = &house.nodes[0];
    let seen = node.get("/api/v1/nodes/n1").await.header("etag").to_owned();
    node.see(|observed| {
        observed.nodes.values_mut().for_each(|node| Arc::make_mut(node).version = Some("9.9.9".to_owned()));
    });
    assert_eq!(node.get("/api/v1/nodes/n1").await.header("etag"), seen, "what is observed changes no tag");
    let label = |rack: &str| json(Method::PATCH, "/api/v1/nodes/n1", &format!(r#"{{"labels":{{"rack":"{rack}"}}}}"#));
    let mut first = label("a");
    first.headers_mut().insert("idempotency-key", HeaderValue::from_static("once"));
    let changed = with(node, first, "if-match", &seen).await;
    assert_eq!(changed.status, StatusCode::OK);
    let told = with(node, label("b"), "if-match", &seen).await;
    expect![[r#"
        412 stale: it was changed in between: its ETag is "r3e0663a4806b89d1", and the request was made for "r511402aba5d6e3d0"
        → read it again, and make the change to what is there now
    "#]].assert_eq(&told.told());
    // Whoever did not hear the answer asks again, and hears that it was done.
    let mut again = label("a");
    again.headers_mut().insert("idempotency-key", HeaderValue::from_static("once"));
    assert_eq!(with(node, again, "if-match", &seen).await.status, StatusCode::OK);
    assert_eq!(with(node, label("b"), "if-match", changed.header("etag")).await.status, StatusCode::OK);
    assert_eq!(with(node, label("c"), "if-match", "*").await.status, StatusCode::OK);

    let seen = node.get("/api/v1/templates/tiny").await.header("etag").to_owned();
    assert_eq!(node.upload("tiny", b"newer").await.status, StatusCode::CREATED);
    let refused = with(node, delete("/api/v1/templates/tiny"), "if-match", &seen).await;
    assert_eq!(refused.status, StatusCode::PRECONDITION_FAILED, "a version that nobody has looked at stays");

    let peer = node.get("/api/v1/net/peers/laptop").await.header("etag").to_owned();
    let gone = with(node, delete("/api/v1/net/peers/laptop"), "if-match", &peer).await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT);
}

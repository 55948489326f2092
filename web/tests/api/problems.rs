//! Requests that cannot be understood are answered like all other failures.

use crate::house::{Answer, House, get, json};
use axum::body::Body;
use expect_test::expect;
use http::{Method, Request};
use std::sync::atomic::Ordering;

#[tokio::test]
async fn every_misunderstanding_is_a_problem() {
    let house = House::start(1).await;
    let node = &house.nodes[0];
    let large = format!("{{\"template\":\"{}\"}}", "x".repeat(2 << 20));
    let patch = json(Method::PATCH, "/api/v1/vms", "{}");
    let text = Request::post("/api/v1/vms").header("content-type", "text/plain").body(Body::from("x")).unwrap();
    let mut key = json(Method::POST, "/api/v1/vms", r#"{"template":"tiny"}"#);
    key.headers_mut().insert("idempotency-key", "k".repeat(200).parse().unwrap());
    let mut index = get("/api/v1/vms");
    index.headers_mut().insert("waifu-index", "soon".parse().unwrap());
    let answers = [
        node.get("/api/v1/machines").await,
        node.get("/nothing/here").await,
        node.call(patch).await,
        node.call(text).await,
        node.post("/api/v1/vms", &large).await,
        node.post("/api/v1/vms", "{").await,
        node.post("/api/v1/vms", "{}").await,
        node.post("/api/v1/vms", r#"{"template":"tiny","memroy":"4G"}"#).await,
        node.post("/api/v1/vms", r#"{"template":"tiny","cpus":"many"}"#).await,
        node.post("/api/v1/vms", r#"{"template":"tiny","name":"../x"}"#).await,
        node.get("/api/v1/vms?filter=colour%3Dred").await,
        node.get("/api/v1/vms?colour=red").await,
        node.call(key).await,
        node.call(index).await,
        node.post("/api/v1/cluster/join-tokens", r#"{"uses":0}"#).await,
    ];
    let told: String = answers.iter().map(Answer::told).collect();
    expect![[r#"
        404 no_such_endpoint: there is nothing at /api/v1/machines
        → all paths are listed in /api/v1/openapi.json
        404 no_such_endpoint: there is nothing at /nothing/here
        → all paths are listed in /api/v1/openapi.json
        405 no_such_endpoint: this method is not possible here; the Allow header lists what is
        → -
        415 unsupported_media: the body must be application/json, as Content-Type says it
        → -
        413 too_large: the body has more than 1 MiB, which is the most taken here
        → -
        400 invalid: the body is not JSON: EOF while parsing an object at line 1 column 1
        → -
        422 invalid: template: missing field `template`
        → -
        422 invalid: memroy: unknown field `memroy`, expected one of `name`, `template`, `cpus`, `memory`, `disk`, `node`, `user_data`, `network_config`, `ssh_keys`, `datasource`, `imds`, `labels`, `restart`, `description`, `prot
        → -
        422 invalid: cpus: invalid type: string "many", expected u32
        → -
        422 invalid: name: "../x" is not a VM name: only lower-case letters, digits and '-' are allowed
        → -
        400 invalid: the query does not read: filter: "colour" cannot be filtered by; there are node, status, template and label.<key>
        → -
        400 invalid: the query does not read: colour: unknown field `colour`, expected one of `filter`, `limit`, `after`
        → -
        400 invalid: the header Idempotency-Key does not read: it must be 1 to 128 printable ASCII characters; a fresh UUID for each request is best
        → -
        400 invalid: the header Waifu-Index does not read: it must be a number
        → -
        400 invalid: uses: 1 to 1000
        → -
    "#]].assert_eq(&told);
    assert_eq!(answers[2].header("allow"), "GET,HEAD,POST");
}

#[tokio::test]
async fn a_request_id_is_kept_if_it_is_decent() {
    let house = House::start(1).await;
    let node = &house.nodes[0];
    let mut request = get("/api/v1/vms/none");
    request.headers_mut().insert("x-request-id", "abc-1".parse().unwrap());
    let answer = node.call(request).await;
    assert_eq!((answer.header("x-request-id"), answer.json()["request_id"].as_str()), ("abc-1", Some("abc-1")));
    let mut request = get("/api/v1/vms/none");
    request.headers_mut().insert("x-request-id", "a b\"c".parse().unwrap());
    let made = node.call(request).await.header("x-request-id").to_owned();
    assert!(made.len() == 16 && made.bytes().all(|b| b.is_ascii_hexdigit()), "{made}");
}

#[tokio::test]
async fn a_node_in_no_cluster_says_so() {
    let house = House::bare(1).await;
    let node = &house.nodes[0];
    assert_eq!(node.get("/healthz").await.text(), "ok\n");
    let told: String =
        [node.get("/readyz").await, node.get("/api/v1/cluster").await].iter().map(Answer::told).collect();
    expect![[r#"
        503 not_initialised: this node is in no cluster yet
        → waifud init, or waifud join TOKEN
        503 not_initialised: this node is in no cluster yet
        → waifud init, or waifud join TOKEN
    "#]]
    .assert_eq(&told);
}

#[tokio::test]
async fn a_fault_of_the_program_ends_one_request_only() {
    let house = House::start(1).await;
    let node = &house.nodes[0];
    node.post("/api/v1/vms", r#"{"name":"web-1","template":"tiny"}"#).await;
    node.tasks.broken.store(true, Ordering::SeqCst);
    expect![[r#"
        500 internal: this node could not answer, because of a fault of its own
        → look for the request id in the log of the node, or ask another node
    "#]]
    .assert_eq(&node.get("/api/v1/vms/web-1").await.told());
    assert_eq!(node.get("/api/v1/vms").await.status.as_u16(), 200);
}

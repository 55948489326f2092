//! Templates: taken in whole and verified, or not at all.

use crate::house::{Answer, House, delete, json};
use axum::body::Body;
use expect_test::expect;
use http::{Method, Request};
use waifud_model::digest::Blake3;

#[tokio::test]
async fn versions_come_and_go() {
    let house = House::start(1).await;
    let node = &house.nodes[0];
    let added = node.upload("debian-12", b"first").await;
    expect![[r#"
        201
        {
          "added_at": "2025-10-09T08:53:20.000Z",
          "format": "raw",
          "nodes": [
            "n1"
          ],
          "sha256": "22896bcbc3d1c76a0b90c4c3523dbea532ad63196fafdbd52cced52200d3dae4",
          "size": 5,
          "template": "debian-12",
          "url": null,
          "version": "22896bcbc3d1c76a0b90c4c3523dbea532ad63196fafdbd52cced52200d3dae4",
          "virtual_size": 2147483648,
          "vms": 0
        }
    "#]]
    .assert_eq(&added.shown());
    node.upload("debian-12", b"second").await;
    let versions = node.get("/api/v1/templates/debian-12").await.json()["versions"].clone();
    assert_eq!(versions[0]["version"], Blake3::of(b"second").to_string(), "the newest comes first");

    let names = |list: &serde_json::Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|t| t["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&node.get("/api/v1/templates").await.json()), ["debian-12", "tiny"]);

    let first = Blake3::of(b"first").short();
    let gone = node.call(delete(&format!("/api/v1/templates/debian-12?version={first}"))).await;
    assert_eq!((gone.status.as_u16(), gone.text()), (204, ""));
    let tried = node.call(delete("/api/v1/templates/debian-12?dry_run=true")).await;
    assert_eq!((tried.status.as_u16(), tried.text()), (204, ""));
    assert_eq!(node.get("/api/v1/templates/debian-12").await.json()["versions"].as_array().unwrap().len(), 1);

    node.post("/api/v1/vms", r#"{"template":"debian-12"}"#).await;
    expect![[r#"
        409 in_use: template debian-12 is in use by 1 VM
        → delete them first: waifuctl list template=debian-12
    "#]]
    .assert_eq(&node.call(delete("/api/v1/templates/debian-12")).await.told());
    for what in ["debian-12?dry_run=true", "nope?dry_run=true"] {
        let [tried, done] = [what, what.split('?').next().unwrap()].map(|what| format!("/api/v1/templates/{what}"));
        assert_eq!(node.call(delete(&tried)).await.told(), node.call(delete(&done)).await.told());
    }
}

#[tokio::test]
async fn what_is_refused_leaves_nothing() {
    let house = House::start(1).await;
    let node = &house.nodes[0];
    let held = node.images.held.lock().unwrap().clone();
    let wrong = "0".repeat(64);
    let upload = |query: &str, kind: &str, body: &'static str| {
        let request = Request::post(format!("/api/v1/templates/other/versions{query}")).header("content-type", kind);
        request.body(Body::from(body)).unwrap()
    };
    let octets = "application/octet-stream";
    let answers = [
        node.call(upload(&format!("?sha256={wrong}"), octets, "bytes")).await,
        node.call(upload("", octets, "!truncated")).await,
        node.call(upload("?sha256=12", octets, "bytes")).await,
        node.call(upload("", "text/plain", "bytes")).await,
        node.post("/api/v1/templates/other/versions", &format!(r#"{{"url":"http://127.0.0.1/x","sha256":"{wrong}"}}"#))
            .await,
        node.post("/api/v1/templates/other/versions", r#"{"url":"https://images.test/x"}"#).await,
        node.upload("tiny", b"tiny image").await,
        node.upload("Tiny", b"tiny image").await,
    ];
    let told: String = answers.iter().map(Answer::told).collect();
    expect![[r#"
        422 checksum_mismatch: the bytes have SHA-256 df19b1f105ff929191ce49d0bbfdc5b4edc2a71a40f502dc955359eb33649e24, not 0000000000000000000000000000000000000000000000000000000000000000
        → get the file and its published checksum again; nothing of this one was kept
        422 bad_image: not a usable image: it is empty or truncated
        → give a raw or a plain qcow2 image; qemu-img convert makes one
        400 invalid: the query does not read: sha256: "12" is not a SHA-256 digest (64 hex digits)
        → -
        415 unsupported_media: the body must be application/octet-stream or application/json, as Content-Type says it
        → -
        422 url_not_allowed: http://127.0.0.1/x leads into the nodes' own networks
        → give an http or https URL outside the nodes' own networks, or download it and add the file
        422 invalid: sha256: missing field `sha256`
        → -
        409 version_exists: template tiny has these bytes already, as version b6e5e0473460…
        → nothing is to be done; waifuctl create -t tiny
        400 invalid: "Tiny" is not a template name: only lower-case letters, digits, '-' and '.' are allowed
        → -
    "#]].assert_eq(&told);
    assert_eq!(*node.images.held.lock().unwrap(), held, "what is in use stays, and nothing comes");
    let list = node.get("/api/v1/templates").await.json();
    assert_eq!(list.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_url_is_downloaded_by_the_node() {
    let house = House::start(1).await;
    let node = &house.nodes[0];
    let sha256 = Blake3::of(b"debian.raw");
    let body = format!(r#"{{"url":"https://images.test/debian.raw","sha256":"{sha256}"}}"#);
    let added = node.call(json(Method::POST, "/api/v1/templates/debian-12/versions", &body)).await;
    assert_eq!(added.status.as_u16(), 201);
    assert_eq!(added.json()["url"], "https://images.test/debian.raw");
}

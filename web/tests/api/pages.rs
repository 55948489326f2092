//! Lists part by part: every list, under every limit, is the whole.

use crate::house::House;
use serde_json::Value;
use waifud_model::mesh::MeshKey;

/// All of `path`, part by part; `with` goes into each question.
async fn walk(node: &crate::house::Node, path: &str, with: &str, limit: usize) -> Vec<Value> {
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let part = node.get(&format!("{path}?limit={limit}{with}{after}")).await;
        let items = part.json().as_array().unwrap().clone();
        assert!(items.len() <= limit);
        all.extend(items);
        match part.header("waifu-next") {
            "" => return all,
            next => after = format!("&after={next}"),
        }
    }
}

#[tokio::test]
async fn every_list_is_the_sum_of_its_parts() {
    let house = House::start(3).await;
    let node = &house.nodes[0];
    for n in [3_u8, 1, 10, 2] {
        let body = format!(r#"{{"name":"vm-{n}","template":"tiny","start":false,"labels":{{"odd":"{}"}}}}"#, n % 2);
        assert_eq!(node.post("/api/v1/vms", &body).await.status, 201);
        assert_eq!(node.upload(&format!("disk-{n}"), b"another image").await.status, 201);
        let peer = format!(r#"{{"name":"laptop-{n}","key":"{}"}}"#, MeshKey([n; 32]));
        assert_eq!(node.post("/api/v1/net/peers", &peer).await.status, 201);
        assert_eq!(node.post("/api/v1/tokens", r#"{"role":"viewer"}"#).await.status, 201);
        assert_eq!(node.post("/api/v1/cluster/join-tokens", "{}").await.status, 201);
    }
    for (path, with, count) in [
        ("/api/v1/vms", "", 4),
        ("/api/v1/vms", "&filter=label.odd%3D1", 2),
        ("/api/v1/templates", "", 5),
        ("/api/v1/nodes", "", 3),
        ("/api/v1/net/peers", "", 4),
        ("/api/v1/tokens", "", 4),
        ("/api/v1/cluster/join-tokens", "", 4),
    ] {
        let whole = node.get(&format!("{path}?{}", with.trim_start_matches('&'))).await;
        assert_eq!(whole.header("waifu-next"), "", "{path}");
        let whole = whole.json().as_array().unwrap().clone();
        assert!(whole.len() >= count, "{path}: {whole:?}");
        for limit in 1..=whole.len() + 1 {
            assert_eq!(walk(node, path, with, limit).await, whole, "{path}{with} by {limit}");
        }
    }
    // It goes on after what is not there any more.
    assert_eq!(node.get("/api/v1/vms?limit=2").await.header("waifu-next"), "vm-10");
    node.post("/api/v1/vms/vm-10/rename", r#"{"name":"web-1"}"#).await;
    let rest = node.get("/api/v1/vms?limit=2&after=vm-10").await;
    assert_eq!((&rest.json()[0]["name"], rest.header("waifu-next")), (&"vm-2".into(), "vm-3"));
    let end = node.get("/api/v1/vms?after=web-1").await;
    assert_eq!((end.text(), end.header("waifu-next")), ("[]", ""));
}

#[tokio::test]
async fn what_cannot_be_a_part_is_told_with_its_bounds() {
    let house = House::start(1).await;
    let node = &house.nodes[0];
    let mut told = String::new();
    for query in [
        "vms?limit=0",
        "templates?limit=1001",
        "nodes?limit=ten",
        "vms?after=Web_1",
        "net/peers?after=",
        "tokens?after=x",
        "cluster/join-tokens?before=1",
    ] {
        told.push_str(&node.get(&format!("/api/v1/{query}")).await.told());
    }
    expect_test::expect![[r#"
        400 invalid: the query does not read: limit: "0" is not a number from 1 to 1000; leave it out for the whole list
        → -
        400 invalid: the query does not read: limit: "1001" is not a number from 1 to 1000; leave it out for the whole list
        → -
        400 invalid: the query does not read: limit: "ten" is not a number from 1 to 1000; leave it out for the whole list
        → -
        400 invalid: the query does not read: after: "Web_1" is not a VM name: only lower-case letters, digits and '-' are allowed
        → -
        400 invalid: the query does not read: after: a peer name must not be empty
        → -
        400 invalid: the query does not read: after: "x" is not a token id (16 hex digits)
        → -
        400 invalid: the query does not read: before: unknown field `before`, expected `limit` or `after`
        → -
    "#]].assert_eq(&told);
}

//! Nodes: listed, cordoned, taken out.

use crate::house::{Answer, House, delete, json};
use expect_test::expect;
use http::{Method, StatusCode};

#[tokio::test]
async fn a_node_is_shown_cordoned_and_kept() {
    let house = House::start(1).await;
    let node = &house.nodes[0];
    node.post("/api/v1/vms", r#"{"name":"web-1","template":"tiny"}"#).await;
    expect![[r#"
        200
        [
          {
            "address": "192.0.2.1:7443",
            "alive": true,
            "arch": "x86_64",
            "capacity": {
              "cpus": 16,
              "disk": 107374182400,
              "memory": 8589934592
            },
            "cordoned": false,
            "id": "0000000000000001",
            "joined_at": "2025-10-09T08:53:20.000Z",
            "kvm": true,
            "labels": {},
            "name": "n1",
            "reserved": {
              "cpus": 1,
              "disk": 10737418240,
              "memory": 536870912
            },
            "role": "leader",
            "since": "2025-10-09T08:52:20.000Z",
            "subnet": "10.77.0.0/24",
            "threads": 4,
            "version": "0.1.0",
            "vms": 1
          }
        ]
    "#]]
    .assert_eq(&node.get("/api/v1/nodes").await.shown());

    let cordoned = node.post("/api/v1/nodes/n1/cordon", "").await;
    assert_eq!((cordoned.status.as_u16(), &cordoned.json()["cordoned"]), (200, &true.into()));
    let told: String = [
        node.post("/api/v1/vms", r#"{"template":"tiny"}"#).await,
        node.call(delete("/api/v1/nodes/n1?force=true")).await,
        node.call(delete("/api/v1/nodes/n2")).await,
    ]
    .iter()
    .map(Answer::told)
    .collect();
    expect![[r#"
        409 no_node_fits: node n1 cannot take the VM: it is cordoned
        → waifuctl node uncordon n1, or make room: waifuctl node list shows what is promised
        409 last_node: this is the last node, and it holds the whole state
        → to give up the cluster, stop waifud and remove its data directory
        404 no_such_node: no node "n2"; did you mean "n1"?
        → waifuctl node list
    "#]]
    .assert_eq(&told);
    assert_eq!(node.post("/api/v1/nodes/n1/uncordon", "").await.json()["cordoned"], false);
}

#[tokio::test]
async fn a_node_with_vms_leaves_only_by_force() {
    let house = House::start(2).await;
    let node = &house.nodes[0];
    node.post("/api/v1/vms", r#"{"name":"web-1","template":"tiny","node":"n2"}"#).await;
    expect![[r#"
        409 in_use: node n2 has 1 VM, which would be lost with it
        → delete them (waifuctl list --node n2), or waifuctl node remove n2 --force
    "#]]
    .assert_eq(&node.call(delete("/api/v1/nodes/n2")).await.told());
    let tried = node.call(delete("/api/v1/nodes/n2?dry_run=true")).await;
    assert_eq!(tried.told(), node.call(delete("/api/v1/nodes/n2")).await.told());
    assert_eq!(node.call(delete("/api/v1/nodes/n2?force=true&dry_run=true")).await.status.as_u16(), 204);
    assert_eq!(node.get("/api/v1/nodes").await.json().as_array().unwrap().len(), 2, "a trial run removes nothing");
    assert_eq!(node.call(delete("/api/v1/nodes/n2?force=true")).await.status.as_u16(), 204);
    let last = node.call(delete("/api/v1/nodes/n1?force=true&dry_run=true")).await;
    assert_eq!(last.told(), node.call(delete("/api/v1/nodes/n1?force=true")).await.told());
    assert_eq!(node.get("/api/v1/vms").await.json(), serde_json::json!([]));
}

#[tokio::test]
async fn labels_come_and_go_one_by_one() {
    let house = House::start(1).await;
    let node = &house.nodes[0];
    let patch = |body: &str| json(Method::PATCH, "/api/v1/nodes/n1", body);
    node.call(patch(r#"{"labels":{"rack":"a","disk":"ssd"}}"#)).await;
    let changed = node.call(patch(r#"{"labels":{"rack":"b","disk":null}}"#)).await;
    assert_eq!(changed.json()["labels"], serde_json::json!({ "rack": "b" }));
    assert_eq!(node.get("/api/v1/nodes/n1").await.json()["labels"], serde_json::json!({ "rack": "b" }));
    let history = node.get("/api/v1/history/node/n1").await.json();
    let last = history["objects"][0]["events"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(last["command"], "set_node_labels");
    assert_eq!(last["changes"].as_array().unwrap().len(), 2, "{last}");
    for bad in [r#"{"labels":{"a b":"c"}}"#, r#"{"label":{}}"#, "[]"] {
        assert!(node.call(patch(bad)).await.status.is_client_error(), "{bad}");
    }
    assert_eq!(node.call(json(Method::PATCH, "/api/v1/nodes/n9", "{}")).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_node_looks_at_itself_whoever_is_asked() {
    let house = House::start(2).await;
    let told = house.nodes[0].get("/api/v1/nodes/n2/doctor").await;
    expect![[r#"
        200
        {
          "at": "2025-10-09T08:53:20.000Z",
          "findings": [
            {
              "check": "clock",
              "seen": "0.010 s ahead of the cluster's",
              "verdict": "well"
            },
            {
              "check": "disk",
              "means": "guests are paused",
              "remedy": "make room",
              "seen": "0 B of 100 GiB free",
              "verdict": "wrong"
            }
          ],
          "node": "n2",
          "version": "0.1.0"
        }
    "#]]
    .assert_eq(&told.shown());
    assert_eq!(house.nodes[1].get("/api/v1/nodes/n2/doctor").await.json(), told.json());
    assert_eq!(house.nodes[0].get("/api/v1/nodes/n4/doctor").await.status.as_u16(), 404);
    house.cut();
    let silent = house.nodes[0].get("/api/v1/nodes/n2/doctor").await;
    assert_eq!(
        (silent.status.as_u16(), &silent.json()["code"]),
        (503, &"node_unreachable".into()),
        "{}",
        silent.told()
    );
}

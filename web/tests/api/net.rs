//! The network: its subnets and the mesh, and machines that are let in and shut out.

use crate::house::{Answer, House, delete, get, json};
use expect_test::expect;
use http::Method;
use waifud_model::mesh::{MeshEnd, MeshKey};

const PEERS: &str = "/api/v1/net/peers";

fn laptop(name: &str, key: u8) -> String {
    serde_json::json!({ "name": name, "key": MeshKey([key; 32]).to_string() }).to_string()
}

#[tokio::test]
async fn the_network_is_told_with_every_nodes_part() {
    let house = House::start(2).await;
    let node = &house.nodes[0];
    let end = MeshEnd { key: MeshKey([7; 32]), port: 7444 };
    node.tell_mesh_end(end).await;
    expect![[r#"
        200
        {
          "cidr": "10.77.0.0/16",
          "domain": "waifu.internal",
          "nodes": [
            {
              "address": "192.0.2.1",
              "gateway": "10.77.0.1",
              "mesh": {
                "endpoint": "192.0.2.1:7444",
                "key": "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc="
              },
              "node": "n1",
              "subnet": "10.77.0.0/24"
            },
            {
              "address": "192.0.2.2",
              "gateway": "10.77.1.1",
              "node": "n2",
              "subnet": "10.77.1.0/24"
            }
          ],
          "peers_subnet": "10.77.255.0/24"
        }
    "#]]
    .assert_eq(&node.get("/api/v1/net").await.shown());
}

#[tokio::test]
async fn a_peer_comes_and_goes() {
    let house = House::start(1).await;
    let node = &house.nodes[0];
    assert_eq!(node.get(PEERS).await.json(), serde_json::json!([]));
    let keyed = || {
        let mut request = json(Method::POST, PEERS, &laptop("laptop", 1));
        request.headers_mut().insert("idempotency-key", "once".parse().unwrap());
        request
    };
    let added = node.call(keyed()).await;
    expect![[r#"
        201
        {
          "created_at": "2025-10-09T08:53:20.000Z",
          "ip": "10.77.255.2",
          "key": "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=",
          "name": "laptop"
        }
    "#]]
    .assert_eq(&added.shown());
    assert_eq!(added.header("location"), "/api/v1/net/peers/laptop");
    assert_eq!(node.call(keyed()).await.json(), added.json(), "a repetition adds nothing");
    assert_eq!(node.get(PEERS).await.json(), serde_json::json!([added.json()]));
    assert_eq!(node.get(added.header("location")).await.json(), added.json());

    let told: String = [
        node.post(PEERS, &laptop("laptop", 2)).await,
        node.post(PEERS, &laptop("phone", 1)).await,
        node.post(PEERS, r#"{"name":"phone","key":"abc"}"#).await,
        node.post(PEERS, r#"{"name":"My Phone","key":"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="}"#).await,
        node.call(delete("/api/v1/net/peers/lapto")).await,
        node.get("/api/v1/net/peers/fridge").await,
    ]
    .iter()
    .map(Answer::told)
    .collect();
    expect![[r#"
        409 name_taken: the name of the new peer belongs to peer laptop
        → choose another name; waifuctl net peer list shows those that are taken
        409 name_taken: the key of the new peer belongs to peer laptop
        → make a key for this machine alone: wg genkey
        422 invalid: key: "abc" is not a WireGuard public key (44 characters of base64, as `wg pubkey` prints it)
        → -
        422 invalid: name: "My Phone" is not a peer name: only lower-case letters, digits and '-' are allowed
        → -
        404 no_such_peer: no peer "lapto"; did you mean "laptop"?
        → waifuctl net peer list
        404 no_such_peer: no peer "fridge"
        → waifuctl net peer list
    "#]]
    .assert_eq(&told);

    let remove = || {
        let mut request = delete("/api/v1/net/peers/laptop");
        request.headers_mut().insert("idempotency-key", "gone".parse().unwrap());
        request
    };
    let statuses = [node.call(remove()).await, node.call(remove()).await].map(|answer| answer.status.as_u16());
    assert_eq!(statuses, [204, 204], "a repetition is no failure");
    assert_eq!(node.get(PEERS).await.json(), serde_json::json!([]));
    let events = node.call(get("/api/v1/events")).await.json();
    let about: Vec<String> = events
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["subject"]["kind"] == "peer")
        .map(|event| format!("{} {} {}", event["kind"], event["subject"]["name"], event["changes"]))
        .collect();
    expect![[r#"
        "created" "laptop" [{"field":"key","new":"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=","old":null},{"field":"ip","new":"10.77.255.2","old":null}]
        "deleted" "laptop" [{"field":"key","new":null,"old":"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="},{"field":"ip","new":null,"old":"10.77.255.2"}]"#]].assert_eq(&about.join("\n"));
}

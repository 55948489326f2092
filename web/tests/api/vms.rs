//! VMs: made, shown, started and stopped, deleted; and done once however often it is asked.

use crate::house::{DEADLINE, House, NOW, Node, delete, get, json};
use expect_test::expect;
use http::Method;
use waifud_api::vm::{Fetching, LastError, Vm};
use waifud_model::{
    ids::Generation,
    observed::{VmObservation, VmState},
    size::ByteSize,
    time::Timestamp,
    vm::Desired,
};
use waifud_web::ports::Known;

const WEB_1: &str = r##"{"name":"web-1","template":"tiny","cpus":2,"memory":"1G","labels":{"env":"prod"},"user_data":"#cloud-config\npackages: [vim]\n"}"##;

/// A VM on a node, made through one that another has caught up with.
async fn web_1(through: &Node, on: &str, other: &Node) -> Vm {
    let created = through.post("/api/v1/vms", &format!(r#"{{"name":"web-1","template":"tiny","node":"{on}"}}"#)).await;
    let index = created.header("waifu-index").parse().unwrap();
    assert!(other.consensus.wait_applied(index, DEADLINE).await);
    serde_json::from_value(created.json()["vm"].clone()).unwrap()
}

#[tokio::test]
async fn a_vm_from_birth_to_death() {
    let house = House::start(1).await;
    let node = &house.nodes[0];

    let created = node.post("/api/v1/vms", WEB_1).await;
    expect![[r#"
        201
        {
          "placement": {
            "node": "n1",
            "reason": "the only node",
            "rejected": []
          },
          "vm": {
            "autostart": true,
            "cpu_model": "host",
            "cpus": 2,
            "created_at": "2025-10-09T08:53:20.000Z",
            "datasource": "no_cloud",
            "desired": "running",
            "disk": 10737418240,
            "firmware": "bios",
            "generation": 1,
            "id": "ec200001-0000-4004-8000-000100000004",
            "imds": "any",
            "instance_id": "i-48000000100000005",
            "ip": "10.77.0.2",
            "labels": {
              "env": "prod"
            },
            "mac": "52:54:0a:4d:00:02",
            "memory": 1073741824,
            "name": "web-1",
            "node": "n1",
            "phase": "live",
            "protected": false,
            "restart": "on_failure",
            "ssh_keys": [],
            "status": {
              "pending": true,
              "since": null,
              "state": "pending"
            },
            "template": {
              "name": "tiny",
              "version": "b6e5e04734605702cde343adf496cf5f0703018615b2a6805bf42db982d77a1f"
            },
            "user_data": {
              "digest": "44a7aa615851ed828929d5a31adb55d30d53c0ae1cd151fbd5e17f68300f66d6",
              "size": 30
            }
          }
        }
    "#]]
    .assert_eq(&created.shown());
    assert_eq!(created.header("location"), "/api/v1/vms/web-1");
    assert_eq!(created.header("etag"), "\"1\"");
    assert_eq!(created.header("waifu-node"), "n1");
    assert!(created.header("waifu-index").parse::<u64>().unwrap() > 0);

    let vm: Vm = serde_json::from_value(created.json()["vm"].clone()).unwrap();
    let told = VmObservation::new(VmState::Running, Generation(1), NOW);
    node.hear_of(1, vm.id, told);
    let shown = node.get("/api/v1/vms/web-1").await;
    assert_eq!((shown.header("etag"), shown.json()["status"]["state"].as_str()), ("\"1\"", Some("running")));

    let list = node.get("/api/v1/vms?filter=status%3Drunning%20label.env%3Dprod").await;
    assert_eq!(list.json(), serde_json::json!([shown.json()]));
    assert_eq!(node.get("/api/v1/vms?filter=label.env%3Dtest").await.json(), serde_json::json!([]));

    let stopped = node.post("/api/v1/vms/web-1/stop", "").await;
    assert_eq!((stopped.status.as_u16(), stopped.header("etag")), (200, "\"2\""));
    assert_eq!(stopped.json()["status"]["pending"], true, "the owner has not told of the new generation");

    let mut late = json(Method::POST, "/api/v1/vms/web-1/start", "");
    late.headers_mut().insert("if-match", "\"1\"".parse().unwrap());
    expect![[r#"
        412 stale: VM web-1 was changed in between: it is at generation 2, and the request was made for 1
        → look at it again (waifuctl show web-1), then send the change with its new ETag
    "#]]
    .assert_eq(&node.call(late).await.told());

    let gone = node.call(delete("/api/v1/vms/web-1")).await;
    assert_eq!((gone.status.as_u16(), gone.json()["phase"].as_str()), (202, Some("deleting")));
    let again = node.post("/api/v1/vms/web-1/start", "").await;
    expect![[r#"
        409 being_deleted: VM web-1 is being deleted
        → waifuctl show web-1 tells how far it is
    "#]]
    .assert_eq(&again.told());
}

#[tokio::test]
async fn what_would_be_refused_is_refused_on_trial() {
    let house = House::start(1).await;
    let node = &house.nodes[0];
    assert_eq!(node.post("/api/v1/vms", r#"{"name":"web-1","template":"tiny"}"#).await.status.as_u16(), 201);
    let mut told = String::new();
    for body in [
        r#"{"name":"web-1","template":"tiny"}"#,
        r#"{"name":"web-2","template":"tiny","cd":"tiny"}"#,
        r#"{"name":"web-2","template":"tiny","memory":"1025K"}"#,
    ] {
        let tried = node.post("/api/v1/vms?dry_run=true", body).await.told();
        assert_eq!(tried, node.post("/api/v1/vms", body).await.told());
        told += &tried;
    }
    expect![[r#"
        409 name_taken: there is a VM "web-1" already, on n1
        → choose another name, or delete it first: waifuctl delete web-1
        400 invalid: cd: template tiny is not a CD (ISO 9660)
        → waifuctl template list -o wide shows the format of each
        400 invalid: memory: 1.0 MiB given; at least 64 MiB, in whole MiB
        → -
    "#]]
    .assert_eq(&told);
    assert_eq!(node.post("/api/v1/vms?dry_run=true", r#"{"template":"tiny"}"#).await.status.as_u16(), 200);
    assert_eq!(node.get("/api/v1/vms").await.json().as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_request_sent_twice_is_done_once() {
    let house = House::start(1).await;
    let node = &house.nodes[0];
    let keyed = |method, path: &str, body: &str| {
        let mut request = json(method, path, body);
        request.headers_mut().insert("idempotency-key", format!("key for {path}").parse().unwrap());
        request
    };
    let nameless = r#"{"template":"tiny"}"#;
    let first = node.call(keyed(Method::POST, "/api/v1/vms", nameless)).await;
    let second = node.call(keyed(Method::POST, "/api/v1/vms", nameless)).await;
    assert_eq!((first.status.as_u16(), second.status.as_u16()), (201, 201));
    assert_eq!(first.json()["vm"], second.json()["vm"]);
    assert_eq!(second.json()["placement"]["reason"], "placed by an earlier request with the same key");
    assert_eq!(node.get("/api/v1/vms").await.json().as_array().unwrap().len(), 1);

    let other = node.call(keyed(Method::POST, "/api/v1/vms", r#"{"template":"tiny","cpus":2}"#)).await;
    expect![[r#"
        422 key_reused: the Idempotency-Key was used for another request within the last 24 hours
        → send a fresh key with each new request
    "#]]
    .assert_eq(&other.told());

    // No node takes a second VM by now, yet the first request's answer stands.
    node.post("/api/v1/nodes/n1/cordon", "").await;
    let third = node.call(keyed(Method::POST, "/api/v1/vms", nameless)).await;
    assert_eq!((third.status.as_u16(), &third.json()["vm"]), (201, &first.json()["vm"]));

    let name = first.json()["vm"]["name"].as_str().unwrap().to_owned();
    assert!(name.contains('-'), "{name} is a made-up name");
}

#[tokio::test]
async fn a_taken_name_is_refused_and_a_made_up_one_is_not() {
    let house = House::start(1).await;
    let node = &house.nodes[0];
    assert_eq!(node.post("/api/v1/vms", WEB_1).await.status.as_u16(), 201);
    expect![[r#"
        409 name_taken: there is a VM "web-1" already, on n1
        → choose another name, or delete it first: waifuctl delete web-1
    "#]]
    .assert_eq(&node.post("/api/v1/vms", WEB_1).await.told());
    let (one, two) = tokio::join!(
        node.post("/api/v1/vms", r#"{"name":"twin","template":"tiny"}"#),
        node.post("/api/v1/vms", r#"{"name":"twin","template":"tiny"}"#),
    );
    let mut statuses = [one.status.as_u16(), two.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409], "one of two wins");
}

#[tokio::test]
async fn a_slip_of_the_hand_gets_a_suggestion() {
    let house = House::start(1).await;
    let node = &house.nodes[0];
    node.post("/api/v1/vms", WEB_1).await;
    let told: String = [
        node.get("/api/v1/vms/wbe-1").await,
        node.get("/api/v1/vms/elsewhere").await,
        node.get("/api/v1/vms/Web_1").await,
        node.post("/api/v1/vms", r#"{"template":"tinny"}"#).await,
        node.post("/api/v1/vms", r#"{"template":"tiny@abcdef"}"#).await,
        node.get("/api/v1/nodes/m1").await,
    ]
    .iter()
    .map(crate::house::Answer::told)
    .collect();
    expect![[r#"
        404 no_such_vm: no VM "wbe-1"; did you mean "web-1" on n1?
        → waifuctl list
        404 no_such_vm: no VM "elsewhere"
        → waifuctl list
        400 invalid: "Web_1" is not a VM name: only lower-case letters, digits and '-' are allowed
        → -
        404 no_such_template: no template "tinny"; did you mean "tiny"?
        → waifuctl template list, or add it: waifuctl template add tinny --file IMAGE
        404 no_such_version: template tiny has no version abcdef
        → waifuctl template show tiny
        404 no_such_node: no node "m1"; did you mean "n1"?
        → waifuctl node list
    "#]]
    .assert_eq(&told);
}

#[tokio::test]
async fn a_preview_keeps_nothing() {
    let house = House::start(1).await;
    let node = &house.nodes[0];
    let preview = node.post("/api/v1/vms?dry_run=true", WEB_1).await;
    expect![[r#"
        200
        {
          "disk": 10737418240,
          "placement": {
            "node": "n1",
            "reason": "the only node",
            "rejected": []
          },
          "template": {
            "name": "tiny",
            "version": "b6e5e04734605702cde343adf496cf5f0703018615b2a6805bf42db982d77a1f"
          }
        }
    "#]]
    .assert_eq(&preview.shown());
    assert_eq!(node.get("/api/v1/vms").await.json(), serde_json::json!([]));
}

#[tokio::test]
async fn a_bridge_that_is_not_offered_is_told_with_those_that_are() {
    let house = House::start(1).await;
    let node = &house.nodes[0];
    node.post("/api/v1/vms", WEB_1).await;
    let wish = async |bridge: &str| {
        let body = format!(r#"{{"bridges":["{bridge}"]}}"#);
        node.call(json(Method::PATCH, "/api/v1/vms/web-1", &body)).await
    };
    let none = wish("br0").await.told();
    node.offer(&["br0", "lan"]).await;
    assert_eq!(node.get("/api/v1/nodes/n1").await.json()["bridges"], serde_json::json!(["br0", "lan"]));
    expect![[r#"
        400 invalid: bridges: node n1 lets VMs on no bridge of the name br0; it lets them on none
        → waifuctl node show n1 tells which there are; [network] bridges in its waifud.toml allows more
        400 invalid: bridges: node n1 lets VMs on no bridge of the name br1; did you mean br0?
        → waifuctl node show n1 tells which there are; [network] bridges in its waifud.toml allows more
        400 invalid: bridges: node n1 lets VMs on no bridge of the name dmz; there are br0, lan
        → waifuctl node show n1 tells which there are; [network] bridges in its waifud.toml allows more
    "#]]
    .assert_eq(&[none, wish("br1").await.told(), wish("dmz").await.told()].concat());
    assert_eq!(wish("lan").await.status, 200);
}

#[tokio::test]
async fn what_fits_nowhere_is_refused_with_the_reason_of_each_node() {
    let house = House::start(1).await;
    let node = &house.nodes[0];
    expect![[r#"
        409
        {
          "code": "no_node_fits",
          "detail": "node n1 cannot take the VM: it has 8 GiB of memory left to promise, 64 GiB are wanted",
          "nodes": [
            {
              "node": "n1",
              "reason": "has 8 GiB of memory left to promise, 64 GiB are wanted"
            }
          ],
          "remedy": "choose a smaller VM, or delete one: waifuctl node list shows what is promised",
          "status": 409,
          "title": "No node can take the VM",
          "type": "urn:waifud:problem:no_node_fits"
        }
    "#]]
    .assert_eq(&node.post("/api/v1/vms", r#"{"template":"tiny","memory":"64G"}"#).await.shown());
    let told: String = [
        node.post("/api/v1/vms", r#"{"template":"tiny","cpus":64}"#).await,
        node.post("/api/v1/vms", r#"{"template":"tiny","node":"n9"}"#).await,
        node.post("/api/v1/vms", r#"{"template":"tiny","memory":0}"#).await,
        node.post("/api/v1/vms", r#"{"template":"tiny","disk":"1G"}"#).await,
    ]
    .iter()
    .map(crate::house::Answer::told)
    .collect();
    expect![[r#"
        409 no_node_fits: node n1 cannot take the VM: it has 4 CPU threads, one VM cannot have 64 CPUs there
        → choose a smaller VM, or delete one: waifuctl node list shows what is promised
        404 no_such_node: no node "n9"
        → waifuctl node list
        400 invalid: memory: 0 B given; at least 64 MiB, in whole MiB
        → -
        400 invalid: disk: the template's disk has 2 GiB, and 1 GiB is less
        → give at least 2 GiB, or leave it out
    "#]]
    .assert_eq(&told);
}

#[tokio::test]
async fn the_owner_tells_what_went_wrong() {
    let house = House::start(2).await;
    let [near, far] = [&house.nodes[0], &house.nodes[1]];
    let vm = web_1(near, "n2", far).await;

    let failed = VmObservation::new(VmState::Failed, Generation(1), Timestamp(NOW.0 + 1));
    far.hear_of(2, vm.id, failed);
    let message = "no space left on device".to_owned();
    let known = Known {
        last_error: Some(LastError { message, at: None, attempts: Some(3), next_try: None }),
        doing: Some("making the root disk".to_owned()),
        restarts: 2,
        ..Known::default()
    };
    far.tasks.known.lock().unwrap().insert(vm.id, known);

    let shown = near.get("/api/v1/vms/web-1").await.json();
    expect![[r#"
        {
          "doing": "making the root disk",
          "last_error": {
            "attempts": 3,
            "message": "no space left on device"
          },
          "pending": false,
          "restarts": 2,
          "since": "2025-10-09T08:53:20.001Z",
          "state": "failed"
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&shown["status"]).unwrap());

    house.cut();
    let unheard = near.call(get("/api/v1/vms/web-1")).await.json();
    expect![[r#"
        {
          "pending": true,
          "silent": {
            "since": "2025-10-09T08:53:15.000Z"
          },
          "since": null,
          "state": "pending"
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&unheard["status"]).unwrap());
}

#[tokio::test]
async fn the_owner_tells_how_far_a_template_is_on_its_way() {
    let house = House::start(2).await;
    let [near, far] = [&house.nodes[0], &house.nodes[1]];
    let vm = web_1(near, "n2", far).await;
    let half = Fetching { done: ByteSize::mib(1), total: ByteSize::mib(2) };
    far.images.fetching.lock().unwrap().insert(vm.template.version, half);
    assert_eq!(near.get("/api/v1/vms/web-1").await.json()["status"].get("fetching"), None, "it has not begun");
    far.hear_of(2, vm.id, VmObservation::new(VmState::Fetching, Generation(1), Timestamp(NOW.0 + 1)));
    let shown = near.get("/api/v1/vms/web-1").await.json();
    assert_eq!(shown["status"]["fetching"], serde_json::json!({ "done": 1_048_576, "total": 2_097_152 }));
}

/// The record of a VM whose guest has died, and that is not started again by itself, says still that it shall run.
#[tokio::test]
async fn who_starts_a_vm_that_died_means_it() {
    let house = House::start(2).await;
    let [near, far] = [&house.nodes[0], &house.nodes[1]];
    let vm = web_1(near, "n2", far).await;
    let never = near.call(json(Method::PATCH, "/api/v1/vms/web-1", r#"{"restart":"never"}"#)).await.json();
    assert_eq!(never["generation"], 2);
    let start = async |state, seen| {
        far.hear_of(2, vm.id, VmObservation::new(state, Generation(seen), Timestamp(NOW.0 + seen)));
        near.hear_of(2, vm.id, VmObservation::new(state, Generation(seen), Timestamp(NOW.0 + seen)));
        near.post("/api/v1/vms/web-1/start", "").await.json()["generation"].as_u64().unwrap()
    };
    assert_eq!(start(VmState::Running, 2).await, 2, "it runs: nothing is to be done");
    assert_eq!(start(VmState::Crashed, 1).await, 2, "that was before");
    assert_eq!(start(VmState::Crashed, 2).await, 3, "a newer record is what its owner starts it for");
    assert_eq!(start(VmState::Crashed, 2).await, 3, "which it has not seen yet");
    near.call(json(Method::PATCH, "/api/v1/vms/web-1", r#"{"restart":"always"}"#)).await;
    assert_eq!(start(VmState::Crashed, 4).await, 4, "its owner starts it by itself");
}

/// The cluster, which knows of no start, would refuse it once it is told.
#[tokio::test]
async fn a_guest_started_without_quorum_is_paused_with_it() {
    let house = House::start(3).await;
    let [owner, other] = [&house.nodes[0], &house.nodes[1]];
    let vm = web_1(owner, "n1", other).await;
    assert_eq!(owner.post("/api/v1/vms/web-1/stop", "").await.json()["desired"], "stopped");
    house.lose_quorum();
    assert_eq!(owner.post("/api/v1/vms/web-1/pause", "").await.json()["code"], "not_running");
    assert_eq!(owner.post("/api/v1/vms/web-1/start", "").await.status, 200);
    let refused = owner.post("/api/v1/vms/web-1/pause", "").await;
    assert_eq!(refused.json()["code"], "no_quorum", "{}", refused.text());
    assert_eq!(*owner.tasks.alone.lock().unwrap(), [(vm.id, Desired::Running, None)]);
}

#[tokio::test]
async fn power_goes_without_quorum_where_the_owner_is_reached() {
    let house = House::start(3).await;
    let [owner, other] = [&house.nodes[0], &house.nodes[1]];
    let vm = web_1(owner, "n1", other).await;
    house.lose_quorum();

    let stopped = owner.post("/api/v1/vms/web-1/stop?grace=5", "").await;
    assert_eq!(stopped.status, 200, "{}", stopped.text());
    assert!(stopped.header("waifu-warning").contains("could not agree"));
    assert_eq!((&stopped.json()["desired"], &stopped.json()["generation"]), (&"stopped".into(), &1.into()));
    // From another node it is passed on; what was decided on another generation is not done.
    let started = other.post("/api/v1/vms/web-1/start", "").await;
    assert_eq!(started.status, 200, "{}", started.text());
    assert!(started.header("waifu-warning").contains("could not agree"));
    let stale =
        http::Request::post("/api/v1/vms/web-1/stop").header("if-match", "\"7\"").body(axum::body::Body::empty());
    assert_eq!(other.call(stale.unwrap()).await.status, 412);
    assert_eq!(
        *owner.tasks.alone.lock().unwrap(),
        [(vm.id, Desired::Stopped, Some(5)), (vm.id, Desired::Running, None)]
    );

    // Nobody else may: a node that is cut off cannot know whether the owner does something.
    house.cut();
    let refused = other.post("/api/v1/vms/web-1/stop", "").await;
    assert_eq!(refused.json()["code"], "no_quorum");
    assert!(other.tasks.alone.lock().unwrap().is_empty());
}

//! Events: a list, and a stream that resumes.

use crate::house::{House, NOW, get, node_id, read_stream};
use expect_test::expect;
use http::Request;
use tower::ServiceExt;
use waifud_api::vm::Vm;
use waifud_model::{
    command::Actor,
    ids::Generation,
    observed::{VmObservation, VmState},
    token::Role,
};
use waifud_web::Caller;

fn live(path: &str) -> Request<axum::body::Body> {
    let mut request = get(path);
    request.headers_mut().insert("accept", "text/event-stream".parse().unwrap());
    let actor = Actor::Local { node: node_id(1), uid: 0 };
    request.extensions_mut().insert(Caller { actor, role: Role::Viewer });
    request
}

#[tokio::test]
async fn the_list_pages_and_ends_with_the_newest() {
    let house = House::start(1).await;
    let node = &house.nodes[0];
    node.post("/api/v1/vms", r#"{"name":"web-1","template":"tiny"}"#).await;
    let newest = node.get("/api/v1/events?limit=1").await;
    expect![[r#"
        200
        [
          {
            "actor": {
              "kind": "local",
              "node": "n1",
              "uid": 0
            },
            "at": "2025-10-09T08:53:20.000Z",
            "changes": [
              {
                "field": "node",
                "new": "n1",
                "old": null
              },
              {
                "field": "cpus",
                "new": "1",
                "old": null
              },
              {
                "field": "memory",
                "new": "512 MiB",
                "old": null
              },
              {
                "field": "disk",
                "new": "10 GiB",
                "old": null
              },
              {
                "field": "image",
                "new": "tiny@b6e5e04734605702cde343adf496cf5f0703018615b2a6805bf42db982d77a1f",
                "old": null
              },
              {
                "field": "desired",
                "new": "running",
                "old": null
              },
              {
                "field": "ip",
                "new": "10.77.0.2",
                "old": null
              },
              {
                "field": "mac",
                "new": "52:54:0a:4d:00:02",
                "old": null
              },
              {
                "field": "datasource",
                "new": "no_cloud",
                "old": null
              },
              {
                "field": "imds",
                "new": "any",
                "old": null
              }
            ],
            "id": "4.0",
            "kind": "created",
            "subject": {
              "id": "ec200001-0000-4004-8000-000100000004",
              "kind": "vm",
              "name": "web-1"
            }
          }
        ]
    "#]]
    .assert_eq(&newest.shown());

    let all = node.get("/api/v1/events?since=0").await.json();
    let all = all.as_array().unwrap();
    let mut paged = Vec::new();
    let mut since = "0".to_owned();
    loop {
        let page = node.get(&format!("/api/v1/events?since={since}&limit=1")).await.json();
        let Some(event) = page.as_array().unwrap().first().cloned() else { break };
        since = event["id"].as_str().unwrap().to_owned();
        paged.push(event);
    }
    assert_eq!(&paged, all);
    let after = node.get("/api/v1/events?since=2025-10-09T08:53:19.999Z").await.json();
    assert_eq!(after.as_array(), Some(all), "all events are of the one moment at which tests play");
    assert_eq!(node.get("/api/v1/events?since=2025-10-09T08:53:20.001Z").await.json(), serde_json::json!([]));
    assert_eq!(node.get("/api/v1/events?limit=0").await.status.as_u16(), 400);
    assert_eq!(node.get("/api/v1/events?since=yesterday").await.status.as_u16(), 400);
}

#[tokio::test]
async fn the_stream_tells_what_happens_and_resumes() {
    let house = House::start(1).await;
    let node = &house.nodes[0];
    let stream = node.router.clone().oneshot(live("/api/v1/events")).await.unwrap();
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let created = node.post("/api/v1/vms", r#"{"name":"web-1","template":"tiny"}"#).await;
    let vm: Vm = serde_json::from_value(created.json()["vm"].clone()).unwrap();
    let told = VmObservation::new(VmState::Running, Generation(1), NOW);
    node.hear_of(1, vm.id, told);
    let text = read_stream(stream, |text| text.contains("event: observed") && text.contains("event: event")).await;
    assert!(text.contains(r#""kind":"created""#) && text.contains(r#""state":"running""#), "{text}");
    let ids: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("id: ")).collect();
    assert_eq!(ids.len(), 1, "observations have no id: {text}");

    // A browser that lost the connection before the VM was made misses nothing.
    let mut request = live("/api/v1/events?since=0");
    let before = created.header("waifu-index").parse::<u64>().unwrap() - 1;
    request.headers_mut().insert("last-event-id", before.to_string().parse().unwrap());
    let resumed = node.router.clone().oneshot(request).await.unwrap();
    let text = read_stream(resumed, |text| text.contains("\n\n")).await;
    assert!(text.starts_with(&format!("id: {}\nevent: event\n", ids[0])), "{text}");
}

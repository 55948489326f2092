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
    scope::Scope,
    token::Role,
};
use waifud_web::Caller;

fn live(path: &str) -> Request<axum::body::Body> {
    let mut request = get(path);
    request.headers_mut().insert("accept", "text/event-stream".parse().unwrap());
    let actor = Actor::Local { node: node_id(1), uid: 0 };
    request.extensions_mut().insert(Caller { actor, role: Role::Viewer, scope: Scope::default() });
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
            "command": "create_vm",
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
    assert_eq!(ids.len(), 2, "where it begins and the event; observations have no id: {text}");

    // A browser that lost the connection before the VM was made misses nothing.
    let mut request = live("/api/v1/events?since=0");
    let before = created.header("waifu-index").parse::<u64>().unwrap() - 1;
    request.headers_mut().insert("last-event-id", before.to_string().parse().unwrap());
    let resumed = node.router.clone().oneshot(request).await.unwrap();
    let text = read_stream(resumed, |text| text.contains("\n\n")).await;
    assert!(text.starts_with(&format!("id: {}\nevent: event\n", ids[1])), "{text}");

    // One that saw nothing but the beginning of the stream knows where to go on.
    let mut request = live("/api/v1/events");
    request.headers_mut().insert("last-event-id", ids[0].parse().unwrap());
    let resumed = node.router.clone().oneshot(request).await.unwrap();
    let text = read_stream(resumed, |text| text.contains("\n\n")).await;
    assert!(text.starts_with(&format!("id: {}\nevent: event\n", ids[1])), "{text}");
}

#[tokio::test]
async fn a_filtered_stream_says_how_far_it_has_looked() {
    let house = House::start(1).await;
    let node = &house.nodes[0];
    let stream = node.router.clone().oneshot(live("/api/v1/events?since=0&subject=vm/web-2")).await.unwrap();
    node.post("/api/v1/vms", r#"{"name":"web-1","template":"tiny"}"#).await;
    let created = node.post("/api/v1/vms", r#"{"name":"web-2","template":"tiny"}"#).await;
    let text = read_stream(stream, |text| text.contains("event: event")).await;
    assert!(text.contains("web-2") && !text.contains("web-1"), "{text}");
    let after = node.post("/api/v1/vms/web-1/stop", "").await;
    let resumed = node.router.clone().oneshot(live("/api/v1/events?since=0&subject=vm/web-2")).await.unwrap();
    let wanted = format!("id: {}.0\n\n", after.header("waifu-index"));
    let text = read_stream(resumed, |text| text.ends_with(&wanted)).await;
    assert_eq!(text.matches("event: event").count(), 1, "{text}");
    assert!(text.contains(&format!("id: {}.0\nevent: event", created.header("waifu-index"))), "{text}");
    for bad in ["before=9", "limit=1"] {
        let refused = node.router.clone().oneshot(live(&format!("/api/v1/events?{bad}"))).await.unwrap();
        assert_eq!(refused.status().as_u16(), 400, "{bad}");
    }
}

/// The ids of the events in a stream's text.
fn ids(text: &str) -> Vec<String> {
    let frames = text.split("\n\n").filter(|frame| frame.contains("event: event"));
    frames.filter_map(|frame| frame.lines().find_map(|line| line.strip_prefix("id: "))).map(str::to_owned).collect()
}

#[tokio::test]
async fn a_reader_that_changes_to_a_node_behind_misses_and_repeats_nothing() {
    let house = House::start(3).await;
    let (fresh, behind) = (&house.nodes[0], &house.nodes[2]);
    let create = |n: u32| format!(r#"{{"name":"web-{n}","template":"tiny"}}"#);
    let first = fresh.router.clone().oneshot(live("/api/v1/events?since=0")).await.unwrap();
    house.deafen(3);
    for n in 0..5 {
        assert_eq!(fresh.post("/api/v1/vms", &create(n)).await.status.as_u16(), 201);
    }
    let seen = read_stream(first, |text| text.contains("web-4") && text.ends_with("\n\n")).await;
    let mut all = ids(&seen);
    let last = all.last().unwrap().clone();
    let index: u64 = last.split('.').next().unwrap().parse().unwrap();
    assert!(behind.consensus.applied().borrow().index < index, "it has not heard of them");
    // Connected while the node knows less than the reader; it catches up later.
    let mut request = live("/api/v1/events?since=0");
    request.headers_mut().insert("last-event-id", last.parse().unwrap());
    let resumed = behind.router.clone().oneshot(request).await.unwrap();
    house.mend();
    assert_eq!(fresh.post("/api/v1/vms", &create(5)).await.status.as_u16(), 201);
    let rest = read_stream(resumed, |text| text.contains("web-5") && text.ends_with("\n\n")).await;
    all.extend(ids(&rest));
    let whole = fresh.get("/api/v1/events?since=0&limit=1000").await.json();
    let whole: Vec<&str> = whole.as_array().unwrap().iter().map(|event| event["id"].as_str().unwrap()).collect();
    assert_eq!(all, whole);
}

#[tokio::test]
async fn lists_page_backwards_and_are_filtered() {
    let house = House::start(1).await;
    let node = &house.nodes[0];
    for name in ["web-1", "web-2"] {
        node.post("/api/v1/vms", &format!(r#"{{"name":"{name}","template":"tiny"}}"#)).await;
        node.post(&format!("/api/v1/vms/{name}/stop"), "").await;
    }
    let all = node.get("/api/v1/events?since=0").await.json();
    let mut paged: Vec<serde_json::Value> = Vec::new();
    loop {
        let before = paged.first().map_or(String::new(), |first| format!("&before={}", first["id"].as_str().unwrap()));
        let page = node.get(&format!("/api/v1/events?limit=3{before}")).await.json();
        let mut page = page.as_array().unwrap().clone();
        if page.is_empty() {
            break;
        }
        page.append(&mut paged);
        paged = page;
    }
    assert_eq!(serde_json::Value::from(paged), all);
    for (filter, count) in [
        ("subject=vm", 4),
        ("subject=vm/web-1", 2),
        ("subject=vm&kind=created", 2),
        ("subject=vm&kind=created,changed&actor=uid:0@n1", 4),
        ("subject=vm&actor=nodes", 0),
        ("actor=node:n9", 0),
        ("subject=template/tiny&actor=people", 1),
        ("before=2025-10-09T08:53:20Z", 0),
    ] {
        let found = node.get(&format!("/api/v1/events?{filter}")).await.json();
        assert_eq!(found.as_array().unwrap().len(), count, "{filter}: {found}");
    }
    for bad in ["subject=pet", "kind=gone", "actor=me", "before=x", "limit=1001"] {
        assert_eq!(node.get(&format!("/api/v1/events?{bad}")).await.status.as_u16(), 400, "{bad}");
    }
}

//! Tokens that are for some VMs only: what every operation of the API is to their bearers.

use crate::house::{Answer, DEADLINE, House, Node, get, json, read_stream};
use axum::{Router, body::Body, middleware::from_fn_with_state};
use expect_test::expect;
use http::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use tower::ServiceExt;
use waifud_api::vm::Vm;
use waifud_model::{
    ids::Generation,
    observed::{VmObservation, VmState},
    vm::Desired,
};
use waifud_web::bearer;

/// What an operation is to somebody with a scope.
#[derive(Debug, Clone, Copy)]
enum To {
    /// About one VM, with a body that it takes: a VM outside is not there.
    Vm(&'static str),
    /// Shows VMs: those of the scope. The other tests look at each.
    Lists,
    /// Makes a VM: one of the scope.
    Makes,
    /// Tells what everybody may know.
    Tells,
    /// Nothing of theirs.
    Refuses,
}

/// All operations, each with what it is. What deletes comes last.
#[rustfmt::skip]
const OPERATIONS: [(&str, &str, To); 50] = [
    ("get", "/api/v1/vms/{name}", To::Vm("")),
    ("patch", "/api/v1/vms/{name}", To::Vm(r#"{"cpus":2}"#)),
    ("post", "/api/v1/vms/{name}/start", To::Vm("")),
    ("post", "/api/v1/vms/{name}/pause", To::Vm("")),
    ("post", "/api/v1/vms/{name}/resume", To::Vm("")),
    ("post", "/api/v1/vms/{name}/reboot", To::Vm("")),
    ("post", "/api/v1/vms/{name}/stop", To::Vm("")),
    ("post", "/api/v1/vms/{name}/rename", To::Vm(r#"{"name":"web-1"}"#)),
    ("post", "/api/v1/vms/{name}/reinit", To::Vm("")),
    ("get", "/api/v1/vms/{name}/cloud-init", To::Vm("")),
    ("put", "/api/v1/vms/{name}/cloud-init", To::Vm("{}")),
    ("get", "/api/v1/vms/{name}/console", To::Vm("")),
    ("get", "/api/v1/vms/{name}/vnc", To::Vm("")),
    ("get", "/api/v1/vms/{name}/logs", To::Vm("")),
    ("get", "/api/v1/history/{kind}/{name}", To::Vm("")),
    ("delete", "/api/v1/vms/{name}", To::Vm("")),
    ("get", "/api/v1/vms", To::Lists),
    ("get", "/api/v1/events", To::Lists),
    ("post", "/api/v1/vms", To::Makes),
    ("get", "/healthz", To::Tells),
    ("get", "/readyz", To::Tells),
    ("get", "/metrics", To::Tells),
    ("get", "/api/v1/cluster", To::Tells),
    ("get", "/api/v1/nodes", To::Tells),
    ("get", "/api/v1/nodes/{name}", To::Tells),
    ("get", "/api/v1/nodes/{name}/doctor", To::Tells),
    ("get", "/api/v1/templates", To::Tells),
    ("get", "/api/v1/templates/{name}", To::Tells),
    ("get", "/api/v1/net", To::Tells),
    ("get", "/api/v1/net/peers", To::Tells),
    ("get", "/api/v1/net/peers/{name}", To::Tells),
    ("get", "/api/v1/schema/apply.json", To::Tells),
    ("delete", "/api/v1/templates/{name}", To::Refuses),
    ("post", "/api/v1/templates/{name}/versions", To::Refuses),
    ("patch", "/api/v1/nodes/{name}", To::Refuses),
    ("delete", "/api/v1/nodes/{name}", To::Refuses),
    ("post", "/api/v1/nodes/{name}/cordon", To::Refuses),
    ("post", "/api/v1/nodes/{name}/uncordon", To::Refuses),
    ("get", "/api/v1/cluster/cloud-init", To::Refuses),
    ("put", "/api/v1/cluster/cloud-init", To::Refuses),
    ("get", "/api/v1/cluster/join-tokens", To::Refuses),
    ("post", "/api/v1/cluster/join-tokens", To::Refuses),
    ("delete", "/api/v1/cluster/join-tokens/{id}", To::Refuses),
    ("post", "/api/v1/net/peers", To::Refuses),
    ("delete", "/api/v1/net/peers/{name}", To::Refuses),
    ("get", "/api/v1/tokens", To::Refuses),
    ("post", "/api/v1/tokens", To::Refuses),
    ("delete", "/api/v1/tokens/{id}", To::Refuses),
    ("get", "/api/v1/audit", To::Refuses),
    ("get", "/api/v1/openapi.json", To::Tells),
];

/// A node's door for bearers, and a token.
struct Bearer {
    door: Router,
    token: String,
}

impl Bearer {
    /// Somebody with a token for the VMs of the team web.
    async fn of(node: &Node, role: &str) -> Self {
        let made = node.post("/api/v1/tokens", &format!(r#"{{"role":"{role}","scope":{{"team":"web"}}}}"#)).await;
        assert_eq!((made.status, &made.json()["info"]["scope"]), (StatusCode::CREATED, &json!({"team": "web"})));
        Self::with(node, made.json()["token"].as_str().unwrap())
    }

    /// The same bearer at another door.
    fn with(node: &Node, token: &str) -> Self {
        let door = node.router.clone().layer(from_fn_with_state(node.app.clone(), bearer::identify));
        Self { door, token: token.to_owned() }
    }

    async fn begin(&self, mut request: Request<Body>) -> Response<Body> {
        request.headers_mut().insert("authorization", format!("Bearer {}", self.token).parse().unwrap());
        tokio::time::timeout(DEADLINE, self.door.clone().oneshot(request)).await.expect("in time").unwrap()
    }

    async fn ask(&self, request: Request<Body>) -> Answer {
        Answer::read(self.begin(request).await).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask(get(path)).await
    }

    async fn post(&self, path: &str, body: &str) -> Answer {
        self.ask(json(Method::POST, path, body)).await
    }
}

/// A VM of the team, made by an admin.
async fn make(node: &Node, name: &str, team: &str) -> Vm {
    let body = format!(r#"{{"name":"{name}","template":"tiny","memory":"64M","labels":{{"team":"{team}"}}}}"#);
    let made = node.post("/api/v1/vms", &body).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text());
    serde_json::from_value(made.json()["vm"].clone()).unwrap()
}

fn request(method: &str, path: &str, body: &str) -> Request<Body> {
    let mut request = json(method.to_uppercase().parse().unwrap(), path, body);
    if path.contains("/console") || path.contains("/vnc") {
        for (name, value) in [("connection", "Upgrade"), ("upgrade", "websocket"), ("host", "n1")] {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
    }
    request
}

#[tokio::test]
async fn every_operation_is_known_for_what_it_is_to_a_scope() {
    let house = House::start(1).await;
    let node = &house.nodes[0];
    let document = node.get("/api/v1/openapi.json").await.json();
    let mut found = BTreeSet::from([("get".to_owned(), "/api/v1/openapi.json".to_owned())]);
    for (path, item) in document["paths"].as_object().unwrap() {
        found.extend(item.as_object().unwrap().keys().map(|method| (method.clone(), path.clone())));
    }
    let known: BTreeSet<_> = OPERATIONS.iter().map(|(m, p, _)| ((*m).to_owned(), (*p).to_owned())).collect();
    assert_eq!(known, found, "say in OPERATIONS what a new operation is");
}

#[tokio::test]
async fn a_vm_outside_is_not_there_whatever_is_asked() {
    let house = House::start(1).await;
    let node = &house.nodes[0];
    let bearer = Bearer::of(node, "operator").await;
    make(node, "web-1", "web").await;
    make(node, "db-1", "db").await;
    let document = node.get("/api/v1/openapi.json").await.json();
    for (method, template, to) in OPERATIONS {
        let To::Vm(body) = to else { continue };
        let parameters = document["paths"][template][method]["parameters"].as_array().unwrap();
        let trials = if parameters.iter().any(|p| p["name"] == "dry_run") { &["?dry_run=true", ""][..] } else { &[""] };
        for query in trials {
            let path = |name: &str| template.replace("{kind}", "vm").replace("{name}", name) + query;
            let (outside, nowhere) = (
                bearer.ask(request(method, &path("db-1"), body)).await,
                bearer.ask(request(method, &path("qq-1"), body)).await,
            );
            assert_eq!(outside.status, StatusCode::NOT_FOUND, "{method} {template}{query}: {}", outside.text());
            let shown = |answer: &Answer, name: &str| answer.shown().replace(name, "NAME");
            assert_eq!(shown(&outside, "db-1"), shown(&nowhere, "qq-1"), "{method} {template}{query}");
            let inside = bearer.ask(request(method, &path("web-1"), body)).await.status;
            assert!(
                ![StatusCode::NOT_FOUND, StatusCode::FORBIDDEN].contains(&inside),
                "{method} {template}{query}: {inside}"
            );
        }
    }
    let untouched: Vm = serde_json::from_value(node.get("/api/v1/vms/db-1").await.json()).unwrap();
    assert_eq!(untouched.generation, Generation(1));
}

#[tokio::test]
async fn what_is_no_vm_may_be_read_and_is_not_changed() {
    let house = House::start(1).await;
    let node = &house.nodes[0];
    let bearer = Bearer::of(node, "operator").await;
    for (method, template, to) in OPERATIONS {
        let name = if template.contains("templates") { "tiny" } else { "n1" };
        let path = template.replace("{name}", name).replace("{id}", "0000000000000001");
        let status = bearer.ask(request(method, &path, "{}")).await.status;
        match to {
            To::Refuses => assert_eq!(status, StatusCode::FORBIDDEN, "{method} {path}"),
            // There is no peer n1.
            To::Tells if path.ends_with("peers/n1") => assert_eq!(status, StatusCode::NOT_FOUND),
            To::Tells | To::Lists => assert_eq!(status, StatusCode::OK, "{method} {path}"),
            To::Vm(_) | To::Makes => {}
        }
    }
    expect![[r#"
        403 not_allowed: the token is for some VMs only, and this is about more than those
        → use a token without a scope
    "#]]
    .assert_eq(&bearer.ask(request("delete", "/api/v1/templates/tiny", "")).await.told());
}

/// The names in a list of VMs.
fn names(list: &Answer) -> Vec<String> {
    list.json().as_array().unwrap().iter().map(|vm| vm["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn lists_show_what_is_inside() {
    let house = House::start(1).await;
    let node = &house.nodes[0];
    let bearer = Bearer::of(node, "viewer").await;
    for (name, team) in [("web-1", "web"), ("db-1", "db"), ("web-2", "web"), ("web-3", "db")] {
        make(node, name, team).await;
    }
    assert_eq!(names(&bearer.get("/api/v1/vms").await), ["web-1", "web-2"]);
    assert_eq!(names(&bearer.get("/api/v1/vms?filter=web-").await), ["web-1", "web-2"]);
    assert_eq!(names(&bearer.get("/api/v1/vms?filter=label.team%3Ddb").await), Vec::<String>::new());
    // The list that is kept for all is not theirs, in either order.
    assert_eq!(names(&node.get("/api/v1/vms").await).len(), 4);
    assert_eq!(names(&bearer.get("/api/v1/vms").await).len(), 2);

    let about = |events: &Value| {
        let subjects = events.as_array().unwrap().iter().map(|event| &event["subject"]);
        subjects.map(|s| format!("{}/{}", s["kind"].as_str().unwrap(), s["name"].as_str().unwrap_or("-"))).collect()
    };
    let events: BTreeSet<String> = about(&bearer.get("/api/v1/events?since=0").await.json());
    let all: BTreeSet<String> = about(&node.get("/api/v1/events?since=0").await.json());
    let hidden: Vec<_> = all.difference(&events).map(|s| s.split('/').next().unwrap().to_owned() + "/").collect();
    assert_eq!(hidden, ["token/", "vm/", "vm/"], "{all:?}");
    assert!(events.contains("template/tiny") && events.contains("vm/web-1"), "{events:?}");
    // A page is full although there is much between.
    assert_eq!(bearer.get("/api/v1/events?since=0&limit=2&subject=vm").await.json().as_array().unwrap().len(), 2);
    let token = node.get("/api/v1/tokens").await.json()[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(bearer.get(&format!("/api/v1/history/token/{token}")).await.status, StatusCode::NOT_FOUND);
    assert_eq!(bearer.get("/api/v1/history/vm/web-1").await.json()["objects"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn nobody_means_a_vm_outside() {
    let house = House::start(1).await;
    let node = &house.nodes[0];
    let bearer = Bearer::of(node, "viewer").await;
    make(node, "builder", "db").await;
    assert!(node.get("/api/v1/vms/bulider").await.text().contains("builder"));
    expect![[r#"
        404 no_such_vm: no VM "bulider"
        → waifuctl list
    "#]]
    .assert_eq(&bearer.get("/api/v1/vms/bulider").await.told());
    make(node, "builders", "web").await;
    expect![[r#"
        404 no_such_vm: no VM "builder"; did you mean "builders" on n1?
        → waifuctl list
    "#]]
    .assert_eq(&bearer.get("/api/v1/vms/builder").await.told());
}

#[tokio::test]
async fn vms_are_made_inside_and_none_goes_out() {
    let house = House::start(1).await;
    let node = &house.nodes[0];
    let bearer = Bearer::of(node, "operator").await;
    make(node, "db-1", "db").await;
    let body =
        |name: &str, labels: &str| format!(r#"{{"name":"{name}","template":"tiny","memory":"64M","labels":{labels}}}"#);
    for query in ["?dry_run=true", ""] {
        let path = format!("/api/v1/vms{query}");
        for labels in ["{}", r#"{"team":"db"}"#] {
            let refused = bearer.post(&path, &body("web-1", labels)).await;
            assert_eq!(refused.json()["errors"][0]["field"], "labels", "{}", refused.text());
            expect![[r#"
                403 not_allowed: labels: the token is for VMs with team=web only
                → give the VM what is missing of team=web, or use a token without a scope
            "#]]
            .assert_eq(&refused.told());
        }
        let made = bearer.post(&path, &body("web-1", r#"{"team":"web","tier":"1"}"#)).await;
        assert!(made.status.is_success(), "{}", made.text());
    }
    for (patch, status) in [
        (r#"{"labels":{"team":"db"}}"#, StatusCode::FORBIDDEN),
        (r#"{"labels":{"team":null}}"#, StatusCode::FORBIDDEN),
        (r#"{"labels":{"tier":null}}"#, StatusCode::OK),
    ] {
        for query in ["?dry_run=true", ""] {
            let answer = bearer.ask(json(Method::PATCH, &format!("/api/v1/vms/web-1{query}"), patch)).await;
            assert_eq!(answer.status, status, "{patch}{query}: {}", answer.text());
            assert_eq!(status == StatusCode::OK, answer.json()["errors"][0]["field"] != "labels", "{}", answer.text());
        }
    }
    // A name that is taken is all that is said of its holder.
    expect![[r#"
        409 name_taken: there is a VM "db-1" already
        → choose another name
    "#]]
    .assert_eq(&bearer.post("/api/v1/vms", &body("db-1", r#"{"team":"web"}"#)).await.told());
    assert!(bearer.post("/api/v1/vms", &body("web-1", r#"{"team":"web"}"#)).await.text().contains("already, on n1"));
}

#[tokio::test]
async fn a_scope_is_for_less_than_an_admin_and_never_for_nothing() {
    let house = House::start(1).await;
    let node = &house.nodes[0];
    expect![[r#"
        400 invalid: scope: an admin may make tokens without one; give a scope to the role operator or viewer
        → -
    "#]]
    .assert_eq(&node.post("/api/v1/tokens", r#"{"role":"admin","scope":{"team":"web"}}"#).await.told());
    expect![[r#"
        400 invalid: scope: at least one label; leave it out for all VMs
        → -
    "#]]
    .assert_eq(&node.post("/api/v1/tokens", r#"{"role":"viewer","scope":{}}"#).await.told());
}

#[tokio::test]
async fn a_stream_tells_of_what_is_inside() {
    let house = House::start(1).await;
    let node = &house.nodes[0];
    let bearer = Bearer::of(node, "viewer").await;
    let mut live = get("/api/v1/events");
    live.headers_mut().insert("accept", "text/event-stream".parse().unwrap());
    let stream = bearer.begin(live).await;
    let (inside, outside) = (make(node, "web-1", "web").await, make(node, "db-1", "db").await);
    for vm in [outside.id, inside.id] {
        node.hear_of(1, vm, VmObservation::new(VmState::Running, Generation(1), waifud_model::time::Timestamp(7)));
    }
    let text = read_stream(stream, |text| text.contains("event: observed")).await;
    assert!(text.contains("event: event") && text.contains("web-1"), "{text}");
    assert!(!text.contains("db-1") && !text.contains(&outside.id.to_string()), "{text}");
}

#[tokio::test]
async fn who_passes_a_request_on_passes_the_scope_on() {
    let house = House::start(3).await;
    let (asked, owner) = (&house.nodes[0], &house.nodes[1]);
    let bearer = Bearer::of(asked, "operator").await;
    let mut vms = Vec::new();
    for (name, team) in [("web-1", "web"), ("db-1", "db")] {
        let body = format!(r#"{{"name":"{name}","template":"tiny","labels":{{"team":"{team}"}},"node":"n2"}}"#);
        let made = asked.post("/api/v1/vms", &body).await;
        vms.push(serde_json::from_value::<Vm>(made.json()["vm"].clone()).unwrap());
    }
    let applied = asked.consensus.applied().borrow().index;
    assert!(owner.consensus.wait_applied(applied, DEADLINE).await);
    let logs = bearer.get("/api/v1/vms/web-1/logs").await;
    assert_eq!(logs.status, StatusCode::OK, "{}", logs.text());
    assert_eq!(house.forwarded().len(), 1, "the owner has said it");
    assert_eq!(bearer.get("/api/v1/vms/db-1/logs").await.status, StatusCode::NOT_FOUND);

    // Without a quorum nobody applies anything: the owner's own look is all there is.
    house.lose_quorum();
    let doors = [asked, owner].map(|node| Bearer::with(node, &bearer.token));
    for door in &doors {
        assert_eq!(door.post("/api/v1/vms/db-1/stop", "").await.status, StatusCode::NOT_FOUND);
        let stopped = door.post("/api/v1/vms/web-1/stop", "").await;
        assert_eq!(stopped.status, StatusCode::OK, "{}", stopped.text());
    }
    let alone = [(vms[0].id, Desired::Stopped, None); 2];
    assert_eq!(*owner.tasks.alone.lock().unwrap(), alone);
}

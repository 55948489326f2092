//! What became of a name, and who did what.

use crate::house::{House, delete, get, json};
use expect_test::expect;
use http::{Method, StatusCode};
use serde_json::Value;
use waifud_model::{
    command::{Actor, Command},
    scope::Scope,
    token::Role,
};

const CREATE: &str = r#"{"name":"web-1","template":"tiny"}"#;

/// Each object with its events: what happened, by which command, and which fields.
fn lives(history: &Value) -> String {
    let mut text = String::new();
    for object in history["objects"].as_array().unwrap() {
        let dates = ["created_at", "deleted_at"].map(|field| if object[field].is_null() { "-" } else { field });
        text += &format!("{} {}\n", object["subject"]["name"].as_str().unwrap(), dates.join(" "));
        for event in object["events"].as_array().unwrap() {
            let text_of = |field: &str| event[field].as_str().unwrap().to_owned();
            text += &format!("  {} by {}\n", text_of("kind"), text_of("command"));
        }
    }
    text
}

#[tokio::test]
async fn a_name_that_was_given_again_has_two_lives() {
    let house = House::start(1).await;
    let node = &house.nodes[0];
    let first = node.post("/api/v1/vms", CREATE).await.json();
    node.call(delete("/api/v1/vms/web-1")).await;
    let id = first["vm"]["id"].as_str().unwrap().parse().unwrap();
    node.propose_as(Actor::Node(node.app.node), "gone", Command::ConfirmVmGone { vm: id }).await;
    assert_eq!(node.get("/api/v1/vms/web-1").await.status, StatusCode::NOT_FOUND);
    let gone = node.get("/api/v1/history/vm/web-1").await.json();
    expect![[r#"
        web-1 created_at deleted_at
          created by create_vm
          deleting by delete_vm
          deleted by confirm_vm_gone
    "#]]
    .assert_eq(&lives(&gone));
    let second = node.post("/api/v1/vms", CREATE).await.json();
    let both = node.call_as(Role::Viewer, get("/api/v1/history/vm/web-1")).await.json();
    expect![[r#"
        web-1 created_at deleted_at
          created by create_vm
          deleting by delete_vm
          deleted by confirm_vm_gone
        web-1 created_at -
          created by create_vm
    "#]]
    .assert_eq(&lives(&both));
    let ids: Vec<_> = both["objects"].as_array().unwrap().iter().map(|object| &object["subject"]["id"]).collect();
    assert_eq!(ids, [&first["vm"]["id"], &second["vm"]["id"]]);
    assert_eq!(both["more"], Value::Null);

    let newest = node.get("/api/v1/history/vm/web-1?limit=2").await.json();
    let more = newest["more"].as_str().unwrap();
    let older = node.get(&format!("/api/v1/history/vm/web-1?before={more}")).await.json();
    assert_eq!(lives(&older), "web-1 created_at -\n  created by create_vm\n  deleting by delete_vm\n");
    assert_eq!(
        lives(&newest),
        "web-1 - deleted_at\n  deleted by confirm_vm_gone\nweb-1 created_at -\n  created by create_vm\n"
    );
}

#[tokio::test]
async fn templates_live_and_die_by_name() {
    let house = House::start(1).await;
    let node = &house.nodes[0];
    node.call(delete("/api/v1/templates/tiny")).await;
    node.upload("tiny", b"tiny again").await;
    let history = node.get("/api/v1/history/template/tiny").await.json();
    expect![[r#"
        tiny created_at deleted_at
          created by add_template_version
          deleted by delete_template
        tiny created_at -
          created by add_template_version
    "#]]
    .assert_eq(&lives(&history));
    let cluster = node.get("/api/v1/history/cluster/cluster").await.json();
    assert_eq!(cluster["objects"][0]["events"][0]["command"], "init_cluster");
    assert_eq!(node.get("/api/v1/history/node/n1").await.status, StatusCode::OK);
}

#[tokio::test]
async fn what_never_was_is_not_found() {
    let house = House::start(1).await;
    let node = &house.nodes[0];
    expect![[r#"
        404 no_such_vm: there is no vm/web-9, and none is remembered
        → waifuctl events --about vm shows what happened lately
    "#]]
    .assert_eq(&node.get("/api/v1/history/vm/web-9").await.told());
    for bad in ["pet/web-1", "vm/a%2Fb", "vm/.."] {
        assert_eq!(node.get(&format!("/api/v1/history/{bad}")).await.status, StatusCode::BAD_REQUEST, "{bad}");
    }
}

#[tokio::test]
async fn the_audit_trail_says_who_did_what_as_what() {
    let house = House::start(2).await;
    let node = &house.nodes[0];
    let made = node.post("/api/v1/tokens", r#"{"role":"operator","description":"the pipeline"}"#).await.json();
    let token = waifud_model::ids::TokenId::new(u64::from_str_radix(made["info"]["id"].as_str().unwrap(), 16).unwrap());
    let actor = Actor::Token(token.unwrap());
    let caller = waifud_web::Caller { actor, role: Role::Operator, scope: Scope::default() };
    let mut create = json(Method::POST, "/api/v1/vms", CREATE);
    create.extensions_mut().insert(caller);
    assert_eq!(node.send(create).await.status, StatusCode::CREATED);
    node.post("/api/v1/nodes/n2/cordon", "").await;
    let id = made["info"]["id"].as_str().unwrap();
    node.call(delete(&format!("/api/v1/tokens/{id}"))).await;

    let shown = |answer: &Value| {
        let mut text = String::new();
        for entry in answer.as_array().unwrap() {
            let effects: Vec<_> = entry["effects"].as_array().unwrap().iter().map(|e| &e["subject"]["kind"]).collect();
            let actor = entry["actor"]["kind"].as_str().unwrap();
            text += &format!("{actor} {} {} {} {effects:?}\n", entry["role"], entry["token"], entry["command"]);
        }
        text
    };
    let newest = node.get("/api/v1/audit?limit=4").await.json();
    expect![[r#"
        local "admin" null "create_api_token" [String("token")]
        token "operator" "the pipeline" "create_vm" [String("vm")]
        local "admin" null "set_cordon" [String("node")]
        local "admin" null "revoke_api_token" [String("token")]
    "#]]
    .assert_eq(&shown(&newest));
    let bearers = node.get(&format!("/api/v1/audit?actor=token:{id}")).await.json();
    assert_eq!(shown(&bearers), "token \"operator\" \"the pipeline\" \"create_vm\" [String(\"vm\")]\n");
    let about = node.get("/api/v1/audit?subject=node/n2").await.json();
    assert_eq!(about.as_array().unwrap().last().unwrap()["command"], "set_cordon");
    let from_the_first = node.get("/api/v1/audit?since=0&limit=1").await.json();
    assert_eq!(from_the_first[0]["command"], "init_cluster");
    for role in [Role::Viewer, Role::Operator] {
        assert_eq!(node.call_as(role, get("/api/v1/audit")).await.status, StatusCode::FORBIDDEN);
    }
    // The record is the same wherever it is asked for.
    let applied = node.consensus.applied().borrow().index;
    assert!(house.nodes[1].consensus.wait_applied(applied, crate::house::DEADLINE).await);
    assert_eq!(house.nodes[1].get("/api/v1/audit?limit=4").await.json(), newest);
}

//! What guests are told: checked, shown to those who may, replaced by whoever saw it last; and never told to anyone else.

use crate::house::{Answer, House, Log, Node, get, json};
use expect_test::expect;
use http::{Method, Request};
use serde_json::json as value;
use waifud_model::token::Role;

const PATH: &str = "/api/v1/vms/web-1/cloud-init";
const DEFAULTS: &str = "/api/v1/cluster/cloud-init";

/// Stands in every document of these tests.
const SECRET: &str = "hunter2";

async fn web_1(node: &Node, told: serde_json::Value) -> Answer {
    let mut create = value!({ "name": "web-1", "template": "tiny" });
    create.as_object_mut().unwrap().extend(told.as_object().unwrap().clone());
    node.post("/api/v1/vms", &create.to_string()).await
}

fn put(path: &str, etag: Option<&str>, body: &serde_json::Value) -> Request<axum::body::Body> {
    let mut request = json(Method::PUT, path, &body.to_string());
    if let Some(etag) = etag {
        request.headers_mut().insert("if-match", etag.parse().unwrap());
    }
    request
}

#[tokio::test]
async fn mistakes_are_named_by_line_and_never_quoted() {
    let house = House::start(1).await;
    let node = &house.nodes[0];
    let mut told = String::new();
    for documents in [
        value!({ "user_data": format!("#cloud-config\npassword: {SECRET}\n  runcmd: [a\n") }),
        value!({ "user_data": format!("password: {SECRET}\n") }),
        value!({ "user_data": format!("#cloud-config\n- {SECRET}\n") }),
        value!({ "user_data": "" }),
        value!({ "user_data": { "base64": "/w==" } }),
        value!({ "user_data": SECRET.repeat(10_000) }),
        value!({ "network_config": format!("version: 3\n# {SECRET}\n") }),
        value!({ "network_config": format!("ethernets: {{{SECRET}: [}}\n") }),
        value!({ "network_config": "version: 2\n", "datasource": "ec2" }),
        value!({ "datasource": "azure" }),
    ] {
        let answer = web_1(node, documents.clone()).await;
        assert!(!answer.text().contains(SECRET), "{}", answer.text());
        told.push_str(&answer.told());
    }
    expect![[r#"
        422 invalid: user_data: line 3, column 9: it is not YAML: mapping values are not allowed in this context
        → mend the document and send it again; with --dry-run (dry_run) it is only checked
        422 invalid: user_data: line 1: cloud-init would ignore it, because it does not begin with a line that says what it is; it looks like cloud-config: make the first line exactly #cloud-config
        → mend the document and send it again; with --dry-run (dry_run) it is only checked
        422 invalid: user_data: line 2: a cloud-config must have keys with values
        → mend the document and send it again; with --dry-run (dry_run) it is only checked
        422 invalid: user_data: it is empty; leave it out, or begin with #cloud-config or #!
        → mend the document and send it again; with --dry-run (dry_run) it is only checked
        422 invalid: user_data: line 1: it is not UTF-8; save it as UTF-8, or compress it with gzip
        → mend the document and send it again; with --dry-run (dry_run) it is only checked
        422 invalid: user_data: it has 70000 bytes; at most 65536 are allowed
        → -
        422 invalid: network_config: line 1: `version` must be 1 or 2
        → mend the document and send it again; with --dry-run (dry_run) it is only checked
        422 invalid: network_config: line 1, column 22: it is not YAML: mismatched bracket '[' closed by '}'
        → mend the document and send it again; with --dry-run (dry_run) it is only checked
        422 invalid: network_config: the datasource ec2 has no place for one; no_cloud has
        → mend the document and send it again; with --dry-run (dry_run) it is only checked
        422 invalid: datasource: unknown variant `azure`, expected one of `no_cloud`, `ec2`, `open_stack`
        → -
    "#]].assert_eq(&told);
    assert_eq!(node.get("/api/v1/vms").await.json(), value!([]), "nothing was made");
    let broken = web_1(node, value!({ "user_data": "#cloud-config\na: [\n" })).await;
    expect![[r#"
        422
        {
          "code": "invalid",
          "detail": "user_data: line 2, column 4: it is not YAML: unclosed bracket '['",
          "errors": [
            {
              "field": "user_data",
              "message": "line 2, column 4: it is not YAML: unclosed bracket '['"
            }
          ],
          "remedy": "mend the document and send it again; with --dry-run (dry_run) it is only checked",
          "status": 422,
          "title": "The request is not valid",
          "type": "urn:waifud:problem:invalid"
        }
    "#]]
    .assert_eq(&broken.shown());
}

#[tokio::test]
async fn what_is_odd_is_told_and_does_not_stop_anything() {
    let house = House::start(1).await;
    let node = &house.nodes[0];
    let odd = value!({ "name": "web-1", "template": "tiny", "user_data": "#cloud-config\npackges: [nginx]\n" });
    let preview = node.post("/api/v1/vms?dry_run=true", &odd.to_string()).await;
    let mut create = json(Method::POST, "/api/v1/vms", &odd.to_string());
    create.headers_mut().insert("idempotency-key", "k".parse().unwrap());
    let created = node.call(create).await;
    let mut create = json(Method::POST, "/api/v1/vms", &odd.to_string());
    create.headers_mut().insert("idempotency-key", "k".parse().unwrap());
    let again = node.call(create).await;
    let saved = node.call(put(PATH, None, &value!({ "user_data": odd["user_data"] }))).await;
    let defaults = node.call(put(DEFAULTS, None, &value!({ "vendor_data": odd["user_data"] }))).await;
    let warnings = |answer: &Answer| format!("{} {}\n", answer.status.as_u16(), answer.json()["warnings"]);
    expect![[r#"
        200 ["user_data: line 2: cloud-init does not know the key `packges`; did you mean `packages`?"]
        201 ["user_data: line 2: cloud-init does not know the key `packges`; did you mean `packages`?"]
        201 ["user_data: line 2: cloud-init does not know the key `packges`; did you mean `packages`?"]
        200 ["user_data: line 2: cloud-init does not know the key `packges`; did you mean `packages`?"]
        200 ["vendor_data: line 2: cloud-init does not know the key `packges`; did you mean `packages`?"]
    "#]]
    .assert_eq(&[preview, created, again, saved, defaults].iter().map(warnings).collect::<String>());
}

#[tokio::test]
async fn documents_are_replaced_by_whoever_saw_them_last() {
    let house = House::start(1).await;
    let node = &house.nodes[0];
    web_1(
        node,
        value!({ "user_data": "#!/bin/sh\n", "ssh_keys": ["ssh-ed25519 AAAA me"], "datasource": "ec2", "imds": "v2" }),
    )
    .await;
    let shown = node.get(PATH).await;
    assert_eq!((shown.header("etag"), shown.header("cache-control")), ("\"1\"", "no-store"));
    expect![[r##"
        200
        {
          "datasource": "ec2",
          "imds": "v2",
          "ssh_keys": [
            "ssh-ed25519 AAAA me"
          ],
          "user_data": "#!/bin/sh\n"
        }
    "##]]
    .assert_eq(&shown.shown());

    let next = value!({ "user_data": "#cloud-config\npackages: [vim]\n", "network_config": "version: 2\n" });
    let checked = node.call(put(&format!("{PATH}?dry_run=true&rerun=true"), Some("\"1\""), &next)).await;
    assert_eq!(checked.header("etag"), "\"1\"");
    let kept = node.call(put(PATH, Some("\"1\""), &next)).await;
    assert_eq!(kept.header("etag"), "\"2\"");
    let rerun = node.call(put(&format!("{PATH}?rerun=true"), Some("\"2\""), &next)).await;
    assert_eq!(rerun.header("etag"), "\"3\"");
    assert!(rerun.header("waifu-index").parse::<u64>().unwrap() > 0);
    expect![[r#"
        200
        {
          "generation": 1,
          "instance_id": "i-48000000100000005",
          "warnings": []
        }
        200
        {
          "generation": 2,
          "instance_id": "i-48000000100000005",
          "warnings": []
        }
        200
        {
          "generation": 3,
          "instance_id": "i-48000000100000006",
          "warnings": []
        }
    "#]]
    .assert_eq(&[checked, kept, rerun].iter().map(Answer::shown).collect::<String>());
    assert_eq!(
        node.get(PATH).await.json(),
        value!({
            "user_data": next["user_data"], "network_config": "version: 2\n", "ssh_keys": [],
            "datasource": "no_cloud", "imds": "any"
        }),
        "what is not sent is gone"
    );

    let told: String = [
        node.call(put(PATH, Some("\"2\""), &next)).await,
        node.call(put(&format!("{PATH}?dry_run=true"), Some("\"2\""), &next)).await,
        node.call(put("/api/v1/vms/wbe-1/cloud-init", None, &next)).await,
        node.call(get("/api/v1/vms/wbe-1/cloud-init")).await,
        node.call(put(PATH, None, &value!({ "user-data": SECRET }))).await,
        node.call(put(PATH, None, &value!({ "ssh_keys": ["two\nlines"] }))).await,
        node.call(put(PATH, None, &value!({ "user_data": SECRET }))).await,
        node.call(put(PATH, None, &value!(format!("#cloud-config\npassword: {SECRET}\n")))).await,
    ]
    .iter()
    .map(Answer::told)
    .collect();
    assert!(!told.contains(SECRET), "{told}");
    expect![[r#"
        412 stale: VM web-1 was changed in between: it is at generation 3, and the request was made for 2
        → look at it again (waifuctl show web-1), then send the change with its new ETag
        412 stale: VM web-1 was changed in between: it is at generation 3, and the request was made for 2
        → look at it again (waifuctl show web-1), then send the change with its new ETag
        404 no_such_vm: no VM "wbe-1"; did you mean "web-1" on n1?
        → waifuctl list
        404 no_such_vm: no VM "wbe-1"; did you mean "web-1" on n1?
        → waifuctl list
        422 invalid: user-data: unknown field `user-data`, expected one of `user_data`, `network_config`, `ssh_keys`, `datasource`, `imds`
        → -
        400 invalid: ssh_keys: each is one line of at most 8192 bytes
        → -
        422 invalid: user_data: line 1: cloud-init would ignore it, because it does not begin with a line that says what it is; make the first line #cloud-config for YAML, or #!/bin/sh for a script
        → mend the document and send it again; with --dry-run (dry_run) it is only checked
        422 invalid: the body is not what is wanted here: invalid type: string, expected struct CloudInit
        → -
    "#]].assert_eq(&told);
}

#[tokio::test]
async fn an_edit_sent_twice_is_one_life() {
    let house = House::start(1).await;
    let node = &house.nodes[0];
    web_1(node, value!({})).await;
    let mut lives = Vec::new();
    for _ in 0..2 {
        let mut request = put(&format!("{PATH}?rerun=true"), Some("\"1\""), &value!({ "user_data": "#!/bin/sh\n" }));
        request.headers_mut().insert("idempotency-key", "edit".parse().unwrap());
        let answer = node.call(request).await;
        assert_eq!(answer.status.as_u16(), 200);
        lives.push(answer.json());
    }
    assert_eq!(lives[0], lives[1]);
    assert_eq!(node.get("/api/v1/vms/web-1").await.json()["instance_id"], lives[0]["instance_id"]);
}

#[tokio::test]
async fn the_clusters_own_documents() {
    let house = House::start(1).await;
    let node = &house.nodes[0];
    let empty = node.get(DEFAULTS).await;
    assert_eq!((empty.header("etag"), empty.header("cache-control")), ("\"0\"", "no-store"));
    assert_eq!(empty.json(), value!({}));
    let first = value!({ "user_data": "#cloud-config\npackages: [vim]\n" });
    let saved = node.call(put(DEFAULTS, Some("\"0\""), &first)).await;
    expect![[r#"
        200
        {
          "generation": 1,
          "warnings": []
        }
    "#]]
    .assert_eq(&saved.shown());
    assert_eq!(saved.header("etag"), "\"1\"");
    assert_eq!(node.get(DEFAULTS).await.json(), first);
    let told: String = [
        node.call(put(DEFAULTS, Some("\"0\""), &first)).await,
        node.call(put(DEFAULTS, None, &value!({ "vendor_data": SECRET }))).await,
        node.call_as(Role::Operator, put(DEFAULTS, None, &first)).await,
        node.call_as(Role::Viewer, get(DEFAULTS)).await,
        node.call_as(Role::Viewer, get(PATH)).await,
    ]
    .iter()
    .map(Answer::told)
    .collect();
    expect![[r#"
        412 stale: the cluster's cloud-init defaults were changed in between: they are at generation 1, and the request was made for 0
        → look at them again, then send the change with their new ETag
        422 invalid: vendor_data: line 1: cloud-init would ignore it, because it does not begin with a line that says what it is; make the first line #cloud-config for YAML, or #!/bin/sh for a script
        → mend the document and send it again; nothing was changed
        403 not_allowed: this needs the role admin, and the caller is operator
        → use a token of role admin: waifuctl token create --role admin
        403 not_allowed: this needs the role operator, and the caller is viewer
        → use a token of role operator: waifuctl token create --role operator
        403 not_allowed: this needs the role operator, and the caller is viewer
        → use a token of role operator: waifuctl token create --role operator
    "#]].assert_eq(&told);
}

#[tokio::test]
async fn what_guests_are_told_is_told_to_nobody_else() {
    let log = Log::search(SECRET);
    let house = House::start(2).await;
    let node = &house.nodes[0];
    let cloud_config = format!("#cloud-config\npassword: {SECRET}\n");
    let network_config = format!("version: 2\n# {SECRET}\n");
    let told = value!({ "user_data": cloud_config, "network_config": network_config });
    let all = [
        web_1(node, told.clone()).await,
        node.call(put(&format!("{PATH}?dry_run=true"), None, &told)).await,
        node.call(put(&format!("{PATH}?rerun=true"), None, &told)).await,
        node.call(put(PATH, Some("\"1\""), &told)).await,
        node.call(put(PATH, None, &value!({ "user_data": format!("#cloud-config\n{SECRET}: [\n") }))).await,
        node.call(put(DEFAULTS, None, &value!({ "user_data": cloud_config, "vendor_data": cloud_config }))).await,
        node.call(put(DEFAULTS, Some("\"9\""), &value!({ "vendor_data": cloud_config }))).await,
        node.call_as(Role::Viewer, get("/api/v1/vms")).await,
        node.call_as(Role::Viewer, get("/api/v1/vms/web-1")).await,
        node.call_as(Role::Viewer, get("/api/v1/events?limit=1000")).await,
        node.call_as(Role::Viewer, get("/api/v1/cluster")).await,
        node.call_as(Role::Viewer, get(PATH)).await,
        node.get("/metrics").await,
    ];
    for answer in &all {
        assert!(!answer.text().contains(SECRET), "{}", answer.text());
    }
    let events = all[9].text();
    for field in ["user_data", "network_config", "default_user_data", "vendor_data"] {
        assert!(events.contains(field), "{field} changed, and that is told: {events}");
    }
    assert!(node.get(PATH).await.text().contains(SECRET), "but an operator may know");
    let (lines, found) = log.lines();
    assert!(lines > all.len(), "every request is in the log at least once");
    assert_eq!(found, [] as [&str; 0]);
}

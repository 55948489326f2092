//! `waifuctl apply` and `waifuctl export` as people and scripts see them. The server is a fake that keeps VMs as a real one does,
//! with generations and keys; real daemons are met elsewhere.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    dead_code,
    reason = "a test that cannot go on must end; the fake is shared"
)]

mod fake;
mod schema;

use expect_test::expect;
use fake::{Ended, Fake, Reply, ended, ok, problem, refuse, vm, waifuctl};
use http::{Method, request::Parts};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{Arc, Mutex},
};
use tempfile::TempDir;
use waifud_api::problem::{Problem, ProblemCode};

/// What a cluster keeps: VMs by name, and the answers by key.
#[derive(Debug, Default)]
struct Kept {
    vms: BTreeMap<String, Value>,
    documents: BTreeMap<String, Value>,
    templates: Vec<Value>,
    nodes: BTreeMap<String, Value>,
    answers: BTreeMap<String, Value>,
    made: u64,
    /// Changes to these are refused.
    refused: Vec<&'static str>,
    /// The next answer to a create is lost on its way.
    lose: bool,
}

#[derive(Debug, Clone, Default)]
struct Cluster(Arc<Mutex<Kept>>);

impl Cluster {
    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.0.lock().unwrap()
    }

    fn serve(&self) -> Fake {
        let cluster = self.clone();
        Fake::serve_whole(move |head, body| cluster.kept().answer(head, body))
    }

    fn generation(&self, name: &str) -> u64 {
        self.kept().vms[name]["generation"].as_u64().unwrap()
    }
}

fn version(name: &str, sha256: &str, url: Option<&str>) -> Value {
    json!({
        "template": name, "version": "9".repeat(64), "sha256": sha256, "size": 5, "virtual_size": 1_048_576,
        "format": "qcow2", "url": url, "nodes": ["n1"], "vms": 0, "added_at": "2026-03-01T12:00:00Z"
    })
}

impl Kept {
    fn answer(&mut self, head: &Parts, body: &[u8]) -> Reply {
        let path: Vec<_> = head.uri.path().trim_start_matches("/api/v1/").split('/').collect();
        let query = head.uri.query().unwrap_or_default();
        let trial = query.contains("dry_run");
        let key = head.headers.get("idempotency-key").map(|key| key.to_str().unwrap().to_owned());
        if let Some(answer) = key.as_ref().filter(|_| !trial).and_then(|key| self.answers.get(key)) {
            return ok(answer.clone());
        }
        let body = || serde_json::from_slice::<Value>(body).unwrap();
        let reply = match (&head.method, path.as_slice()) {
            (&Method::GET, ["templates"]) => json!(self.templates),
            (&Method::POST, ["templates", name, "versions"]) => {
                let sha256 = query.split_once("sha256=").unwrap().1;
                let version = version(name, sha256, None);
                self.templates.push(json!({ "name": name, "versions": [version] }));
                version
            }
            (&Method::GET, ["nodes"]) => json!(self.nodes.values().collect::<Vec<_>>()),
            (method, ["nodes", name]) => {
                let Some(node) = self.nodes.get_mut(*name) else {
                    return problem(&Problem::new(ProblemCode::NoSuchNode, format!("no node \"{name}\"")));
                };
                if *method == Method::PATCH {
                    merge(node, &body());
                }
                node.clone()
            }
            (&Method::GET, ["vms"]) => {
                let label = query.split_once("label.").and_then(|(_, label)| label.split_once("%3D"));
                let has = |vm: &&Value| label.is_none_or(|(key, value)| vm["labels"][key] == value);
                json!(self.vms.values().filter(has).collect::<Vec<_>>())
            }
            (&Method::POST, ["vms"]) => {
                let wanted = body();
                let name = wanted["name"].as_str().unwrap().to_owned();
                if self.refused.contains(&name.as_str()) {
                    return problem(
                        &Problem::new(ProblemCode::NoNodeFits, "no node has room").with_remedy("waifuctl node list"),
                    );
                }
                if trial {
                    return ok(json!({
                        "placement": { "node": "n2", "reason": "most free memory of 3", "rejected": [] },
                        "template": { "name": wanted["template"], "version": "9".repeat(64) },
                        "disk": 10_737_418_240_u64, "warnings": []
                    }));
                }
                let created = self.create(&name, &wanted);
                if std::mem::take(&mut self.lose) {
                    self.answers.insert(key.unwrap(), created);
                    return refuse(ProblemCode::Internal);
                }
                created
            }
            (method, ["vms", name, rest @ ..]) => {
                let Some(vm) = self.vms.get(*name).cloned() else { return refuse(ProblemCode::NoSuchVm) };
                let expect =
                    head.headers.get("if-match").map(|tag| tag.to_str().unwrap().trim_matches('"').parse::<u64>());
                if expect.is_some_and(|expect| expect.ok() != vm["generation"].as_u64()) {
                    return refuse(ProblemCode::Stale);
                }
                if *method != Method::GET && self.refused.contains(name) {
                    return problem(&Problem::new(ProblemCode::Protected, format!("{name} is protected")));
                }
                match (method, rest) {
                    (&Method::GET, []) => return tagged(&vm, vm.clone()),
                    (&Method::GET, ["cloud-init"]) => {
                        return tagged(&vm, self.documents.get(*name).cloned().unwrap_or(json!({ "ssh_keys": [] })));
                    }
                    (&Method::PATCH, []) if trial => json!({ "vm": vm, "changes": [] }),
                    (&Method::DELETE, []) if trial => vm,
                    (&Method::DELETE, []) => {
                        self.vms.remove(*name);
                        let mut vm = vm;
                        vm["phase"] = json!("deleting");
                        vm
                    }
                    (&Method::PUT, ["cloud-init"]) if trial => {
                        json!({ "generation": vm["generation"], "instance_id": "i-7", "warnings": ["user_data: line 2: odd"] })
                    }
                    (&Method::PUT, ["cloud-init"]) => {
                        self.documents.insert((*name).to_owned(), body());
                        let vm = self.changed(name, |_| ());
                        json!({ "generation": vm["generation"], "instance_id": "i-7", "warnings": [] })
                    }
                    (&Method::PATCH, []) => {
                        let patch = body();
                        self.changed(name, |vm| merge(vm, &patch))
                    }
                    (&Method::POST, [verb]) => {
                        let state = if *verb == "stop" { "stopped" } else { "running" };
                        self.changed(name, |vm| {
                            vm["desired"] = json!(state);
                            vm["status"]["state"] = json!(state);
                        })
                    }
                    _ => return refuse(ProblemCode::NoSuchEndpoint),
                }
            }
            _ => return refuse(ProblemCode::NoSuchEndpoint),
        };
        if let Some(key) = key.filter(|_| !trial) {
            self.answers.insert(key, reply.clone());
        }
        ok(reply)
    }

    fn create(&mut self, name: &str, wanted: &Value) -> Value {
        self.made += 1;
        let mut made = vm(name, if wanted["start"] == false { "stopped" } else { "running" });
        made["id"] = json!(format!("ec270707-0707-4707-8707-{:012}", self.made));
        made["template"]["name"] = wanted["template"].clone();
        for field in ["cpus", "memory", "disk", "disks", "labels", "description", "protected", "ssh_keys"] {
            if let Some(value) = wanted.get(field) {
                made[field] = value.clone();
            }
        }
        self.vms.insert(name.to_owned(), made.clone());
        json!({ "vm": made, "placement": { "node": "n2", "reason": "most free memory of 3", "rejected": [] } })
    }

    fn changed(&mut self, name: &str, change: impl FnOnce(&mut Value)) -> Value {
        let vm = self.vms.get_mut(name).unwrap();
        change(vm);
        vm["generation"] = json!(vm["generation"].as_u64().unwrap() + 1);
        vm.clone()
    }
}

/// RFC 7396.
fn merge(target: &mut Value, patch: &Value) {
    for (key, value) in patch.as_object().unwrap() {
        match value {
            Value::Null => drop(target.as_object_mut().unwrap().remove(key)),
            Value::Object(_) if target[key].is_object() => merge(&mut target[key], value),
            value => target[key] = value.clone(),
        }
    }
}

fn tagged(vm: &Value, value: Value) -> Reply {
    let mut reply = ok(value);
    reply.headers_mut().insert("etag", format!("\"{}\"", vm["generation"]).parse().unwrap());
    reply
}

/// Files to apply.
struct Files(TempDir);

impl Files {
    fn of(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        Self(dir)
    }

    async fn apply(&self, fake: &Fake, args: &[&str]) -> Ended {
        let args = [&["apply", "-f", self.0.path().to_str().unwrap()], args].concat();
        let mut ended = fake.run(&args).await;
        ended.err = ended.err.replace(&format!("{}/", self.0.path().display()), "");
        ended.err = ended.err.lines().map(|line| format!("{}\n", without_time(line))).collect();
        ended
    }
}

/// `(0.1s)` at the end of a line differs each time.
fn without_time(line: &str) -> &str {
    match line.rsplit_once(" (") {
        Some((line, took)) if took.ends_with("s)") && took.starts_with(|c: char| c.is_ascii_digit()) => line,
        _ => line,
    }
}

const SHOP: &str = "\
vm:
- name: web-1
  template: tiny
  cpus: 2
  labels: {app: shop}
- name: web-2
  template: tiny
  running: false
  labels: {app: shop}
  disks: {data: 1G}
";

#[tokio::test]
async fn applied_twice_it_is_done_once() {
    let cluster = Cluster::default();
    let fake = cluster.serve();
    let files = Files::of(&[("shop.yaml", SHOP)]);
    let trial = files.apply(&fake, &["--dry-run"]).await;
    expect![[r#"
        0
        + vm web-1  tiny, 2 CPUs, 512 MiB; on n2: most free memory of 3
        + vm web-2  tiny, 1 CPU, 512 MiB, data 1 GiB, not started; on n2: most free memory of 3
        2 to create
    "#]]
    .assert_eq(&format!("{}\n{}{}", trial.code, trial.out, trial.err));
    assert_eq!(cluster.kept().vms.len(), 0, "nothing is made on trial");
    let first = files.apply(&fake, &[]).await;
    expect![[r#"
        0
        vm|web-1|create|done
        vm|web-2|create|done
        + vm web-1  tiny, 2 CPUs, 512 MiB; on n2: most free memory of 3
        + vm web-2  tiny, 1 CPU, 512 MiB, data 1 GiB, not started; on n2: most free memory of 3
        2 to create
        vm web-1 is on n2: most free memory of 3
        vm web-2 is on n2: most free memory of 3
        vm web-1 runs: 10.77.2.14
    "#]]
    .assert_eq(&format!("{}\n{}{}", first.code, first.out.replace('\t', "|"), first.err));
    let again = files.apply(&fake, &[]).await;
    expect![[r#"
        0
        vm|web-1|unchanged|unchanged
        vm|web-2|unchanged|unchanged
        = vm web-1  unchanged
        = vm web-2  unchanged
        2 unchanged
    "#]]
    .assert_eq(&format!("{}\n{}{}", again.code, again.out.replace('\t', "|"), again.err));
    assert_eq!((cluster.generation("web-1"), cluster.kept().made), (1, 2));
}

#[tokio::test]
async fn what_differs_is_changed_and_nothing_else() {
    let cluster = Cluster::default();
    let fake = cluster.serve();
    Files::of(&[("shop.yaml", SHOP)]).apply(&fake, &[]).await;
    cluster.kept().documents.insert("web-1".to_owned(), json!({ "ssh_keys": ["ssh-rsa A"], "imds": "any" }));
    let more = SHOP
        .replace("cpus: 2", "memory: 1G\n  user_data: {password: hunter2}")
        .replace("running: false", "running: true");
    let ended = Files::of(&[("shop.yaml", &more)]).apply(&fake, &[]).await;
    expect![[r#"
        0
        vm|web-1|change|done
        vm|web-2|change|done
        ~ vm web-1  on n2
            memory     512 MiB → 1 GiB  (while it runs, if the guest can; else at its next start)
            user_data  (none) → 34 bytes, BLAKE3 05b37cca8d14  (at its next start)
            note: shop.yaml:5: user_data: line 2: odd
        ~ vm web-2  on n2
            running  false → true
        2 to change
        vm web-1 is changed: memory, user_data
        vm web-2 is changed: running
        vm web-2 runs: 10.77.2.14
    "#]]
    .assert_eq(&format!("{}\n{}{}", ended.code, ended.out.replace('\t', "|"), ended.err));
    let kept = cluster.kept();
    assert_eq!((&kept.vms["web-1"]["cpus"], &kept.vms["web-1"]["memory"]), (&json!(2), &json!(1 << 30)));
    let told = &kept.documents["web-1"];
    assert_eq!(told["user_data"], json!("#cloud-config\n{password: hunter2}\n"));
    assert_eq!(told["ssh_keys"], json!(["ssh-rsa A"]), "what is not named stays");
    assert_eq!(kept.vms["web-2"]["desired"], json!("running"));
}

#[tokio::test]
async fn one_that_is_refused_does_not_stop_the_others() {
    let cluster = Cluster::default();
    let fake = cluster.serve();
    cluster.kept().refused.push("web-1");
    let ended = Files::of(&[("shop.yaml", SHOP)]).apply(&fake, &[]).await;
    expect![[r#"
        8
        vm|web-2|create|done
        vm|web-1|cannot|refused
        + vm web-2  tiny, 1 CPU, 512 MiB, data 1 GiB, not started; on n2: most free memory of 3
        ! vm web-1  cannot be done
            no node has room [no_node_fits]; try: waifuctl node list
        1 to create, 1 that cannot be done
        vm web-2 is on n2: most free memory of 3
    "#]]
    .assert_eq(&format!("{}\n{}{}", ended.code, ended.out.replace('\t', "|"), ended.err));
    assert!(cluster.kept().vms.contains_key("web-2"));
}

#[tokio::test]
async fn only_what_has_the_label_is_pruned_and_only_when_agreed() {
    let cluster = Cluster::default();
    let fake = cluster.serve();
    let other = "---\nkind: vm\nname: other\ntemplate: tiny\nlabels: {app: mail}\n---\nkind: vm\nname: safe\ntemplate: tiny\nlabels: {app: shop}\n";
    Files::of(&[("shop.yaml", SHOP), ("other.yaml", other)]).apply(&fake, &[]).await;
    cluster.kept().refused.push("safe");
    let less = Files::of(&[("shop.yaml", "kind: vm\nname: web-2\ntemplate: tiny\n")]);
    let asked = less.apply(&fake, &["--prune", "-l", "app=shop"]).await;
    expect![[r#"
        2
        - vm web-1  on n2, disk 10 GiB: in no file
        = vm web-2  unchanged
        ! vm safe   cannot be done
            it is in no file, and would be deleted: safe is protected [protected]
        1 to delete, 1 unchanged, 1 that cannot be done
        error: Delete vm web-1 on n2 with its disks? This cannot be undone. Nobody can be asked, because this is not a terminal: give --yes to agree
    "#]].assert_eq(&format!("{}\n{}{}", asked.code, asked.out, asked.err));
    assert_eq!(cluster.kept().vms.len(), 4);
    let agreed = less.apply(&fake, &["--prune", "-l", "app=shop", "--yes", "-o", "json"]).await;
    expect![[r#"
        8
        [
          {
            "kind": "vm",
            "name": "web-1",
            "action": "delete",
            "outcome": "done"
          },
          {
            "kind": "vm",
            "name": "web-2",
            "action": "unchanged",
            "outcome": "unchanged"
          },
          {
            "kind": "vm",
            "name": "safe",
            "action": "cannot",
            "outcome": "refused",
            "error": "it is in no file, and would be deleted: safe is protected [protected]"
          }
        ]
        - vm web-1  on n2, disk 10 GiB: in no file
        = vm web-2  unchanged
        ! vm safe   cannot be done
            it is in no file, and would be deleted: safe is protected [protected]
        1 to delete, 1 unchanged, 1 that cannot be done
        vm web-1 is deleted
    "#]]
    .assert_eq(&format!("{}\n{}{}", agreed.code, agreed.out, agreed.err));
    assert_eq!(cluster.kept().vms.keys().collect::<Vec<_>>(), ["other", "safe", "web-2"]);
}

#[tokio::test]
async fn a_disk_goes_only_when_agreed() {
    let cluster = Cluster::default();
    let fake = cluster.serve();
    Files::of(&[("shop.yaml", SHOP)]).apply(&fake, &[]).await;
    let without = Files::of(&[("shop.yaml", &SHOP.replace("{data: 1G}", "{}"))]);
    let asked = without.apply(&fake, &[]).await;
    assert_eq!(asked.code, 2, "{}", asked.err);
    assert!(asked.err.contains("Delete data (1 GiB) of vm web-2?"), "{}", asked.err);
    assert_eq!(cluster.generation("web-2"), 1);
    assert_eq!(without.apply(&fake, &["-y"]).await.code, 0);
    assert_eq!(cluster.kept().vms["web-2"]["disks"], json!({}));
}

#[tokio::test]
async fn a_run_that_broke_off_can_be_repeated() {
    let cluster = Cluster::default();
    let fake = cluster.serve();
    cluster.kept().lose = true;
    let files = Files::of(&[("shop.yaml", "kind: vm\nname: web-1\ntemplate: tiny\n")]);
    assert_eq!(files.apply(&fake, &[]).await.code, 1);
    // As if it were not seen yet where the second run asks: its request meets the key of the first.
    let made = cluster.kept().vms.remove("web-1").unwrap();
    let put_back = cluster.clone();
    let late = Fake::serve_whole(move |head, body| {
        if head.method == Method::POST && head.uri.query().is_none() {
            put_back.kept().vms.insert("web-1".to_owned(), made.clone());
        }
        put_back.kept().answer(head, body)
    });
    let again = files.apply(&late, &[]).await;
    assert_eq!((again.code, cluster.kept().made), (0, 1), "{}", again.err);
}

#[tokio::test]
async fn what_was_deleted_since_is_made_again() {
    let cluster = Cluster::default();
    let fake = cluster.serve();
    let files = Files::of(&[("shop.yaml", "kind: vm\nname: web-1\ntemplate: tiny\n")]);
    for life in 1..=3 {
        let ended = files.apply(&fake, &[]).await;
        assert_eq!((ended.code, cluster.kept().made), (0, life), "{}", ended.err);
        cluster.kept().vms.remove("web-1").unwrap();
    }
}

#[tokio::test]
async fn templates_come_first() {
    let cluster = Cluster::default();
    let fake = cluster.serve();
    let text = "kind: vm\nname: a\ntemplate: new\n---\nkind: template\nname: new\nfile: new.img\n";
    let files = Files::of(&[("all.yaml", text), ("new.img", "bytes")]);
    let ended = files.apply(&fake, &[]).await;
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert!(ended.err.contains("where it goes is known when template new is there"), "{}", ended.err);
    let asked = fake.asked();
    let at = |line: &str| asked.iter().position(|asked| asked.starts_with(line)).unwrap();
    assert!(at("POST /api/v1/templates/new/versions") < at("POST /api/v1/vms"));
    let again = files.apply(&fake, &[]).await;
    assert_eq!((again.code, again.err.lines().last().unwrap()), (0, "2 unchanged"));
}

fn node(name: &str, labels: &Value) -> Value {
    let some = json!({ "cpus": 4, "memory": 1 << 30, "disk": 1 << 30 });
    json!({
        "name": name, "id": "0000000000000001", "address": "192.0.2.11:7443", "alive": true, "since": null, "cordoned": false,
        "role": "leader", "capacity": some, "reserved": some, "threads": 1, "vms": 0, "subnet": "10.77.1.0/24", "kvm": true,
        "arch": "x86_64", "labels": labels, "version": null, "joined_at": "2026-03-01T12:00:00Z"
    })
}

#[tokio::test]
async fn nodes_get_labels_and_nothing_makes_or_removes_them() {
    let cluster = Cluster::default();
    let fake = cluster.serve();
    for (name, labels) in
        [("n1", json!({ "zone": "a", "old": "x" })), ("n2", json!({})), ("n3", json!({ "disk": "ssd" }))]
    {
        cluster.kept().nodes.insert(name.to_owned(), node(name, &labels));
    }
    let text = "node:\n- {name: n1, labels: {zone: b, disk: ssd}}\n- name: n2\n- {name: n9, labels: {zone: c}}\n";
    let files = Files::of(&[("nodes.yaml", text)]);
    let ended = files.apply(&fake, &["--prune", "-l", "disk=ssd"]).await;
    expect![[r#"
        8
        node|n1|change|done
        node|n2|unchanged|unchanged
        node|n9|cannot|refused
        ~ node n1  labels
            labels.disk  (none) → ssd
            labels.zone  a → b
            labels.old   x → (none)
        = node n2  unchanged
        ! node n9  cannot be done
            no node "n9" [no_such_node]
            a machine becomes a node by itself: waifud join, with a token of waifuctl cluster token create
        1 to change, 1 unchanged, 1 that cannot be done
        node n1 is changed: labels.disk, labels.zone, labels.old
    "#]]
    .assert_eq(&format!("{}\n{}{}", ended.code, ended.out.replace('\t', "|"), ended.err));
    assert_eq!(cluster.kept().nodes["n1"]["labels"], json!({ "zone": "b", "disk": "ssd" }));
    assert_eq!(cluster.kept().nodes["n3"]["labels"], json!({ "disk": "ssd" }), "what is in no file is left alone");
    assert!(fake.asked().iter().all(|asked| !asked.starts_with("DELETE")), "{:?}", fake.asked());
    for (args, count) in [(&["--all"][..], 2), (&["--all", "--toml"], 2), (&["node/n2", "node/n3"], 2)] {
        let exported = fake.run(&[&["export"], args].concat()).await;
        let name = if args.contains(&"--toml") { "a.toml" } else { "a.yaml" };
        let again = Files::of(&[(name, &exported.out)]).apply(&fake, &[]).await;
        let last = format!("{count} unchanged");
        assert_eq!((again.code, again.err.lines().last()), (0, Some(&*last)), "{}\n{}", exported.out, exported.err);
    }
}

#[tokio::test]
async fn what_is_wrong_with_files_is_told_before_anybody_is_asked() {
    let cluster = Cluster::default();
    let fake = cluster.serve();
    let files =
        Files::of(&[("a.yaml", "kind: vm\nname: a\ntemplate: t\nmemroy: 1G\ncpus: x\n"), ("b.toml", "vm = \n")]);
    let ended = files.apply(&fake, &[]).await;
    expect![[r#"
        2
        error: a.yaml:4: there is no field "memroy"; did you mean "memory"?
        error: a.yaml:5: cpus: invalid type: string "x", expected a whole number
        error: b.toml:1: string values must be quoted, expected literal string
    "#]]
    .assert_eq(&format!("{}\n{}", ended.code, ended.err));
    assert_eq!(fake.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn what_is_exported_changes_nothing() {
    let cluster = Cluster::default();
    let fake = cluster.serve();
    Files::of(&[("shop.yaml", SHOP)]).apply(&fake, &[]).await;
    cluster.kept().templates =
        vec![json!({ "name": "tiny", "versions": [version("tiny", &"7".repeat(64), Some("https://x/y"))] })];
    for (args, name) in [
        (&["--all"][..], "a.yaml"),
        (&["--all", "--toml"], "a.toml"),
        (&["vm/web-1", "web-2", "-o", "yaml"], "a.yaml"),
        (&["-l", "app=shop", "-o", "json", "--with-user-data"], "a.yaml"),
    ] {
        let exported = fake.run(&[&["export"], args].concat()).await;
        assert_eq!(exported.code, 0, "{}", exported.err);
        let again = Files::of(&[(name, &exported.out)]).apply(&fake, &[]).await;
        let count = if args.contains(&"--all") { 3 } else { 2 };
        assert_eq!(
            (again.code, again.err.lines().last().unwrap()),
            (0, &*format!("{count} unchanged")),
            "{}",
            exported.out
        );
    }
}

/// The examples of the documentation in a language.
fn examples(language: &str) -> Vec<String> {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../node/docs/apply.md")).unwrap();
    let fence = format!("```{language}\n");
    page.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn the_examples_of_the_documentation_work() {
    let mut all = examples("yaml").into_iter().map(|text| ("a.yaml", text)).collect::<Vec<_>>();
    assert!(all.len() >= 3);
    all.extend(examples("toml").into_iter().map(|text| ("a.toml", text)));
    for (name, text) in all {
        let cluster = Cluster::default();
        cluster.kept().nodes = ["n1", "n2"].map(|name| (name.to_owned(), node(name, &json!({})))).into();
        let beside = [("db.yaml", "#cloud-config\n"), ("me.pub", "ssh-ed25519 AAAA me\n"), ("tiny.qcow2", "x")];
        let files = Files::of(&[&[(name, &*text)][..], &beside].concat());
        let file = files.0.path().join(name);
        let fake = cluster.serve();
        let ended = fake.run(&["apply", "--dry-run", "-f", file.to_str().unwrap()]).await;
        assert_eq!(ended.code, 0, "{text}\n{}", ended.err);
    }
}

#[tokio::test]
async fn the_examples_of_the_documentation_are_what_the_schema_says() {
    let schema: Value = serde_json::from_str(&ended(waifuctl(&["apply", "--schema"])).await.out).unwrap();
    let faults = |document: &Value| schema::faults(&schema, &schema, document, "");
    let mut documents: Vec<Value> = Vec::new();
    for text in examples("yaml") {
        documents.extend(serde_saphyr::from_multiple::<Value>(&text).unwrap());
    }
    documents.extend(examples("toml").iter().map(|text| toml::from_str::<Value>(text).unwrap()));
    assert!(documents.len() >= 5);
    for document in &documents {
        assert_eq!(faults(document), Vec::<String>::new(), "{document}");
    }
    for wrong in [
        json!({ "kind": "vm", "name": "a" }),
        json!({ "kind": "vm", "name": "a", "template": "t", "memroy": "1G" }),
        json!({ "kind": "vm", "name": "a", "template": "t", "memory": "lots" }),
        json!({ "kind": "template", "name": "a", "template": "t" }),
        json!({ "name": "a", "template": "t" }),
        json!({ "kind": "node", "name": "n1", "cordoned": true }),
        json!({ "kind": "node", "labels": {} }),
        json!({ "machine": [] }),
        json!([{ "kind": "vm", "name": "a", "template": "t", "restart": "sometimes" }]),
    ] {
        assert_ne!(faults(&wrong), Vec::<String>::new(), "{wrong}");
    }
    for right in [
        json!({ "vm": [{ "name": "a", "template": "t", "memory_max": null, "user_data": { "base64": "AAAA" } }] }),
        json!([{ "kind": "vm", "name": "a", "template": "t@9f3c21", "memory": 1_073_741_824, "user_data": "x", "cd": null }]),
    ] {
        assert_eq!(faults(&right), Vec::<String>::new(), "{right}");
    }
}

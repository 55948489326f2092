//! The forms of results: that JSON of `waifuctl`'s own making is what its help says, and who gets colours.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    dead_code,
    reason = "a test that cannot go on must end; the fake is shared"
)]

mod fake;

use fake::{Fake, ended, ok, refuse, vm, waifuctl};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use waifud_api::problem::ProblemCode;

/// A cluster of one node with one VM.
fn cluster() -> Fake {
    let node = |zone: &str| {
        json!({
            "name": "n1", "id": "0000000000000001", "address": "192.168.1.11:7443", "alive": true, "since": null,
            "cordoned": false, "role": "leader", "capacity": { "cpus": 4, "memory": 0, "disk": 0 },
            "reserved": { "cpus": 0, "memory": 0, "disk": 0 }, "threads": 4, "vms": 0, "subnet": "10.77.1.0/24",
            "kvm": true, "arch": "x86_64", "labels": { "zone": zone }, "version": null, "joined_at": "2026-03-01T12:00:00Z"
        })
    };
    Fake::serve(move |line, _| match line {
        "GET /api/v1/vms/web-1" => ok(vm("web-1", "running")),
        "GET /api/v1/vms" | "GET /api/v1/templates" => ok(json!([])),
        "GET /api/v1/nodes/n1" => ok(node("a")),
        "GET /api/v1/nodes" => ok(json!([node("a")])),
        "PATCH /api/v1/nodes/n1" => ok(node("b")),
        "GET /api/v1/nodes/n1/doctor" => ok(json!({
            "node": "n1", "at": "2026-03-01T12:00:00Z", "version": "0.1.0", "findings": [
                { "check": "disk", "verdict": "wrong", "seen": "full", "means": "no more", "remedy": "make room" },
                { "check": "kvm", "verdict": "well", "seen": "there" }
            ]
        })),
        _ => refuse(ProblemCode::NoSuchVm),
    })
}

/// What the help says of each command: its fields, and which of them may be missing.
async fn documented(fake: &Fake) -> Vec<(String, BTreeSet<String>, BTreeSet<String>)> {
    let text = fake.run(&["help", "output"]).await.out;
    let (_, table) = text.split_once("a field with ? may be missing:\n\n").expect("the table");
    let row = |line: &str| {
        let (command, fields) = line.trim().split_once(':').unwrap();
        let fields = || fields.split(',').map(str::trim);
        let always = fields().filter(|field| !field.ends_with('?')).map(str::to_owned).collect();
        let all = fields().map(|field| field.trim_end_matches('?').to_owned()).collect();
        (command.to_owned(), always, all)
    };
    table.lines().take_while(|line| !line.is_empty()).map(row).collect()
}

#[tokio::test]
async fn json_that_only_waifuctl_knows_is_what_its_help_says() {
    let fake = cluster();
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("nodes.yaml");
    std::fs::write(&file, "kind: node\nname: n1\nlabels: {zone: b}\n").unwrap();
    let run = async |words: &[&str]| {
        let mut command = fake.command(words);
        command.env("XDG_CONFIG_HOME", home.path());
        ended(command).await
    };
    let add = ["context", "add", "home", "--at", "https://n1", "--jump", "root@n1"];
    for words in [&add[..], &["config", "set", "timeout", "10m"]] {
        let done = run(words).await;
        assert_eq!(done.code, 0, "{words:?}: {}", done.err);
    }
    let table = documented(&fake).await;
    assert_eq!(table.len(), 7, "{table:?}");
    for (command, always, all) in table {
        let more = match command.split(' ').next().unwrap() {
            "apply" => vec!["-f", file.to_str().unwrap()],
            "doctor" => vec!["--node", "n1"],
            "ip" => vec!["web-1"],
            _ => vec![],
        };
        let words: Vec<_> = command.split(' ').chain(more).chain(["-o", "json"]).collect();
        let done = run(&words).await;
        let told: Value = serde_json::from_str(&done.out).unwrap_or_else(|e| panic!("{words:?}: {e}: {done:?}"));
        let rows = told.as_array().cloned().unwrap_or_else(|| vec![told]);
        assert!(!rows.is_empty(), "{words:?}");
        for row in rows {
            let keys: BTreeSet<_> = row.as_object().unwrap().keys().cloned().collect();
            assert!(always.is_subset(&keys) && keys.is_subset(&all), "{words:?}: {keys:?}, but help says {all:?}");
        }
    }
}

#[tokio::test]
async fn colours_are_for_terminals_and_as_the_environment_says() {
    const RED: &str = "\u{1b}[31merror:\u{1b}[0m";
    let fake = cluster();
    for (environment, coloured) in [
        (&[][..], false),
        (&[("CLICOLOR_FORCE", "1")], true),
        (&[("CLICOLOR_FORCE", "0")], false),
        (&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], false),
        (&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "")], true),
    ] {
        let mut command = fake.command(&["show", "web-9"]);
        command.envs(environment.iter().copied());
        let done = ended(command).await;
        assert_eq!((done.code, done.err.contains(RED)), (3, coloured), "{environment:?}: {:?}", done.err);
        let mut command = fake.command(&["show", "web-1", "-o", "json"]);
        command.envs(environment.iter().copied());
        assert!(!ended(command).await.out.contains('\u{1b}'), "what programs read has none");
    }
    let dir = tempfile::tempdir().unwrap();
    for (environment, coloured) in [
        ("env -u NO_COLOR TERM=xterm", true),
        ("env -u NO_COLOR TERM=dumb", false),
        ("env NO_COLOR=1 TERM=xterm", false),
    ] {
        let done = fake.on_terminal_with(environment, &["show", "web-9"], "true", "", dir.path()).await;
        assert_eq!((done.code, done.out.contains(RED)), (3, coloured), "{environment}: {:?}", done.out);
    }
}

#[tokio::test]
async fn a_context_is_chosen_by_the_environment() {
    let fake = cluster();
    let home = tempfile::tempdir().unwrap();
    let run = async |words: &[&str], context: &str| {
        let mut command = waifuctl(words);
        command.env("XDG_CONFIG_HOME", home.path()).env("WAIFU_CONTEXT", context);
        ended(command).await
    };
    for (name, at) in [("away", "unix:/nowhere"), ("here", &fake.endpoint())] {
        assert_eq!(run(&["context", "add", name, "--at", at], "").await.code, 0);
    }
    for (context, code) in [("here", 0), ("away", 5), ("hree", 3)] {
        let done = run(&["show", "web-1"], context).await;
        assert_eq!(done.code, code, "{context}: {}", done.err);
    }
    assert_eq!(run(&["show", "web-1", "--context", "here"], "away").await.code, 0, "what is on the line counts more");
}

#[tokio::test]
async fn answers_that_must_hold_everything_are_asked_for() {
    let fake = cluster();
    fake.run(&["show", "web-1"]).await;
    fake.run(&["show", "web-1", "--consistency", "linearizable"]).await;
    let asked = |head: &http::request::Parts| format!("{} {:?}", head.uri, head.headers).contains("linearizable");
    assert_eq!(fake.heads().iter().map(asked).collect::<Vec<_>>(), [false, true]);
}

//! `waifuctl` as scripts see it: what it prints where, and how it ends. The servers are fakes that answer what a test needs;
//! real daemons are met elsewhere.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    dead_code,
    reason = "a test that cannot go on must end; the fake is shared"
)]

mod fake;

use expect_test::expect;
use fake::{Fake, created, ended, ok, problem, refuse, vm, waifuctl};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use waifud_api::problem::{Problem, ProblemCode};

#[tokio::test]
async fn every_kind_of_refusal_has_its_exit_status() {
    for (code, exit) in [
        (ProblemCode::NoSuchVm, 3),
        (ProblemCode::NoQuorum, 4),
        (ProblemCode::NodeUnreachable, 5),
        (ProblemCode::TimedOut, 6),
        (ProblemCode::Stale, 7),
        (ProblemCode::NotAllowed, 9),
        (ProblemCode::Internal, 1),
        (ProblemCode::Invalid, 2),
    ] {
        let fake = Fake::serve(move |_, _| refuse(code));
        let ended = fake.run(&["show", "web-1"]).await;
        assert_eq!((ended.code, ended.out.as_str()), (exit, ""), "{code}: {}", ended.err);
    }
    let nowhere = ended({
        let mut command = waifuctl(&["ls"]);
        command.env("WAIFU_HOST", "unix:/nonexistent/api.sock");
        command
    });
    assert_eq!(nowhere.await.code, 5);
    for usage in [&["frobnicate"][..], &["create"], &["show", "../x"], &["ls", "colour=red"], &["ls", "--host", "n1"]] {
        assert_eq!(ended(waifuctl(usage)).await.code, 2, "{usage:?}");
    }
}

#[tokio::test]
async fn a_mistyped_name_is_answered_with_the_nearest() {
    let nearest = Problem::new(ProblemCode::NoSuchVm, "no VM \"wbe-1\"; did you mean \"web-1\" on n2?")
        .with_remedy("waifuctl show web-1");
    let fake = Fake::serve(move |_, _| problem(&nearest));
    let ended = fake.run(&["show", "wbe-1"]).await;
    expect![[r#"
        error: no VM "wbe-1"; did you mean "web-1" on n2? [no_such_vm]
        try: waifuctl show web-1
    "#]]
    .assert_eq(&ended.err);
}

#[tokio::test]
async fn a_list_in_a_pipe_has_full_values_and_no_heading() {
    let fake = Fake::serve(|line, _| {
        assert!(line == "GET /api/v1/vms" || line == "GET /api/v1/vms?filter=web+node%3Dn2", "{line}");
        ok(json!([vm("web-1", "running"), vm("web-2", "stopped")]))
    });
    let plain = fake.run(&["ls"]).await;
    expect![[r#"
        web-1|running|n2|-|536870912|10.77.2.14|2026-03-01T12:00:10.000Z
        web-2|stopped|n2|-|536870912|10.77.2.14|-
    "#]]
    .assert_eq(&plain.out.replace('\t', "|"));
    assert_eq!((plain.code, plain.err.as_str()), (0, ""));
    let json = fake.run(&["ls", "web", "--node", "n2", "-o", "json"]).await.out;
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()[1]["status"]["state"], "stopped");
    assert_eq!(fake.run(&["ls", "--columns", "ip,name"]).await.out.lines().next(), Some("10.77.2.14\tweb-1"));
}

#[tokio::test]
async fn labels_of_a_node_are_set_taken_away_and_asked_for() {
    let node = |name: &str, labels: Value| {
        json!({
            "name": name, "id": "0000000000000001", "address": "192.168.1.11:7443", "alive": true, "since": null,
            "cordoned": false, "role": "leader", "capacity": { "cpus": 4, "memory": 0, "disk": 0 },
            "reserved": { "cpus": 0, "memory": 0, "disk": 0 }, "threads": 4, "vms": 0, "subnet": "10.77.1.0/24",
            "kvm": true, "arch": "x86_64", "labels": labels, "version": null, "joined_at": "2026-03-01T12:00:00Z"
        })
    };
    let fake = Fake::serve(move |line, body| match line {
        "PATCH /api/v1/nodes/n1" => {
            assert_eq!(body, br#"{"labels":{"disk":null,"zone":"attic"}}"#);
            ok(node("n1", json!({ "zone": "attic" })))
        }
        "GET /api/v1/nodes" => ok(json!([node("n1", json!({ "zone": "attic" })), node("n2", json!({}))])),
        _ => refuse(ProblemCode::NoSuchEndpoint),
    });
    let changed = fake.run(&["node", "label", "n1", "zone=attic", "disk-"]).await;
    assert_eq!((changed.code, changed.err.as_str()), (0, "n1 is labelled: zone=attic\n"));
    let listed = fake.run(&["node", "list", "-l", "zone=attic", "--columns", "name,labels"]).await;
    assert_eq!((listed.code, listed.out.as_str()), (0, "n1\tzone=attic\n"), "{}", listed.err);
}

#[tokio::test]
async fn stale_data_is_shown_and_told() {
    let fake = Fake::serve(|_, _| {
        let mut reply = ok(json!([vm("web-1", "running")]));
        for (name, value) in [("waifu-stale", "no_quorum"), ("waifu-age", "12000"), ("waifu-node", "n2")] {
            reply.headers_mut().insert(name, value.parse().unwrap());
        }
        reply
    });
    let ended = fake.run(&["ls", "-o", "name"]).await;
    assert_eq!((ended.code, ended.out.as_str()), (0, "web-1\n"));
    expect![[r#"
        stale: there is no quorum; n2 shows what it knew 12s ago
    "#]]
    .assert_eq(&ended.err);
    assert_eq!(fake.run(&["ls", "-q", "-o", "name"]).await.err, "");
}

#[tokio::test]
async fn what_a_server_warns_of_is_told_once_and_beside_the_result() {
    let fake = Fake::serve(|line, _| {
        let mut reply = match line {
            "POST /api/v1/vms/web-1/stop" => ok(vm("web-1", "running")),
            _ => ok(vm("web-1", "stopped")),
        };
        for warning in ["the cluster could not agree", "mind the gap"] {
            reply.headers_mut().append("waifu-warning", warning.parse().unwrap());
        }
        reply
    });
    let stopped = fake.run(&["stop", "web-1", "--no-wait"]).await;
    assert_eq!((stopped.code, stopped.out.as_str()), (0, ""));
    expect![[r#"
        warning: the cluster could not agree
        warning: mind the gap
        waifuctl wait web-1 --for stopped
    "#]]
    .assert_eq(&stopped.err);
    let waited = fake.run(&["stop", "web-1"]).await;
    assert_eq!(waited.err.matches("warning").count(), 2, "each once, however often it is looked: {}", waited.err);
    let shown = fake.run(&["show", "web-1", "-o", "json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&shown.out).unwrap()["name"], "web-1");
    assert_eq!(shown.err, "warning: the cluster could not agree\nwarning: mind the gap\n");
}

#[tokio::test]
async fn nothing_is_deleted_where_nobody_can_be_asked() {
    let fake = Fake::serve(|_, _| ok(vm("web-1", "running")));
    let ended = fake.run(&["delete", "web-1"]).await;
    assert_eq!((ended.code, ended.out.as_str()), (2, ""));
    expect![[r#"
        error: Delete web-1 on n2 (10 GiB) with its disk? This cannot be undone. Nobody can be asked, because this is not a terminal: give --yes to agree
    "#]].assert_eq(&ended.err);
    assert_eq!(fake.asked(), ["GET /api/v1/vms/web-1"]);
}

#[tokio::test]
async fn deleting_several_tells_each_end() {
    let gone = AtomicUsize::new(0);
    let fake = Fake::serve(move |line, _| match line {
        "GET /api/v1/vms/nope" => refuse(ProblemCode::NoSuchVm),
        "DELETE /api/v1/vms/web-1" => {
            gone.store(1, Ordering::Relaxed);
            let mut leaving = vm("web-1", "running");
            leaving["phase"] = json!("deleting");
            ok(leaving)
        }
        "GET /api/v1/vms/web-1" if gone.load(Ordering::Relaxed) == 1 => refuse(ProblemCode::NoSuchVm),
        _ => ok(vm("web-1", "running")),
    });
    let ended = fake.run(&["delete", "--yes", "nope", "web-1"]).await;
    assert_eq!(ended.code, 8, "{}", ended.err);
    assert!(ended.err.contains("web-1 is deleted"), "{}", ended.err);
}

/// Answers a create, and then each look at the VM with the next of these states.
fn coming(states: &'static [&'static str]) -> Fake {
    let looks = AtomicUsize::new(0);
    Fake::serve(move |line, _| match line {
        "POST /api/v1/vms" => ok(created("web-1")),
        "GET /api/v1/vms/web-1" => {
            let look = looks.fetch_add(1, Ordering::Relaxed).min(states.len() - 1);
            let mut vm = vm("web-1", states[look]);
            if states[look] == "running" {
                vm["status"]["met"] = json!(["lease"]);
            }
            ok(vm)
        }
        _ => refuse(ProblemCode::NoSuchEndpoint),
    })
}

#[tokio::test]
async fn create_waits_until_the_vm_runs_and_tells_the_phases() {
    let fake = coming(&["fetching", "preparing", "running"]);
    let ended = fake.run(&["create", "-t", "tiny", "-n", "web-1"]).await;
    assert_eq!((ended.code, ended.out.as_str()), (0, "web-1\n"), "{}", ended.err);
    let without_times: Vec<_> = ended.err.lines().map(|line| line.split(" (0").next().unwrap()).collect();
    expect![[r#"
        placed on n2: most free memory of 3 (n1 cordoned)
        template tiny: version 999999999999
        disk 10 GiB
        booted: 10.77.2.14
        web-1 is ready:  waifuctl console web-1"#]]
    .assert_eq(&without_times.join("\n"));
}

#[tokio::test]
async fn what_is_odd_about_the_documents_of_a_new_vm_is_told_by_file_and_line() {
    let fake = Fake::serve(|line, body| {
        let request: Value = serde_json::from_slice(body).unwrap();
        assert_eq!((&request["datasource"], &request["imds"]), (&json!("open_stack"), &json!("v2")));
        let odd = json!(["user_data: line 2: cloud-init does not know `pakages`", "network_config: line 1: it is odd"]);
        if line.ends_with("dry_run=true") {
            let version = json!({ "name": "tiny", "version": "9".repeat(64) });
            ok(json!({ "placement": created("web-1")["placement"], "template": version, "disk": 512, "warnings": odd }))
        } else {
            let mut made = created("web-1");
            made["warnings"] = odd;
            ok(made)
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let (user_data, network) = (dir.path().join("web.yaml"), dir.path().join("net.yaml"));
    std::fs::write(&user_data, "#cloud-config\npakages: []\n").unwrap();
    std::fs::write(&network, "version: 2\n").unwrap();
    let (user_data, network) = (user_data.to_str().unwrap(), network.to_str().unwrap());
    let line = ["create", "-t", "tiny", "-u", user_data, "--network-config", network, "--datasource", "openstack"];
    let told = format!(
        "warning: {user_data}: line 2: cloud-init does not know `pakages`\nwarning: {network}: line 1: it is odd\n"
    );
    for more in [&["--imds", "v2", "--dry-run"][..], &["--imds", "v2", "--no-wait", "--count", "2"]] {
        let ended = fake.run(&[&line[..], more].concat()).await;
        assert_eq!(ended.code, 0, "{}", ended.err);
        assert!(ended.err.starts_with(&told), "{}", ended.err);
        assert_eq!(ended.err.matches("warning").count(), 2, "{}", ended.err);
    }
}

#[tokio::test]
async fn an_address_is_waited_for_until_the_guest_has_answered() {
    let looks = AtomicUsize::new(0);
    let fake = Fake::serve(move |line, _| match line {
        "GET /api/v1/vms/web-1" => {
            let mut vm = vm("web-1", "running");
            if looks.fetch_add(1, Ordering::Relaxed) % 3 == 2 {
                vm["status"]["met"] = json!(["lease", "metadata"]);
            }
            ok(vm)
        }
        _ => refuse(ProblemCode::NoSuchEndpoint),
    });
    for line in [&["ip", "web-1", "--wait"][..], &["wait", "web-1", "--for", "ip"]] {
        let before = fake.asked().len();
        let ended = fake.run(line).await;
        assert_eq!((ended.code, ended.out.as_str(), ended.err.as_str()), (0, "10.77.2.14\n", ""));
        assert_eq!(fake.asked().len(), before + 3, "the third look is the one that counts");
    }
    let silent = Fake::serve(|line, _| match line {
        "GET /api/v1/vms/web-1" => ok(vm("web-1", "running")),
        _ => refuse(ProblemCode::NoSuchEndpoint),
    });
    let ended = silent.run(&["ip", "web-1", "--wait", "--timeout", "1s"]).await;
    assert_eq!((ended.code, ended.out.as_str()), (6, ""));
    expect![[r#"
        web-1 is not answering after 1s (it is running); the work goes on
        follow: waifuctl wait web-1 --for ip
    "#]]
    .assert_eq(&ended.err);
}

#[tokio::test]
async fn a_wait_for_a_silent_node_says_so_at_once_and_goes_on() {
    let looks = AtomicUsize::new(0);
    let fake = Fake::serve(move |line, _| {
        let mut vm = vm("web-1", "stopped");
        vm["desired"] = json!("running");
        match line {
            "GET /api/v1/vms/web-1" if looks.fetch_add(1, Ordering::Relaxed) == 2 => {
                vm["status"]["state"] = json!("running");
            }
            "POST /api/v1/vms/web-1/start" | "GET /api/v1/vms/web-1" => {
                vm["status"]["silent"] = json!({ "since": null });
            }
            _ => return refuse(ProblemCode::NoSuchEndpoint),
        }
        ok(vm)
    });
    let ended = fake.run(&["start", "web-1"]).await;
    let told: Vec<_> = ended.err.lines().map(|line| line.split(" (").next().unwrap()).collect();
    expect![[r#"
        n2 is silent; web-1 is unknown since, it was stopped; waiting until it is back
        n2 is back; web-1 is running
        web-1 runs: 10.77.2.14"#]]
    .assert_eq(&told.join("\n"));
    assert_eq!(ended.code, 0);
    let ended = fake.run(&["wait", "web-1", "--for", "stopped", "--timeout", "1s"]).await;
    expect![[r#"
        n2 is silent; web-1 is unknown since, it was stopped; waiting until it is back
        web-1 is not stopped after 1s (n2 is silent; it was stopped); n2 goes on when it is back
        follow: waifuctl wait web-1 --for stopped
    "#]]
    .assert_eq(&ended.err);
    assert_eq!(ended.code, 6);
}

#[tokio::test]
async fn create_need_not_wait() {
    let fake = coming(&["pending"]);
    let ended = fake.run(&["create", "-t", "tiny", "--no-wait", "-o", "json"]).await;
    assert_eq!(ended.code, 0);
    assert_eq!(serde_json::from_str::<Value>(&ended.out).unwrap()["ip"], "10.77.2.14");
    expect![[r#"
        placed on n2: most free memory of 3 (n1 cordoned)
        web-1 is on its way:  waifuctl wait web-1 --for running
    "#]]
    .assert_eq(&ended.err);
    assert_eq!(fake.asked(), ["POST /api/v1/vms"]);
}

#[tokio::test]
async fn a_wait_that_ends_first_does_not_look_like_failure() {
    let fake = coming(&["fetching"]);
    let ended = fake.run(&["create", "-t", "tiny", "--timeout", "1s", "-q"]).await;
    assert_eq!((ended.code, ended.out.as_str()), (6, "web-1\n"));
    expect![[r#"
        web-1 is not running after 1s (it is fetching); the work goes on
        follow: waifuctl wait web-1 --for running
    "#]]
    .assert_eq(&ended.err);
}

#[tokio::test]
async fn ctrl_c_says_that_the_work_goes_on() {
    let fake = coming(&["fetching"]);
    let mut child = fake.command(&["create", "-t", "tiny"]).spawn().unwrap();
    let mut err = BufReader::new(child.stderr.take().unwrap()).lines();
    // The first line tells that it is placed; when the second look was taken, it waits and listens for the signal.
    let mut told = err.next_line().await.unwrap().unwrap();
    let waits = async {
        while fake.asked().len() < 4 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(fake::DEADLINE, waits).await.expect("it looks again and again");
    let pid = child.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let status = tokio::time::timeout(fake::DEADLINE, child.wait()).await.unwrap().unwrap();
    while let Some(line) = err.next_line().await.unwrap() {
        told = format!("{told}\n{line}");
    }
    assert_eq!(status.code(), Some(6));
    expect![[r#"
        placed on n2: most free memory of 3 (n1 cordoned)
        not waiting any longer; n2 goes on starting web-1
        follow: waifuctl wait web-1 --for running"#]]
    .assert_eq(&told);
}

#[tokio::test]
async fn several_that_are_made_in_part_end_in_eight() {
    let posts = AtomicUsize::new(0);
    let fake = Fake::serve(move |line, body| match line {
        "POST /api/v1/vms" if posts.fetch_add(1, Ordering::Relaxed) == 0 => {
            let request: Value = serde_json::from_slice(body).unwrap();
            assert_eq!(request["name"], "web-1");
            ok(created("web-1"))
        }
        "POST /api/v1/vms" => refuse(ProblemCode::NoNodeFits),
        _ => {
            let mut vm = vm("web-1", "running");
            vm["status"]["met"] = json!(["lease"]);
            ok(vm)
        }
    });
    let ended = fake.run(&["create", "-t", "tiny", "-n", "web", "--count", "3"]).await;
    assert_eq!((ended.code, ended.out.as_str()), (8, "web-1\n"), "{}", ended.err);
    assert!(ended.err.contains("because [no_node_fits]"), "{}", ended.err);
}

#[tokio::test]
async fn a_template_is_sent_from_a_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "image").unwrap();
    let fake = Fake::serve(|line, body| {
        assert_eq!((line, body), ("POST /api/v1/templates/tiny/versions", &b"image"[..]));
        ok(json!({
            "template": "tiny", "version": "9".repeat(64), "sha256": "1".repeat(64), "size": 5, "virtual_size": 512,
            "format": "raw", "url": null, "nodes": ["n1"], "vms": 0, "added_at": "2026-03-01T12:00:00Z"
        }))
    });
    let path = file.path().to_str().unwrap();
    let ended = fake.run(&["template", "add", "tiny", "--file", path, "-o", "name"]).await;
    assert_eq!((ended.code, ended.out), (0, format!("tiny@{}\n", "9".repeat(64))), "{}", ended.err);
    assert!(ended.err.starts_with("template tiny: version 999999999999, 5 B"), "{}", ended.err);
    let absent = fake.run(&["template", "add", "tiny", "--file", "/nonexistent/image"]).await;
    assert_eq!(absent.code, 2, "{}", absent.err);
}

#[tokio::test]
async fn events_are_followed_a_line_each() {
    let event = |index: u64| {
        json!({
            "id": format!("{index}.0"), "at": "2026-03-01T12:00:00Z", "actor": { "kind": "node", "node": "n1" },
            "subject": { "kind": "cluster" }, "kind": "changed", "changes": []
        })
    };
    let fake = Fake::serve(move |line, _| match line {
        "GET /api/v1/events?limit=10" => ok(json!([event(1)])),
        _ => {
            let mut reply = ok(json!(null));
            reply.headers_mut().insert("content-type", "text/event-stream".parse().unwrap());
            *reply.body_mut() = format!("id: 2.0\nevent: event\ndata: {}\n\n", event(2)).into_bytes().into();
            reply
        }
    });
    let mut child = fake.command(&["events", "--follow", "-o", "json"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for expected in ["1.0", "2.0"] {
        let line = tokio::time::timeout(fake::DEADLINE, lines.next_line()).await.unwrap().unwrap().unwrap();
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["id"], expected);
    }
    child.kill().await.unwrap();
}

#[tokio::test]
async fn a_reader_that_leaves_is_no_failure() {
    let fake = Fake::serve(|_, _| ok((0..10_000).map(|n| vm(&format!("web-{n}"), "running")).collect()));
    let mut child = fake.command(&["ls"]).spawn().unwrap();
    let mut first = [0; 5];
    let mut out = child.stdout.take().unwrap();
    out.read_exact(&mut first).await.unwrap();
    drop(out);
    let ended: fake::Ended = child.wait_with_output().await.unwrap().into();
    assert_eq!((ended.code, ended.err.as_str()), (0, ""));
}

//! `--dry-run` of what destroys: the cluster is asked whether it would, nothing is done, and the exit status is the one that the
//! command would have ended with.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    dead_code,
    reason = "a test that cannot go on must end; the fake is shared"
)]

mod fake;

use expect_test::expect;
use fake::{Fake, Reply, ok, problem, refuse, vm};
use http::StatusCode;
use serde_json::json;
use waifud_api::problem::{Problem, ProblemCode};

fn nothing() -> Reply {
    let mut reply = Reply::default();
    *reply.status_mut() = StatusCode::NO_CONTENT;
    reply
}

#[tokio::test]
async fn a_protected_vm_says_on_trial_that_it_would_be_refused() {
    let fake = Fake::serve(|line, _| match line {
        "DELETE /api/v1/vms/db-1?dry_run=true" => problem(
            &Problem::new(ProblemCode::Protected, "VM db-1 is protected: neither it nor a disk of it goes away")
                .with_remedy("waifuctl unprotect db-1"),
        ),
        "DELETE /api/v1/vms/web-1?dry_run=true" | "GET /api/v1/vms/web-1" => {
            let mut vm = vm("web-1", "running");
            vm["disks"] = json!({ "data": 1024 });
            ok(vm)
        }
        "GET /api/v1/vms/db-1" => {
            let mut vm = vm("db-1", "running");
            vm["protected"] = json!(true);
            ok(vm)
        }
        _ => refuse(ProblemCode::NoSuchEndpoint),
    });
    let ended = fake.run(&["delete", "--dry-run", "db-1", "-o", "name"]).await;
    assert_eq!((ended.code, ended.out.as_str()), (1, ""));
    expect![[r#"
        would be refused to delete db-1 on n2 (10 GiB):
        error: VM db-1 is protected: neither it nor a disk of it goes away [protected]
        try: waifuctl unprotect db-1
    "#]]
    .assert_eq(&ended.err);
    let ended = fake.run(&["delete", "--dry-run", "web-1", "db-1", "-o", "name"]).await;
    assert_eq!((ended.code, ended.out.as_str()), (8, "web-1\n"), "{}", ended.err);
    assert!(ended.err.starts_with("would delete web-1 on n2 (10 GiB) with its root disk and data\n"), "{}", ended.err);
    let earnest = fake.run(&["delete", "db-1"]).await;
    assert_eq!(earnest.code, 1, "it is refused before anybody is asked: {}", earnest.err);
    assert!(earnest.err.contains("[protected]") && !earnest.err.contains("--yes"), "{}", earnest.err);
}

#[tokio::test]
async fn a_template_says_which_vms_stand_on_it() {
    let version = |digit: &str, vms: u32| {
        json!({
            "template": "tiny", "version": digit.repeat(64), "sha256": "0".repeat(64), "size": 1, "virtual_size": 1,
            "format": "raw", "url": null, "nodes": [], "vms": vms, "added_at": "2026-03-01T12:00:00Z"
        })
    };
    let fake = Fake::serve(move |line, _| match line {
        "GET /api/v1/templates/tiny" => ok(json!({ "name": "tiny", "versions": [version("9", 2), version("8", 0)] })),
        "DELETE /api/v1/templates/tiny?version=888888&dry_run=true" => nothing(),
        "DELETE /api/v1/templates/tiny?dry_run=true" => {
            problem(&Problem::new(ProblemCode::InUse, "template tiny is in use by 2 VMs"))
        }
        "GET /api/v1/vms?filter=template%3Dtiny" => ok(json!([vm("web-1", "running"), vm("web-2", "stopped")])),
        _ => refuse(ProblemCode::NoSuchEndpoint),
    });
    let whole = fake.run(&["template", "delete", "tiny", "--dry-run", "--columns", "vms"]).await;
    assert_eq!((whole.code, whole.out.as_str()), (7, "2\n0\n"));
    expect![[r#"
        these stand on tiny: web-1, web-2
        error: template tiny is in use by 2 VMs [in_use]
    "#]]
    .assert_eq(&whole.err);
    let one = fake.run(&["template", "delete", "tiny@888888", "--dry-run", "--columns", "vms"]).await;
    assert_eq!((one.code, one.out.as_str(), one.err.as_str()), (0, "0\n", "would delete version tiny@888888\n"));
    let earnest = fake.run(&["template", "delete", "tiny"]).await;
    assert_eq!((earnest.code, earnest.err), (7, whole.err), "it is refused before anybody is asked");
}

#[tokio::test]
async fn a_node_with_vms_leaves_on_trial_as_it_would_in_earnest() {
    let fake = Fake::serve(|line, _| match line {
        "GET /api/v1/nodes/n2" => ok(json!({
            "name": "n2", "id": "0000000000000002", "address": "192.168.1.12:7443", "alive": true, "since": null,
            "cordoned": false, "role": "voter", "capacity": { "cpus": 4, "memory": 0, "disk": 0 },
            "reserved": { "cpus": 0, "memory": 0, "disk": 0 }, "threads": 4, "vms": 1, "subnet": "10.77.2.0/24",
            "kvm": true, "arch": "x86_64", "labels": {}, "version": null, "joined_at": "2026-03-01T12:00:00Z"
        })),
        "GET /api/v1/vms?filter=node%3Dn2" => ok(json!([vm("web-1", "running")])),
        "DELETE /api/v1/nodes/n2?force=true&dry_run=true" => nothing(),
        "DELETE /api/v1/nodes/n2?dry_run=true" => {
            problem(&Problem::new(ProblemCode::InUse, "node n2 has 1 VM, which would be lost with it"))
        }
        _ => refuse(ProblemCode::NoSuchEndpoint),
    });
    let kept = fake.run(&["node", "remove", "n2", "--dry-run", "-o", "name"]).await;
    assert_eq!((kept.code, kept.out.as_str()), (7, "web-1\n"), "{}", kept.err);
    let lost = fake.run(&["node", "remove", "n2", "--dry-run", "--force", "-o", "name"]).await;
    assert_eq!((lost.code, lost.out.as_str()), (0, "web-1\n"));
    assert_eq!(lost.err, "would remove n2 from the cluster: the VM on it is lost\n");
    let earnest = fake.run(&["node", "remove", "n2"]).await;
    assert_eq!(earnest.code, 7, "it is refused before anybody is asked: {}", earnest.err);
    assert!(earnest.err.contains("[in_use]") && !earnest.err.contains("--yes"), "{}", earnest.err);
}

#[tokio::test]
async fn tokens_are_looked_up_and_kept() {
    let fake = Fake::serve(|line, _| match line {
        "GET /api/v1/cluster/join-tokens" => ok(json!([{
            "id": "0000000000000001", "uses_left": 3, "expires_at": "2026-03-01T13:00:00Z",
            "created_at": "2026-03-01T12:00:00Z"
        }])),
        "GET /api/v1/tokens" => ok(json!([])),
        _ => refuse(ProblemCode::NoSuchEndpoint),
    });
    let found = fake.run(&["cluster", "token", "revoke", "0000000000000001", "--dry-run", "-o", "name"]).await;
    assert_eq!((found.code, found.out.as_str()), (0, "0000000000000001\n"), "{}", found.err);
    const OTHER: &str = "0000000000000002";
    for line in [&["cluster", "token", "revoke", OTHER, "--dry-run"][..], &["token", "revoke", OTHER, "--dry-run"]] {
        let missing = fake.run(line).await;
        assert_eq!((missing.code, missing.out.as_str()), (3, ""), "{}", missing.err);
    }
    assert!(fake.asked().iter().all(|line| line.starts_with("GET ")));
}

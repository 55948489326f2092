//! What goes on while it is looked at: watching, waiting and following, also when the node that is asked dies; and what a shell is
//! told when it asks for completions.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    dead_code,
    reason = "a test that cannot go on must end; the fake is shared"
)]

mod fake;

use expect_test::expect;
use fake::{DEADLINE, Fake, Reply, created, ended, https, ok, refuse, vm, waifuctl};
use http_body_util::Full;
use serde_json::{Value, json};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout},
};
use waifud_api::problem::ProblemCode;

fn stream(frames: &str) -> Reply {
    let mut reply = http::Response::new(Full::from(frames.to_owned()));
    reply.headers_mut().insert("content-type", "text/event-stream".parse().unwrap());
    reply
}

fn event(index: u64) -> Value {
    json!({
        "id": format!("{index}.0"), "at": "2026-03-01T12:00:00Z", "actor": { "kind": "node", "node": "n1" },
        "subject": { "kind": "cluster" }, "kind": "changed", "changes": []
    })
}

fn frame(index: u64) -> String {
    format!("id: {index}.0\nevent: event\ndata: {}\n\n", event(index))
}

async fn next_line<R: AsyncBufRead + Unpin>(lines: &mut Lines<R>) -> String {
    tokio::time::timeout(DEADLINE, lines.next_line()).await.expect("a line in time").unwrap().expect("a line")
}

fn lines(child: &mut Child) -> Lines<BufReader<ChildStdout>> {
    BufReader::new(child.stdout.take().unwrap()).lines()
}

fn interrupt(child: &Child) {
    let pid = child.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
}

#[tokio::test]
async fn a_watched_list_in_a_pipe_is_a_line_for_each_change() {
    let looks = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&looks);
    let fake = Fake::serve(move |line, _| match line {
        "GET /api/v1/vms" => {
            let look = count.fetch_add(1, Ordering::Relaxed);
            let mut first = vm("web-1", if look < 1 { "preparing" } else { "running" });
            first["id"] = json!("ec270707-0707-4707-8707-070707070701");
            // The second is deleted after the second look.
            if look < 2 { ok(json!([vm("web-0", "running"), first])) } else { ok(json!([first])) }
        }
        // Nothing is told: it is looked without being told.
        _ => refuse(ProblemCode::NoSuchEndpoint),
    });
    let mut child = fake.command(&["ls", "--watch", "-o", "json"]).spawn().unwrap();
    let mut shown = lines(&mut child);
    let mut told = Vec::new();
    for _ in 0..4 {
        let turn: Value = serde_json::from_str(&next_line(&mut shown).await).unwrap();
        told.push(format!("{} {} {}", turn["change"], turn["vm"]["name"], turn["vm"]["status"]["state"]));
    }
    expect![[r#"
        "there" "web-0" "running"
        "there" "web-1" "preparing"
        "changed" "web-1" "running"
        "gone" "web-0" "running""#]]
    .assert_eq(&told.join("\n"));
    interrupt(&child);
    let status = tokio::time::timeout(DEADLINE, child.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(0), "a watch is ended by Ctrl-C");
}

#[tokio::test]
async fn a_watched_vm_ends_when_it_is_deleted() {
    let looks = AtomicUsize::new(0);
    let fake = Fake::serve(move |line, _| match line {
        "GET /api/v1/vms/web-1" if looks.fetch_add(1, Ordering::Relaxed) < 2 => ok(vm("web-1", "running")),
        "GET /api/v1/vms/web-1" => refuse(ProblemCode::NoSuchVm),
        _ => refuse(ProblemCode::NoSuchEndpoint),
    });
    let done = fake.run(&["show", "web-1", "--watch", "--columns", "name,status"]).await;
    assert_eq!((done.code, done.out.as_str()), (0, "web-1\trunning\nweb-1\tgone\n"), "{}", done.err);
    assert_eq!(done.err, "web-1 is deleted\n");
}

#[tokio::test]
async fn a_watch_on_a_terminal_is_drawn_in_its_place() {
    let looks = AtomicUsize::new(0);
    let fake = Fake::serve(move |line, _| match line {
        "GET /api/v1/vms/web-1" => match looks.fetch_add(1, Ordering::Relaxed) {
            0 | 1 => ok(vm("web-1", "preparing")),
            2 => ok(vm("web-1", "running")),
            _ => refuse(ProblemCode::NoSuchVm),
        },
        _ => refuse(ProblemCode::NoSuchEndpoint),
    });
    let dir = tempfile::tempdir().unwrap();
    let line = ["show", "web-1", "--watch", "--columns", "name,status", "-o", "table"];
    let done = fake.on_terminal(&line, "true", "", dir.path()).await;
    let lines: Vec<_> = done.out.lines().map(|line| line.replace('\u{1b}', "ESC")).collect();
    expect![[r#"
        NAME   STATUSESC[K
        web-1  preparingESC[K
        ESC[JESC[2A
        NAME   STATUSESC[K
        web-1  runningESC[K
        ESC[JESC[2A
        web-1 is deletedESC[K
        ESC[J"#]]
    .assert_eq(&lines.join("\n").replace("\r", "\n"));
}

/// A node that makes the VM and then loses power; another that has the same state.
#[tokio::test]
async fn a_wait_goes_on_at_the_next_node() {
    let dead = Arc::new(AtomicBool::new(false));
    let first = Fake::serve(|line, _| match line {
        "POST /api/v1/vms" => ok(created("web-1")),
        "GET /api/v1/vms/web-1" => ok(vm("web-1", "preparing")),
        line if line.starts_with("GET /api/v1/events") => stream(&frame(41)),
        _ => refuse(ProblemCode::NoSuchEndpoint),
    });
    let told = Arc::clone(&dead);
    let second = Fake::serve(move |line, _| match line {
        "GET /api/v1/vms/web-1" => {
            assert!(told.load(Ordering::Relaxed), "the first node answers still");
            let mut vm = vm("web-1", "running");
            vm["status"]["met"] = json!(["lease"]);
            ok(vm)
        }
        line if line.starts_with("GET /api/v1/events") => stream(&frame(42)),
        _ => refuse(ProblemCode::NoSuchEndpoint),
    });
    let hosts = format!("{},{}", first.endpoint(), second.endpoint());
    let mut command = waifuctl(&["create", "-t", "tiny", "-n", "web-1", "-H", &hosts]);
    let child = command.spawn().unwrap();
    let waits = async {
        while first.asked().len() < 4 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, waits).await.expect("it waits at the first node");
    dead.store(true, Ordering::Relaxed);
    first.die();
    let done: fake::Ended = tokio::time::timeout(DEADLINE, child.wait_with_output()).await.unwrap().unwrap().into();
    assert_eq!((done.code, done.out.as_str()), (0, "web-1\n"), "{}", done.err);
    let moved = format!("{} is away; going on at {}\n", first.endpoint(), second.endpoint());
    assert_eq!(done.err.matches(&moved).count(), 1, "{}", done.err);
    assert!(!second.asked().contains(&"POST /api/v1/vms".to_owned()), "nothing is made twice");
}

#[tokio::test]
async fn events_are_followed_at_the_next_node_without_loss_or_repetition() {
    let dead = Arc::new(AtomicBool::new(false));
    let gone = Arc::clone(&dead);
    let first = Fake::serve(move |line, _| match line {
        "GET /api/v1/events?limit=10" => ok(json!([event(1)])),
        line if line.starts_with("GET /api/v1/events") => {
            gone.store(true, Ordering::Relaxed);
            stream(&(frame(2) + &frame(3)))
        }
        _ => refuse(ProblemCode::NoSuchEndpoint),
    });
    let second = Fake::serve_whole(|head, _| {
        let after = head.headers.get("last-event-id").map(|id| id.to_str().unwrap().to_owned());
        let frames: String = (1..=5)
            .filter(|index| after.as_ref().is_none_or(|after| format!("{index}.0") > *after))
            .map(frame)
            .collect();
        stream(&frames)
    });
    let hosts = format!("{},{}", first.endpoint(), second.endpoint());
    let mut child = waifuctl(&["events", "--follow", "-o", "name", "-H", &hosts]).spawn().unwrap();
    let mut shown = lines(&mut child);
    let mut told = Vec::new();
    for _ in 0..3 {
        told.push(next_line(&mut shown).await);
    }
    first.die();
    for _ in 0..2 {
        told.push(next_line(&mut shown).await);
    }
    assert_eq!(told, ["1.0", "2.0", "3.0", "4.0", "5.0"]);
    child.kill().await.unwrap();
}

/// What a shell is told for the last of these words.
async fn completed(command: &mut tokio::process::Command) -> (String, Duration) {
    let start = Instant::now();
    let done = tokio::time::timeout(DEADLINE, command.output()).await.unwrap().unwrap();
    assert!(done.stderr.is_empty(), "it is silent: {}", String::from_utf8_lossy(&done.stderr));
    (String::from_utf8(done.stdout).unwrap(), start.elapsed())
}

fn asking(words: &[&str]) -> tokio::process::Command {
    let words = [&["--", "waifuctl"][..], words].concat();
    let mut command = waifuctl(&words);
    // As bash's script asks.
    command.env("WAIFUCTL_COMPLETE", "bash").env("_CLAP_IFS", "\n").env("_CLAP_COMPLETE_SPACE", "false");
    command.env("_CLAP_COMPLETE_COMP_TYPE", "9").env("_CLAP_COMPLETE_INDEX", (words.len() - 2).to_string());
    command
}

#[tokio::test]
async fn names_of_objects_are_completed() {
    let fake = Fake::serve(|line, _| match line {
        "GET /api/v1/vms" => ok(json!([vm("db-1", "running"), vm("web-1", "running"), vm("web-2", "stopped")])),
        "GET /api/v1/cluster/join-tokens" => ok(json!([{
            "id": "0000000000000001", "uses_left": 3, "expires_at": "2026-03-01T13:00:00Z",
            "created_at": "2026-03-01T12:00:00Z"
        }])),
        _ => refuse(ProblemCode::NoSuchEndpoint),
    });
    let (told, _) = completed(asking(&["cluster", "token", "revoke", "00"]).env("WAIFU_HOST", fake.endpoint())).await;
    assert_eq!(told, "0000000000000001");
    for verb in ["show", "ip", "ssh", "delete", "edit", "wait"] {
        let (told, _) = completed(asking(&[verb, "we"]).env("WAIFU_HOST", fake.endpoint())).await;
        assert_eq!(told, "web-1\nweb-2", "{verb}");
    }
    let (told, _) = completed(&mut asking(&["-H", &fake.endpoint(), "show", "d"])).await;
    assert_eq!(told, "db-1", "the line itself says where to ask");
    let (told, _) = completed(&mut asking(&["node", "list", "--columns", "name,addr"])).await;
    assert_eq!(told, "name,address");
    let (told, _) = completed(&mut asking(&["node", "unc"])).await;
    assert_eq!(told, "uncordon");
    let (told, _) = completed(asking(&["show", ""]).env("WAIFU_HOST", fake.endpoint())).await;
    assert_eq!(told, "db-1\nweb-1\nweb-2", "options are not what is looked for where a name is wanted");
    let (told, _) = completed(&mut asking(&["show", "--wa"])).await;
    assert_eq!(told, "--watch");
    let (told, _) = completed(&mut asking(&["create", "-t", "tiny", ""])).await;
    assert!(told.contains("--memory"), "nothing else can follow: {told}");
    let (told, _) = completed(&mut asking(&["help", "ex"])).await;
    assert_eq!(told, "export\nexit-codes");
}

#[tokio::test]
async fn a_shell_is_not_held_up_by_a_cluster_that_does_not_answer() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("api.sock");
    // It takes connections and never says a word.
    let _silent = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let (told, took) = completed(asking(&["show", "we"]).env("WAIFU_HOST", format!("unix:{}", socket.display()))).await;
    assert_eq!(told, "");
    // The deadline is 300 ms; what a busy machine adds is not ours, the client's own patience of 10 s would be.
    assert!(took < Duration::from_secs(5), "{took:?}");
    let (told, _) = completed(asking(&["show", "we"]).env("WAIFU_HOST", "nonsense")).await;
    assert_eq!(told, "");
}

#[tokio::test]
async fn ssh_is_run_with_what_the_cluster_knows() {
    let fake = Fake::serve(|line, _| match line {
        "GET /api/v1/vms/web-1" => ok(vm("web-1", "running")),
        "GET /api/v1/vms/off-1" => ok(vm("off-1", "stopped")),
        "GET /api/v1/vms/own-1" => {
            let mut vm = vm("own-1", "running");
            vm["user_data"] = json!({ "digest": "0".repeat(64), "size": 20 });
            ok(vm)
        }
        "GET /api/v1/vms/own-1/cloud-init" => {
            let mut reply = ok(json!({
                "user_data": "#cloud-config\nuser: ann\n", "ssh_keys": [], "datasource": "no_cloud", "imds": "any"
            }));
            reply.headers_mut().insert("etag", "\"1\"".parse().unwrap());
            reply
        }
        _ => refuse(ProblemCode::NoSuchEndpoint),
    });
    let home = tempfile::tempdir().unwrap();
    // In place of ssh: says how it was called, and ends as the command there did.
    let bin = home.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    std::fs::write(bin.join("ssh"), "#!/bin/sh\nprintf '%s\\n' \"$@\"\nexit 42\n").unwrap();
    let runnable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(bin.join("ssh"), runnable).unwrap();
    let run = async |args: &[&str]| {
        let mut command = fake.command(args);
        let path = format!("{}:/usr/bin:/bin", bin.display());
        command.env("HOME", home.path()).env("PATH", path);
        ended(command).await
    };
    let done = run(&["ssh", "web-1", "-l", "root", "--", "uptime", "-p"]).await;
    assert_eq!(done.code, 42, "it ends as ssh does: {}", done.err);
    let known = home.path().join(".local/state/waifu");
    assert!(Path::new(&known).is_dir());
    let shown = done.out.replace(&home.path().display().to_string(), "HOME");
    expect![[r#"
        -o
        HostKeyAlias=waifu-ec270707-0707-4707-8707-070707070707
        -o
        UserKnownHostsFile="HOME/.local/state/waifu/known_hosts"
        -o
        StrictHostKeyChecking=accept-new
        -o
        CheckHostIP=no
        -l
        root
        10.77.2.14
        --
        uptime
        -p
    "#]]
    .assert_eq(&shown);
    let told = run(&["ssh", "own-1", "--print", "-J", "root@n1"]).await;
    assert!(told.out.ends_with("-J root@n1 -l ann 10.77.2.14\n"), "{} {}", told.out, told.err);
    let off = run(&["ssh", "off-1"]).await;
    assert_eq!((off.code, off.out.as_str()), (1, ""));
    expect![[r#"
        error: off-1 does not run: it is stopped
        try: waifuctl start off-1
    "#]]
    .assert_eq(&off.err);
}

#[tokio::test]
async fn a_create_waits_for_cloud_init_through_a_node_where_guests_are_not_routed() {
    let home = tempfile::tempdir().unwrap();
    let told = home.path().join("told");
    let cluster = https::serve(move |head, _| match (head.method.as_str(), head.uri.path()) {
        ("POST", "/api/v1/vms") => ok(created("web-1")),
        ("GET", "/api/v1/vms/web-1") => {
            let mut vm = vm("web-1", "running");
            vm["status"]["met"] = json!(["lease", "metadata"]);
            // Nobody has a route of its own to this one (RFC 5737).
            vm["ip"] = json!("192.0.2.14");
            vm["status"]["cloud_init_done"] = json!(told.exists());
            ok(vm)
        }
        ("GET", "/api/v1/cluster") => ok(json!({
            "id": "01010101-0101-4101-8101-010101010101", "cidr": "10.77.0.0/16", "answered_by": "n1", "quorum": true,
            "leader": "n1", "term": 3, "vms": 0, "members": [], "feature_level": 1,
            "state": { "index": 812, "digest": "9".repeat(64) }, "advice": []
        })),
        _ => refuse(ProblemCode::NoSuchEndpoint),
    })
    .await;
    let at = |name: &str| home.path().join(name).display().to_string();
    // In place of ssh: a server answers through the node, and cloud-init ends as the file says; where nobody is let in, the guest
    // tells its node soon after.
    let script = "#!/bin/sh\necho \"$*\" >> $HOME/calls\n\
                  case \"$*\" in *' -W '*) echo SSH-2.0-fake;; *) status=$(cat $HOME/status);; esac\n\
                  [ \"$status\" != 255 ] || : > $HOME/told\nexit $status\n";
    for (name, text) in [("ssh", script), ("me", "private"), ("me.pub", "ssh-ed25519 AAAA me\n"), ("token", "t\n")] {
        std::fs::write(at(name), text).unwrap();
    }
    std::fs::set_permissions(at("ssh"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let run = async |args: &[&str]| {
        let mut command = waifuctl(args);
        command.env("HOME", home.path()).env("PATH", format!("{}:/usr/bin:/bin", home.path().display()));
        ended(command).await
    };
    let login = ["login", &cluster.url, "--token-file", &at("token"), "--fingerprint", &cluster.fingerprint];
    assert_eq!(run(&login).await.code, 0);
    let create = ["create", "-t", "tiny", "--ssh-key", &at("me.pub"), "--wait", "cloud-init"];
    std::fs::write(at("status"), "0").unwrap();
    let done = run(&create).await;
    assert_eq!((done.code, done.out.as_str()), (0, "web-1\n"), "{}", done.err);
    assert!(done.err.contains("\ncloud-init done (") && done.err.ends_with("waifuctl ssh web-1\n"), "{}", done.err);
    let calls = std::fs::read_to_string(at("calls")).unwrap();
    let asked = calls.lines().last().unwrap();
    assert!(asked.contains(&at("me")) && asked.ends_with("192.0.2.14 -- cloud-init status --wait"), "{calls}");
    std::fs::write(at("status"), "1").unwrap();
    let failed = run(&create).await;
    assert_eq!((failed.code, failed.out.as_str()), (1, "web-1\n"), "it is made all the same");
    assert!(failed.err.contains("error: cloud-init of web-1 failed"), "{}", failed.err);
    std::fs::write(at("status"), "255").unwrap();
    let done = run(&create).await;
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(done.err.contains("through ssh: ; waiting for the guest's own word\n"), "{}", done.err);
    // It is known by now, and asked again only where that is wanted.
    std::fs::write(at("status"), "1").unwrap();
    let wait = ["wait", "web-1", "--for", "cloud-init", "-i", &at("me")];
    assert_eq!((run(&wait[..4]).await.code, run(&wait).await.code), (0, 1));
    assert_eq!(run(&["create", "-t", "tiny", "--wait", "ip", "--no-wait"]).await.code, 2);
}

#[tokio::test]
async fn the_doctor_says_what_is_wrong_and_what_mends_it() {
    let node = |name: &str, alive: bool, version: &str| json!({ "name": name, "role": "voter", "alive": alive, "since": null, "applied": 1, "version": version });
    let fake = Fake::serve(move |line, _| match line {
        "GET /api/v1/cluster" => ok(json!({
            "id": "01010101-0101-4101-8101-010101010101", "cidr": "10.77.0.0/16", "answered_by": "n1", "quorum": true,
            "leader": "n1", "term": 3, "vms": 0, "feature_level": 1,
            "members": [node("n1", true, "0.1.0"), node("n2", true, "0.2.0"), node("n3", false, "0.1.0")],
            "state": { "index": 812, "digest": "9".repeat(64) },
            "advice": [{ "code": "node_silent", "message": "n3 is silent", "remedy": "start it" }]
        })),
        "GET /api/v1/nodes/n1/doctor" => ok(json!({
            "node": "n1", "at": "2026-03-01T12:00:00Z", "version": "0.1.0",
            "findings": [
                { "check": "disk", "verdict": "wrong", "seen": "0 B of 100 GiB free", "means": "guests are paused",
                  "remedy": "make room" },
                { "check": "libvirt", "verdict": "well", "seen": "answers; 2 domains of this cluster" }
            ]
        })),
        "GET /api/v1/nodes/n2/doctor" => refuse(ProblemCode::NodeUnreachable),
        _ => refuse(ProblemCode::NoSuchEndpoint),
    });
    let all = fake.run(&["doctor", "--columns", "subject,check,verdict,seen"]).await;
    assert_eq!(all.code, 1, "{}", all.err);
    let shown = all.out.replace('\t', "|").replace(&fake.endpoint(), "SOCKET");
    let shown: Vec<_> = shown.lines().map(|line| line.split(" s off ").next().unwrap()).collect();
    assert!(shown[4].starts_with("this machine|clock|warning|"), "{shown:?}");
    expect![[r#"
        SOCKET|api|well|n1 answers
        cluster|quorum|well|n1 leads
        cluster|versions|warning|different ones run: 0.1.0, 0.2.0
        cluster|node_silent|wrong|n3 is silent
        n1|disk|wrong|0 B of 100 GiB free
        n1|libvirt|well|answers; 2 domains of this cluster
        n2|node|wrong|because"#]]
    .assert_eq(&[&shown[..4], &shown[5..]].concat().join("\n"));
    assert_eq!(all.err, "3 things are wrong, 2 things are worth a look\n");
    let one = fake.run(&["doctor", "--node", "n1", "verdict=well", "-o", "json"]).await;
    assert_eq!(one.code, 1, "what is filtered away is wrong all the same");
    assert_eq!(serde_json::from_str::<Value>(&one.out).unwrap()[0]["check"], "libvirt");
    let nowhere = ended({
        let mut command = waifuctl(&["doctor"]);
        command.env("WAIFU_HOST", "unix:/nonexistent/api.sock");
        command
    });
    let nowhere = nowhere.await;
    assert_eq!((nowhere.code, nowhere.err.as_str()), (1, "1 thing is wrong\n"));
    assert!(nowhere.out.contains("there is no such socket"), "{}", nowhere.out);
}

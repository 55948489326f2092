//! Consoles, through nodes that own the VM and through others.

use super::house::{Answer, Answers, DEADLINE, House, LOG, Log, Node, delete, get};
use axum::body::Body;
use expect_test::expect;
use futures::{SinkExt, StreamExt};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};
use tokio::time::timeout;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::derive_accept_key,
        protocol::{Role, frame::coding::CloseCode},
    },
};
use waifud_api::{
    console::FromConsole,
    problem::{Problem, ProblemCode},
};
use waifud_model::{command::Actor, scope::Scope, token};
use waifud_web::Caller;

/// A house of three in which the first three VMs belong to n1, n2 and n3.
async fn house() -> House {
    let house = House::start(3).await;
    house.fill(3, 0).await;
    house
}

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

fn handshake(path: &str) -> http::request::Builder {
    Request::get(path)
        .header("host", "n1.lan:7443")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", KEY)
}

async fn ask(node: &Node, role: token::Role, request: http::request::Builder) -> Response<hyper::body::Incoming> {
    let caller = Caller { actor: Actor::Local { node: node.app.node, uid: 7 }, role, scope: Scope::default() };
    ask_as(node, caller, request).await
}

async fn ask_as(node: &Node, caller: Caller, request: http::request::Builder) -> Response<hyper::body::Incoming> {
    let (mut sender, _) = node.connect(caller).await;
    let sent = sender.send_request(request.body(Body::empty()).unwrap());
    timeout(DEADLINE, sent).await.expect("an answer in time").unwrap()
}

type Socket = WebSocketStream<TokioIo<Upgraded>>;

async fn open(node: &Node, path: &str) -> Socket {
    taken(ask(node, token::Role::Operator, handshake(path)).await).await
}

async fn taken(mut response: Response<hyper::body::Incoming>) -> Socket {
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(response.headers()["sec-websocket-accept"], derive_accept_key(KEY.as_bytes()));
    let upgraded = hyper::upgrade::on(&mut response).await.unwrap();
    WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await
}

async fn next(socket: &mut Socket) -> Message {
    loop {
        match timeout(DEADLINE, socket.next()).await.expect("a frame in time").unwrap().unwrap() {
            Message::Ping(_) => {}
            message => return message,
        }
    }
}

async fn refused(node: &Node, role: token::Role, request: http::request::Builder) -> (StatusCode, Problem) {
    let response = ask(node, role, request).await;
    let answer = Answer::read(response.map(Body::new)).await;
    (answer.status, answer.problem())
}

#[tokio::test]
async fn any_node_opens_the_console_of_any_vm() {
    let house = house().await;
    for (n, node) in house.nodes.iter().enumerate() {
        for vm in 0..3 {
            let mut socket = open(node, &format!("/api/v1/vms/vm-{vm}/console?take=true")).await;
            let Message::Text(hello) = next(&mut socket).await else { panic!("no greeting") };
            let hello: FromConsole = serde_json::from_str(&hello).unwrap();
            let FromConsole::Hello { vm: greeted, seat, .. } = hello else { panic!("{hello:?}") };
            assert_eq!(greeted.as_str(), format!("vm-{vm}"));
            // The owner has heard who it is, from the node that let them in.
            let actor = Actor::Local { node: node.app.node, uid: 7 };
            assert!(format!("{seat:?}").contains(&actor.to_string()), "{seat:?}");

            socket.send(Message::Binary(b"ls\r"[..].into())).await.unwrap();
            assert_eq!(next(&mut socket).await, Message::Binary(b"LS\r"[..].into()));
            socket.send(Message::Text(r#"{"type":"resize","rows":2,"cols":3}"#.into())).await.unwrap();
            let Message::Binary(resized) = next(&mut socket).await else { panic!("no echo") };
            assert!(resized.starts_with(b"Resize"), "{resized:?}");
            // A word that does not read is passed over.
            socket.send(Message::Text("{".into())).await.unwrap();

            socket.send(Message::Binary(b"end"[..].into())).await.unwrap();
            let Message::Close(Some(close)) = next(&mut socket).await else { panic!("no farewell from n{n}") };
            assert_eq!(close.code, CloseCode::Away, "connect again: the console is not over");
        }
    }
}

/// Waits until the audit trail of this node has so many openings of consoles of vm-1, and gives them.
async fn openings(node: &Node, count: usize) -> Vec<String> {
    let mut applied = node.consensus.applied();
    let found = timeout(DEADLINE, async {
        loop {
            let answer = node.get("/api/v1/audit?subject=vm/vm-1").await.json();
            let entries = answer.as_array().unwrap().iter().filter(|entry| entry["command"] == "open_console");
            let openings: Vec<String> = entries
                .map(|entry| {
                    let effect = &entry["effects"][0];
                    let who = [&entry["actor"], &entry["role"], &effect["kind"], &effect["changes"]];
                    who.map(ToString::to_string).join(" ")
                })
                .collect();
            if openings.len() >= count {
                return openings;
            }
            applied.changed().await.unwrap();
        }
    });
    found.await.expect("the openings in time")
}

#[tokio::test]
async fn who_opens_a_console_is_in_the_audit_trail_wherever_it_is_read() {
    let house = house().await;
    let [n1, n2, n3] = &house.nodes[..] else { panic!("three nodes") };
    let created = n1.post("/api/v1/tokens", r#"{"role":"operator"}"#).await.json();
    let id = created["info"]["id"].as_str().unwrap();
    let actor = Actor::Token(id.parse().unwrap());
    let bearer = Caller { actor, role: token::Role::Operator, scope: Scope::default() };

    // Neither of these opens any.
    refused(n3, token::Role::Viewer, handshake("/api/v1/vms/vm-1/console")).await;
    *n2.consoles.answers.lock().unwrap() = Answers::Off;
    refused(n3, token::Role::Operator, handshake("/api/v1/vms/vm-1/console")).await;
    *n2.consoles.answers.lock().unwrap() = Answers::Opens;

    // The owner is n2. Who comes again under the same key has opened it again.
    for count in [1, 2] {
        let keyed = handshake("/api/v1/vms/vm-1/console").header("idempotency-key", "k");
        taken(ask(n2, token::Role::Operator, keyed).await).await;
        openings(n1, count).await;
    }
    open(n3, "/api/v1/vms/vm-1/console?read_only=true").await;
    openings(n1, 3).await;
    taken(ask_as(n3, bearer, handshake("/api/v1/vms/vm-1/vnc")).await).await;
    expect![[r#"
        {"kind":"local","node":"n2","uid":7} "admin" "opened" [{"field":"console","new":"serial","old":null}]
        {"kind":"local","node":"n2","uid":7} "admin" "opened" [{"field":"console","new":"serial","old":null}]
        {"kind":"local","node":"n3","uid":7} "admin" "opened" [{"field":"console","new":"serial (read only)","old":null}]
        {"id":"ID","kind":"token"} "operator" "opened" [{"field":"console","new":"screen","old":null}]"#]]
    .assert_eq(&openings(n1, 4).await.join("\n").replace(id, "ID"));
}

#[tokio::test]
async fn an_opening_that_the_cluster_cannot_be_told_of_stands_in_the_log() {
    let house = house().await;
    let (mut lines, _guard) = Log::here();
    house.cut();
    let mut socket = open(&house.nodes[0], "/api/v1/vms/vm-0/console").await;
    next(&mut socket).await;
    let line = timeout(DEADLINE, async {
        loop {
            let line = lines.recv().await.unwrap();
            if line.contains("the cluster does not know") {
                return line;
            }
        }
    });
    let (line, who) = (line.await.expect("a line in time"), Actor::Local { node: house.nodes[0].app.node, uid: 7 });
    for told in ["WARN", "vm=vm-0", &format!("who={who}"), "console=serial", "path=\"/api/v1/vms/vm-0/console\""] {
        assert!(line.contains(told), "{told}: {line}");
    }
}

#[tokio::test]
async fn a_viewer_that_vanishes_leaves_nothing_open() {
    let house = house().await;
    let open_on = |n: usize| house.nodes[n].consoles.open.load(Ordering::SeqCst);
    for through in 0..2 {
        let mut socket = open(&house.nodes[through], "/api/v1/vms/vm-1/console").await;
        next(&mut socket).await;
        assert_eq!(open_on(1), 1);
        drop(socket);
        timeout(DEADLINE, async {
            while open_on(1) > 0 {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap_or_else(|_| panic!("a session through n{} stays", through + 1));
    }
}

#[tokio::test]
async fn a_screen_is_bytes() {
    let house = house().await;
    for node in &house.nodes {
        let request = handshake("/api/v1/vms/vm-2/vnc").header("sec-websocket-protocol", "binary");
        let mut response = ask(node, token::Role::Operator, request).await;
        assert_eq!(response.headers()["sec-websocket-protocol"], "binary");
        let upgraded = hyper::upgrade::on(&mut response).await.unwrap();
        let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await;
        assert_eq!(next(&mut socket).await, Message::Binary(b"RFB 003.008\n"[..].into()));
        socket.send(Message::Binary(b"RFB 003.003\n"[..].into())).await.unwrap();
        assert_eq!(next(&mut socket).await, Message::Binary(b"RFB 003.003\n"[..].into()));
        let Message::Close(Some(close)) = next(&mut socket).await else { panic!("no farewell") };
        assert_eq!(close.code, CloseCode::Normal);
    }
}

#[tokio::test]
async fn logs_come_from_the_owner() {
    let house = house().await;
    for node in &house.nodes {
        let answer = node.get("/api/v1/vms/vm-0/logs?from=5").await;
        assert_eq!((answer.status, answer.text()), (StatusCode::OK, &LOG[5..]));
        assert_eq!(answer.header("waifu-log-offset"), "5");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
    }
    for bad in ["from=5&tail=1", "previous=true&follow=true", "tail=x", "lines=3"] {
        let answer = house.nodes[0].get(&format!("/api/v1/vms/vm-0/logs?{bad}")).await;
        assert_eq!(answer.problem().code, ProblemCode::Invalid, "{bad}");
    }
}

/// Through the owner and through another node.
#[tokio::test]
async fn a_revoked_token_ends_what_its_bearer_looks_at() {
    let house = house().await;
    for node in &house.nodes[..2] {
        let created = node.post("/api/v1/tokens", r#"{"role":"operator"}"#).await.json();
        let id = created["info"]["id"].as_str().unwrap();
        let actor = Actor::Token(id.parse().unwrap());
        let caller = Caller { actor, role: token::Role::Operator, scope: Scope::default() };
        let open = async |what: &str| {
            let request = handshake(&format!("/api/v1/vms/vm-1/{what}"));
            timeout(DEADLINE, ask_as(node, caller.clone(), request)).await.expect("an answer in time")
        };
        let mut console = taken(open("console").await).await;
        let mut screen = taken(open("vnc").await).await;
        let log = open("logs?follow=true").await;
        next(&mut console).await;
        console.send(Message::Binary(b"ls"[..].into())).await.unwrap();
        assert_eq!(next(&mut console).await, Message::Binary(b"LS"[..].into()));

        let revoked = node.call(delete(&format!("/api/v1/tokens/{id}"))).await;
        assert_eq!(revoked.status, StatusCode::NO_CONTENT);
        next(&mut screen).await;
        for socket in [&mut console, &mut screen] {
            let Message::Close(Some(close)) = next(socket).await else { panic!("no farewell") };
            assert_eq!(
                (close.code, &*close.reason),
                (CloseCode::Policy, "the token was revoked, has expired or is not for this VM any more")
            );
        }
        let read = timeout(DEADLINE, log.into_body().collect()).await.expect("the log ends").unwrap();
        assert_eq!(read.to_bytes(), LOG);
    }
}

#[tokio::test]
async fn who_may_not_is_told_why_and_at_once() {
    let house = house().await;
    let node = &house.nodes[0];
    let path = |vm: &str| format!("/api/v1/vms/{vm}/console");

    let plain = node.call_as(token::Role::Operator, get(&path("vm-0"))).await;
    assert_eq!(plain.status, StatusCode::UPGRADE_REQUIRED);
    for what in ["console", "vnc", "logs"] {
        let path = format!("/api/v1/vms/vm-1/{what}");
        let (_, problem) = refused(node, token::Role::Viewer, handshake(&path)).await;
        assert_eq!(problem.code, ProblemCode::NotAllowed, "{what}");
        assert_eq!(node.send(get(&path)).await.problem().code, ProblemCode::Unauthenticated, "{what}");
    }
    let (status, problem) = refused(node, token::Role::Operator, handshake(&path("vm-9"))).await;
    assert_eq!((status, problem.code), (StatusCode::NOT_FOUND, ProblemCode::NoSuchVm));
    for vm in ["vm-0", "vm-1"] {
        let request = handshake(&path(vm)).header("origin", "https://evil.example");
        let (status, problem) = refused(node, token::Role::Admin, request).await;
        assert_eq!((status, problem.code), (StatusCode::FORBIDDEN, ProblemCode::NotAllowed), "{vm}");
        let own = handshake(&path(vm)).header("origin", "https://n1.lan:7443");
        assert_eq!(ask(node, token::Role::Operator, own).await.status(), StatusCode::SWITCHING_PROTOCOLS, "{vm}");
    }
}

#[tokio::test]
async fn an_owner_that_cannot_is_told_of_within_a_second() {
    let house = house().await;
    let node = &house.nodes[0];
    let soon = async |vm: usize, expected: ProblemCode| {
        for what in ["console", "vnc", "logs"] {
            let begun = Instant::now();
            let (_, problem) =
                refused(node, token::Role::Operator, handshake(&format!("/api/v1/vms/vm-{vm}/{what}"))).await;
            assert_eq!(problem.code, expected, "{what}: {problem:?}");
            assert!(begun.elapsed() < Duration::from_secs(3), "{what}");
        }
    };
    for owner in [0, 1] {
        *house.nodes[owner].consoles.answers.lock().unwrap() = Answers::Off;
        soon(owner, ProblemCode::NotRunning).await;
        *house.nodes[owner].consoles.answers.lock().unwrap() = Answers::Hangs;
        soon(owner, ProblemCode::Busy).await;
        *house.nodes[owner].consoles.answers.lock().unwrap() = Answers::Opens;
    }
    // Without quorum a node's own guests are still at hand; the others' are known to be out of reach.
    house.cut();
    open(node, "/api/v1/vms/vm-0/console").await;
    soon(2, ProblemCode::NodeUnreachable).await;
}

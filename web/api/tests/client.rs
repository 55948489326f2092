//! The client at the edges of the protocol: endpoints that are gone, hang, break off, refuse or repeat themselves.
//!
//! The servers here are fakes that misbehave on purpose; that client and daemon understand each other is tested with real
//! daemons elsewhere.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must end")]

mod fake;

use axum::{
    Json, Router,
    body::Bytes,
    extract::RawQuery,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{delete, get, post},
};
use fake::{Fake, Seen, config, problem};
use futures::StreamExt as _;
use serde_json::json;
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use waifud_api::{
    client::{Client, ClientError, Endpoint, IdempotencyKey},
    cloud_init::{CloudInit, CloudInitQuery},
    event::{EventId, Since, StreamItem},
    exit::Exit,
    filter::Filter,
    headers,
    net::{NetPeer, NetPeerCreate},
    page::{Limit, PageQuery},
    paths,
    problem::ProblemCode,
    token::JoinTokenCreate,
};
use waifud_model::{
    ids::Generation,
    name::{PeerName, TemplateName, VmName},
};

fn missing() -> Endpoint {
    "unix:/nonexistent/waifud/api.sock".parse().unwrap()
}

async fn no_vms() -> impl IntoResponse {
    Json(json!([]))
}

#[tokio::test]
async fn the_first_endpoint_that_answers_is_used_and_kept() {
    let fake = Fake::serve(Router::new().route(paths::VMS, get(no_vms))).await;
    let client = Client::new(config(&[missing(), fake.endpoint()])).unwrap();
    assert_eq!(client.vms(&Filter::default()).await.unwrap().value, []);
    assert_eq!(*client.endpoint(), fake.endpoint());
}

#[tokio::test]
async fn a_list_is_taken_part_by_part() {
    let asked = Seen::default();
    let seen = asked.clone();
    let peers = move |RawQuery(query): RawQuery| async move {
        let query = query.unwrap_or_default();
        seen.push(query.clone());
        let next = if query.contains("after") { "no name" } else { "laptop" };
        ([(headers::NEXT, next)], Json(json!([])))
    };
    let fake = Fake::serve(Router::new().route(paths::NET_PEERS, get(peers))).await;
    let client = Client::new(config(&[fake.endpoint()])).unwrap();
    let limit = Some(Limit::new(5).unwrap());
    let first = client.page::<NetPeer>(&PageQuery { limit, after: None }).await.unwrap().value;
    assert_eq!((first.items, &first.next), (vec![], &Some(PeerName::new("laptop").unwrap())));
    let lost = client.page::<NetPeer>(&PageQuery { limit, after: first.next }).await.unwrap_err();
    assert!(matches!(lost, ClientError::Protocol { .. }), "half a list is never taken for the whole: {lost}");
    assert_eq!(asked.all(), ["limit=5", "limit=5&after=laptop"]);
}

#[tokio::test]
async fn every_endpoint_says_why_it_does_not_answer() {
    let client = Client::new(config(&[missing(), "https://127.0.0.1:1".parse().unwrap()])).unwrap();
    let error = client.vms(&Filter::default()).await.unwrap_err();
    assert_eq!(error.exit(), Exit::Unreachable);
    expect_test::expect!["no endpoint answers: unix:/nonexistent/waifud/api.sock: there is no such socket; is waifud running here?; https://127.0.0.1:1: connection refused; is waifud running there?"]
        .assert_eq(&error.to_string());
}

#[tokio::test]
async fn a_moment_without_leader_is_waited_out_with_the_same_key() {
    let keys = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&keys);
    let create = move |headers: HeaderMap| async move {
        let mut seen = seen.lock().unwrap();
        seen.push(headers[headers::IDEMPOTENCY_KEY].to_str().unwrap().to_owned());
        if seen.len() < 3 { problem(ProblemCode::NoLeaderYet) } else { Json(fake::created()).into_response() }
    };
    let fake = Fake::serve(Router::new().route(paths::VMS, post(create))).await;
    let client = Client::new(config(&[fake.endpoint()])).unwrap();
    let key: IdempotencyKey = "my-key".parse().unwrap();
    let created = client.create_vm(&fake::request(), &key).await.unwrap();
    assert_eq!(created.value.vm.name.as_str(), "web-1");
    assert_eq!(*keys.lock().unwrap(), ["my-key"; 3]);
}

#[tokio::test]
async fn no_quorum_is_told_at_once() {
    let count = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&count);
    let refuse = move || async move {
        seen.fetch_add(1, Ordering::Relaxed);
        problem(ProblemCode::NoQuorum)
    };
    let fake = Fake::serve(Router::new().route(paths::JOIN_TOKENS, post(refuse))).await;
    let client = Client::new(config(&[fake.endpoint(), fake.endpoint()])).unwrap();
    let error = client.create_join_token(&JoinTokenCreate::default()).await.unwrap_err();
    assert_eq!((error.exit(), count.load(Ordering::Relaxed)), (Exit::NoQuorum, 1));
}

#[tokio::test]
async fn a_node_that_is_out_of_order_is_passed_over() {
    let halted = Fake::serve(Router::new().route(paths::VMS, get(|| async { problem(ProblemCode::Halted) }))).await;
    let healthy = Fake::serve(Router::new().route(paths::VMS, get(no_vms))).await;
    let client = Client::new(config(&[halted.endpoint(), healthy.endpoint()])).unwrap();
    assert!(client.vms(&Filter::default()).await.is_ok());

    let alone = Client::new(config(&[halted.endpoint()])).unwrap();
    let error = alone.vms(&Filter::default()).await.unwrap_err();
    assert_eq!(error.problem().unwrap().code, ProblemCode::Halted);
}

#[tokio::test]
async fn a_write_that_breaks_off_is_sent_again_elsewhere_with_its_key() {
    let (broken, seen) = Fake::break_off().await;
    let keys = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&keys);
    let create = move |headers: HeaderMap| async move {
        kept.lock().unwrap().push(headers[headers::IDEMPOTENCY_KEY].to_str().unwrap().to_owned());
        Json(fake::created())
    };
    let healthy = Fake::serve(Router::new().route(paths::VMS, post(create))).await;
    let client = Client::new(config(&[broken.endpoint(), healthy.endpoint()])).unwrap();
    client.create_vm(&fake::request(), &"once".parse().unwrap()).await.unwrap();
    assert_eq!(*keys.lock().unwrap(), ["once"]);
    assert!(seen.lock().unwrap()[0].contains("idempotency-key: once"));
}

#[tokio::test]
async fn a_hanging_node_is_told_apart_from_an_absent_one() {
    let hangs = Fake::serve(Router::new().route(paths::VMS, get(std::future::pending::<Response>))).await;
    let create = Fake::serve(Router::new().route(paths::VMS, post(std::future::pending::<Response>))).await;
    let mut patience = config(&[hangs.endpoint()]);
    patience.answer_timeout = Duration::from_millis(50);
    let read = Client::new(patience.clone()).unwrap().vms(&Filter::default()).await.unwrap_err();
    assert!(matches!(read, ClientError::Unreachable(_)), "a read has no effect: {read}");
    patience.endpoints = vec![create.endpoint()];
    let write =
        Client::new(patience).unwrap().create_vm(&fake::request(), &IdempotencyKey::random()).await.unwrap_err();
    assert!(matches!(write, ClientError::Unanswered(_)), "a write may have one: {write}");
    assert_eq!(write.exit(), Exit::TimedOut);
}

#[tokio::test]
async fn what_was_written_is_a_minimum_for_what_is_read() {
    let index = Arc::new(Mutex::new(Vec::new()));
    let asked = Arc::clone(&index);
    let list = move |headers: HeaderMap| async move {
        asked.lock().unwrap().push(headers.get(headers::INDEX).map(|v| v.to_str().unwrap().to_owned()));
        (
            [(headers::INDEX, "41"), (headers::AGE, "250"), (headers::STALE, "no_quorum"), (headers::ETAG, "\"3\"")],
            Json(json!([])),
        )
    };
    let create = || async { ([(headers::INDEX, "42")], Json(fake::created())) };
    let fake = Fake::serve(Router::new().route(paths::VMS, get(list).post(create))).await;
    let client = Client::new(config(&[fake.endpoint()])).unwrap();
    client.vms(&Filter::default()).await.unwrap();
    client.create_vm(&fake::request(), &IdempotencyKey::random()).await.unwrap();
    let answer = client.clone().vms(&Filter::default()).await.unwrap();
    assert_eq!(*index.lock().unwrap(), [None, Some("42".to_owned())]);
    assert_eq!(answer.freshness.age, Some(Duration::from_millis(250)));
    assert_eq!(answer.freshness.stale.as_deref(), Some("no_quorum"));
    assert_eq!(answer.freshness.generation.map(|g| g.0), Some(3));
}

#[tokio::test]
async fn what_is_no_problem_document_becomes_one() {
    let proxy = || async { (StatusCode::FORBIDDEN, "<h1>computer says no</h1>") };
    let nonsense = || async { "not json" };
    let routes = Router::new().route(paths::VMS, get(proxy)).route(paths::NODES, get(nonsense));
    let fake = Fake::serve(routes).await;
    let client = Client::new(config(&[fake.endpoint()])).unwrap();
    let refused = client.vms(&Filter::default()).await.unwrap_err();
    assert_eq!(refused.to_string(), "the answer is 403 Forbidden: <h1>computer says no</h1>");
    assert_eq!(refused.exit(), Exit::NotAllowed);
    assert!(matches!(client.nodes().await.unwrap_err(), ClientError::Protocol { .. }));
}

#[tokio::test]
async fn a_name_is_asked_for_as_it_is() {
    let refuse = || async { problem(ProblemCode::NoSuchVm) };
    let fake = Fake::serve(Router::new().route(paths::VM, get(refuse))).await;
    let client = Client::new(config(&[fake.endpoint()])).unwrap();
    let error = client.vm(&VmName::new("wbe-1").unwrap()).await.unwrap_err();
    assert_eq!(error.exit(), Exit::NotFound);
}

#[tokio::test]
async fn an_upload_sends_the_whole_file_and_tells_how_far_it_is() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let content: Vec<u8> = (0..1_000_000u32).map(|n| n as u8).collect();
    std::fs::write(file.path(), &content).unwrap();
    let got = Seen::<(Option<String>, String, usize)>::default();
    let kept = got.clone();
    let take = move |RawQuery(query): RawQuery, headers: HeaderMap, body: Bytes| async move {
        kept.push((query, headers["content-length"].to_str().unwrap().to_owned(), body.len()));
        Json(fake::version())
    };
    let routes =
        Router::new().route(paths::TEMPLATE_VERSIONS, post(take)).layer(axum::extract::DefaultBodyLimit::disable());
    let fake = Fake::serve(routes).await;
    let client = Client::new(config(&[missing(), fake.endpoint()])).unwrap();
    let sent = Arc::new(AtomicU64::new(0));
    let told = Arc::clone(&sent);
    let name = TemplateName::new("tiny").unwrap();
    let progress = move |done, all| {
        assert_eq!(all, 1_000_000);
        told.store(done, Ordering::Relaxed);
    };
    client.upload_template(&name, None, file.path(), progress).await.unwrap();
    assert_eq!(got.all(), [(None, "1000000".to_owned(), 1_000_000)]);
    assert_eq!(sent.load(Ordering::Relaxed), 1_000_000);

    let absent =
        client.upload_template(&name, None, std::path::Path::new("/nonexistent/x"), |_, _| {}).await.unwrap_err();
    assert!(matches!(absent, ClientError::File { .. }));
}

#[tokio::test]
async fn a_stream_is_taken_up_after_its_last_event() {
    let asked = Seen::<(Option<String>, Option<String>)>::default();
    let kept = asked.clone();
    // Every connection gives two events and ends; the second in pieces with a comment and an event of a newer server between.
    let stream = move |RawQuery(query): RawQuery, headers: HeaderMap| async move {
        let last = headers.get(headers::LAST_EVENT_ID).map(|v| v.to_str().unwrap().to_owned());
        kept.push((query, last.clone()));
        let from = last.map_or(5, |id| id.parse::<EventId>().unwrap().index);
        let body = format!(
            ": keep-alive\n\n{}event: novelty\ndata: ?\n\n{}",
            fake::event_frame(from + 1),
            fake::event_frame(from + 2)
        );
        let pieces: Vec<Result<String, std::convert::Infallible>> =
            body.as_bytes().chunks(7).map(|c| Ok(String::from_utf8(c.to_vec()).unwrap())).collect();
        ([("content-type", headers::EVENT_STREAM)], axum::body::Body::from_stream(futures::stream::iter(pieces)))
    };
    let fake = Fake::serve(Router::new().route(paths::EVENTS, get(stream))).await;
    let client = Client::new(config(&[missing(), fake.endpoint()])).unwrap();
    let since = Since::Event(EventId { index: 5, seq: 0 });
    let items: Vec<_> = client.event_stream(Some(since)).take(4).collect().await;
    let indexes: Vec<_> = items
        .into_iter()
        .map(|item| match item.unwrap() {
            StreamItem::Event(event) => event.id.index,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(indexes, [6, 7, 8, 9]);
    assert_eq!(asked.all(), [(Some("since=5.0".to_owned()), None), (None, Some("7.0".to_owned()))]);
}

#[tokio::test]
async fn a_stream_that_is_refused_says_so() {
    let fake =
        Fake::serve(Router::new().route(paths::EVENTS, get(|| async { problem(ProblemCode::Unauthenticated) }))).await;
    let client = Client::new(config(&[fake.endpoint()])).unwrap();
    let mut stream = std::pin::pin!(client.event_stream(None));
    assert_eq!(stream.next().await.unwrap().unwrap_err().exit(), Exit::NotAllowed);
}

#[tokio::test]
async fn https_needs_the_pinned_ca_and_carries_the_token() {
    let tokens = Seen::<String>::default();
    let kept = tokens.clone();
    let list = move |headers: HeaderMap| async move {
        kept.push(headers["authorization"].to_str().unwrap().to_owned());
        Json(json!([]))
    };
    let (endpoint, ca_pem) = fake::serve_tls(Router::new().route(paths::VMS, get(list))).await;
    let mut pinned = config(std::slice::from_ref(&endpoint));
    pinned.token = Some("secret".to_owned());
    pinned.ca_pem = Some(ca_pem.into_bytes());
    assert!(!format!("{pinned:?}").contains("secret"));
    Client::new(pinned.clone()).unwrap().vms(&Filter::default()).await.unwrap();
    assert_eq!(tokens.all(), ["Bearer secret"]);

    for other in [Some(fake::other_ca().into_bytes()), None] {
        let error = Client::new(waifud_api::client::Config { ca_pem: other, ..pinned.clone() })
            .unwrap()
            .vms(&Filter::default())
            .await
            .unwrap_err();
        assert!(error.to_string().contains("certificate"), "{error}");
    }
    let nothing = waifud_api::client::Config { ca_pem: Some(b"hello".to_vec()), ..pinned };
    assert!(Client::new(nothing).is_err());
    assert_eq!(tokens.all().len(), 1, "the token goes to nobody else");
}

#[tokio::test]
async fn documents_are_read_with_their_generation_and_replaced_only_at_it() {
    let asked = Seen::<(Option<String>, String, serde_json::Value)>::default();
    let kept = asked.clone();
    let show = || async { ([("etag", "\"7\"")], Json(json!({ "user_data": "#cloud-config\n" }))) };
    let put = move |RawQuery(query): RawQuery, headers: HeaderMap, Json(body): Json<serde_json::Value>| async move {
        assert!(headers.contains_key(headers::IDEMPOTENCY_KEY));
        let expected = headers[headers::IF_MATCH].to_str().unwrap().to_owned();
        kept.push((query, expected.clone(), body));
        if expected == "\"7\"" {
            Json(json!({ "generation": 8, "instance_id": "i-1", "warnings": ["user_data: line 2: odd"] }))
                .into_response()
        } else {
            problem(ProblemCode::Stale)
        }
    };
    let fake = Fake::serve(Router::new().route(paths::VM_CLOUD_INIT, get(show).put(put))).await;
    let client = Client::new(config(&[fake.endpoint()])).unwrap();
    let name = VmName::new("web-1").unwrap();
    let (documents, generation) = client.cloud_init(&name).await.unwrap().value;
    assert_eq!(generation, Generation(7));
    let key = IdempotencyKey::random();
    let rerun = CloudInitQuery { rerun: true, dry_run: false };
    let saved = client.set_cloud_init(&name, &documents, rerun, generation, &key).await.unwrap().value;
    assert_eq!((saved.generation, saved.warnings.len()), (Generation(8), 1));
    let query = CloudInitQuery::default();
    let stale = client.set_cloud_init(&name, &CloudInit::default(), query, Generation(6), &key).await.unwrap_err();
    assert_eq!(stale.exit(), Exit::Conflict);
    let asked = asked.all();
    assert_eq!(
        (asked[0].0.as_deref(), asked[0].2["user_data"].as_str()),
        (Some("rerun=true"), Some("#cloud-config\n"))
    );
    assert_eq!((asked[1].0.as_deref(), asked[1].1.as_str()), (None, "\"6\""));
}

#[tokio::test]
async fn documents_without_a_generation_are_not_to_be_changed() {
    let fake = Fake::serve(Router::new().route(paths::CLUSTER_CLOUD_INIT, get(|| async { Json(json!({})) }))).await;
    let client = Client::new(config(&[fake.endpoint()])).unwrap();
    assert!(matches!(client.cloud_defaults().await.unwrap_err(), ClientError::Protocol { .. }));
}

#[tokio::test]
async fn peers_come_and_go() {
    let peer = || json!({ "name": "laptop", "key": "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=", "ip": "10.77.255.1", "created_at": "2026-03-01T12:00:00Z" });
    let add = move |Json(body): Json<NetPeerCreate>| async move {
        assert_eq!(body.name.as_str(), "laptop");
        Json(peer())
    };
    let net = || async { Json(json!({ "cidr": "10.77.0.0/16", "domain": "waifu.internal", "nodes": [] })) };
    let routes = Router::new()
        .route(paths::NET, get(net))
        .route(paths::NET_PEERS, get(move || async move { Json(json!([peer()])) }).post(add))
        .route(paths::NET_PEER, delete(|| async { StatusCode::NO_CONTENT }));
    let fake = Fake::serve(routes).await;
    let client = Client::new(config(&[fake.endpoint()])).unwrap();
    let name = PeerName::new("laptop").unwrap();
    let create = NetPeerCreate { name: name.clone(), key: waifud_model::mesh::MeshKey([7; 32]) };
    let made = client.add_net_peer(&create, &IdempotencyKey::random()).await.unwrap().value;
    assert_eq!(client.net_peers().await.unwrap().value, [made]);
    assert_eq!(client.net().await.unwrap().value.peers_subnet, None);
    client.delete_net_peer(&name).await.unwrap();
}

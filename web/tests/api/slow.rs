//! Clients that send their bodies slowly: who stands still is let go, who moves is waited for. On connections of HTTP/1.1, with
//! a clock that leaps to the next thing that anybody waits for.

use crate::house::House;
use axum::body::Body;
use bytes::Bytes;
use futures::stream;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::{convert::Infallible, time::Duration};
use tokio::time::{Instant, sleep};
use waifud_model::{command::Actor, scope::Scope, token::Role};
use waifud_web::Caller;

/// Sends `chunks`, each after so long a pause, and then nothing more for ever if it does not `end`.
async fn send(
    house: &House,
    path: &str,
    kind: &str,
    chunks: usize,
    pause: Duration,
    end: bool,
) -> (Response<Incoming>, Duration) {
    let node = &house.nodes[0];
    let actor = Actor::Local { node: node.app.node, uid: 0 };
    let caller = Caller { actor, role: Role::Admin, scope: Scope::default() };
    let (mut sender, _serving) = node.connect(caller).await;
    let body = stream::unfold(0, move |sent| async move {
        match sent < chunks {
            true => sleep(pause).await,
            false if end => return None,
            false => std::future::pending().await,
        }
        Some((Ok::<_, Infallible>(Bytes::from_static(b" ")), sent + 1))
    });
    let request =
        Request::post(path).header("host", "n1").header("content-type", kind).body(Body::from_stream(body)).unwrap();
    let began = Instant::now();
    (sender.send_request(request).await.unwrap(), began.elapsed())
}

async fn code(response: Response<Incoming>) -> serde_json::Value {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice::<serde_json::Value>(&bytes).unwrap()["code"].clone()
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let house = House::start(1).await;
    tokio::time::pause();
    let second = Duration::from_secs(1);
    for (chunks, pause) in [(0, second), (3, second), (30, second)] {
        let (answer, took) = send(&house, "/api/v1/vms", "application/json", chunks, pause, false).await;
        assert_eq!(answer.status(), StatusCode::REQUEST_TIMEOUT);
        assert!((10..12).contains(&took.as_secs()), "{chunks}: {took:?}");
        assert_eq!(code(answer).await, "timed_out");
    }
    // What comes in time is read, however little of it comes at once; that it is no JSON is another matter.
    let (answer, took) = send(&house, "/api/v1/vms", "application/json", 8, second, true).await;
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{took:?}");
}

#[tokio::test]
async fn an_upload_may_crawl_and_must_not_stand_still() {
    let house = House::start(1).await;
    tokio::time::pause();
    let path = "/api/v1/templates/slow/versions";
    let half = Duration::from_secs(25);
    let (answer, took) = send(&house, path, "application/octet-stream", 3, half, false).await;
    assert_eq!(code(answer).await, "invalid");
    // A second more: what is left of the body is waited for, so that the answer arrives.
    assert!((105..108).contains(&took.as_secs()), "thirty seconds after the last byte: {took:?}");
    assert!(house.nodes[0].images.held.lock().unwrap().len() == 1, "nothing is kept of it beside what was there");
    // Ten times as long as it may stand still: it moves, so it is taken in.
    let (_, took) = send(&house, path, "application/octet-stream", 12, half, true).await;
    assert!(took >= 12 * half, "{took:?}");
    assert_eq!(house.nodes[0].images.held.lock().unwrap().len(), 2);
}

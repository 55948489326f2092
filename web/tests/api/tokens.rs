//! Tokens: shown once, used, revoked.

use crate::house::{DEADLINE, House, delete, get, json};
use axum::{Router, middleware::from_fn_with_state};
use expect_test::expect;
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use tower::ServiceExt;
use waifud_web::bearer;

#[tokio::test]
async fn a_join_token_is_shown_once() {
    let house = House::start(2).await;
    let node = &house.nodes[0];
    let keyed = || {
        let mut request = json(Method::POST, "/api/v1/cluster/join-tokens", r#"{"uses":2}"#);
        request.headers_mut().insert("idempotency-key", "once".parse().unwrap());
        request
    };
    let created = node.call(keyed()).await;
    expect![[r#"
        201
        {
          "info": {
            "created_at": "2025-10-09T08:53:20.000Z",
            "expires_at": "2025-10-09T09:53:20.000Z",
            "id": "0300000001000000",
            "uses_left": 2
          },
          "token": "01010101-0101-4101-8101-010101010101/0300000001000000/192.0.2.1:7443,192.0.2.2:7443"
        }
    "#]]
    .assert_eq(&created.shown());
    let list = node.get("/api/v1/cluster/join-tokens").await;
    assert!(list.json().as_array().unwrap().contains(&created.json()["info"]));
    expect![[r#"
        422 key_reused: an earlier request with this Idempotency-Key made the token, and its secret is shown only once
        → make another with a fresh key, and revoke the one whose secret nobody has
    "#]]
    .assert_eq(&node.call(keyed()).await.told());

    let path = format!("/api/v1/cluster/join-tokens/{}", created.json()["info"]["id"].as_str().unwrap());
    assert_eq!(node.call(delete(&path)).await.status, StatusCode::NO_CONTENT);
    assert_eq!(node.call(delete(&path)).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_bearer_is_known_until_the_token_is_revoked() {
    let house = House::start(1).await;
    let node = &house.nodes[0];
    let https: Router = node.router.clone().layer(from_fn_with_state(node.app.clone(), bearer::identify));
    let created = node.post("/api/v1/tokens", r#"{"role":"operator","description":"ci"}"#).await;
    assert_eq!(created.status, StatusCode::CREATED);
    let token = created.json()["token"].as_str().unwrap().to_owned();
    let ask = |token: String, path: &str| {
        let mut request = get(path);
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        let https = https.clone();
        async move { https.oneshot(request).await.unwrap().status() }
    };
    assert_eq!(ask(token.clone(), "/api/v1/vms").await, StatusCode::OK);
    assert_eq!(ask(token.clone(), "/api/v1/tokens").await, StatusCode::FORBIDDEN);
    let forged = format!("{}{}", &token[..token.len() - 2], if token.ends_with("00") { "11" } else { "00" });
    assert_eq!(ask(forged, "/api/v1/vms").await, StatusCode::UNAUTHORIZED);

    let mut live = get("/api/v1/events");
    live.headers_mut().insert("accept", "text/event-stream".parse().unwrap());
    live.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    let stream = https.clone().oneshot(live).await.unwrap();

    let path = format!("/api/v1/tokens/{}", created.json()["info"]["id"].as_str().unwrap());
    assert_eq!(node.call(delete(&path)).await.status, StatusCode::NO_CONTENT);
    let rest = tokio::time::timeout(DEADLINE, stream.into_body().collect()).await.expect("the stream ends");
    let rest = rest.unwrap().to_bytes();
    assert!(!String::from_utf8_lossy(&rest).contains("event:"), "nothing after the revocation");
    assert_eq!(ask(token, "/api/v1/vms").await, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn who_asks_too_often_without_a_token_is_turned_away_for_a_moment() {
    let house = House::start(1).await;
    let node = &house.nodes[0];
    let https: Router = node.router.clone().layer(from_fn_with_state(node.app.clone(), bearer::identify));
    let ask = async || {
        let mut request = get("/healthz");
        request.extensions_mut().insert(bearer::Remote([192, 0, 2, 9].into()));
        https.clone().oneshot(request).await.unwrap()
    };
    let mut turned_away = None;
    for _ in 0..2000 {
        let answer = ask().await;
        if answer.status() != StatusCode::OK {
            turned_away = Some(answer);
            break;
        }
    }
    let answer = turned_away.expect("2000 requests are too many");
    assert_eq!((answer.status().as_u16(), &answer.headers()["retry-after"]), (429, &"1".parse().unwrap()));
    assert_eq!(node.send(get("/healthz")).await.status, StatusCode::OK, "other doors are not counted");
}

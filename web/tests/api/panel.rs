//! The panel: static files for anyone, under a strict policy.

use crate::house::{House, get, json};
use http::{Method, StatusCode};

#[tokio::test]
async fn the_page_is_served_to_anyone_under_a_strict_policy() {
    let house = House::bare(1).await;
    let node = &house.nodes[0];
    let page = node.send(get("/")).await;
    assert_eq!((page.status, page.header("content-type")), (StatusCode::OK, "text/html; charset=utf-8"));
    assert_eq!(page.header("cache-control"), "no-cache");
    let policy = page.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");

    let mut again = get("/");
    again.headers_mut().insert("if-none-match", page.headers["etag"].clone());
    assert_eq!(node.send(again).await.status, StatusCode::NOT_MODIFIED);

    // Every object of the panel has a URL, which a browser opens; a script that is not there is not there.
    let mut opened = get("/vms/web-1");
    opened.headers_mut().insert("accept", "text/html,*/*".parse().unwrap());
    assert_eq!(node.send(opened).await.bytes, page.bytes);
    assert_eq!(node.send(get("/assets/none.js")).await.status, StatusCode::NOT_FOUND);
    assert_eq!(node.send(json(Method::POST, "/", "{}")).await.status, StatusCode::METHOD_NOT_ALLOWED);
}

//! A WebSocket through the panel's address, to a node that gives back what it hears, in capitals.

use super::*;
use http::{Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::body::Incoming;
use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UnixListener},
};
use waifud_api::client::{Config, Endpoint};

/// A node that answers every upgrade, and keeps the headers it came with.
async fn node(listener: UnixListener, asked: Arc<Mutex<Vec<http::HeaderMap>>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let asked = Arc::clone(&asked);
        let service = service_fn(move |mut request: Request<Incoming>| {
            asked.lock().unwrap().push(request.headers().clone());
            let upgraded = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let mut line = TokioIo::new(upgraded.await.unwrap());
                let mut heard = [0; 5];
                line.read_exact(&mut heard).await.unwrap();
                line.write_all(&heard.to_ascii_uppercase()).await.unwrap();
            });
            let mut answer = Response::new(Empty::<bytes::Bytes>::new());
            *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            for (name, value) in [("connection", "Upgrade"), ("upgrade", "websocket"), ("sec-websocket-accept", "yes")]
            {
                answer.headers_mut().insert(name, value.parse().unwrap());
            }
            async move { Ok::<_, Infallible>(answer) }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades());
    }
}

#[tokio::test]
async fn a_console_goes_through_and_ends_with_the_node() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("api.sock");
    let asked = Arc::new(Mutex::new(Vec::new()));
    tokio::spawn(node(UnixListener::bind(&socket).unwrap(), Arc::clone(&asked)));
    let client = Client::new(Config::new(vec![Endpoint::Unix(socket)])).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let door = Door::new(address);
    let cookie = door.set_cookie();
    let cookie = cookie.split(';').next().unwrap();
    tokio::spawn(serve(listener, door, client));

    let greet = |cookie: &str| {
        format!(
            "GET /api/v1/vms/web-1/console HTTP/1.1\r\nhost: {address}\r\ncookie: {cookie}\r\norigin: http://{address}\r\n\
             connection: keep-alive, Upgrade\r\nupgrade: WebSocket\r\nsec-websocket-key: key\r\n\r\n"
        )
    };
    let mut browser = TcpStream::connect(address).await.unwrap();
    browser.write_all(greet(cookie).as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(browser.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    for part in ["http/1.1 101", "connection: upgrade", "upgrade: websocket", "sec-websocket-accept: yes"] {
        assert!(head.contains(part), "{part} in {head}");
    }
    browser.write_all(b"hello").await.unwrap();
    let mut heard = String::new();
    browser.read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, "HELLO", "both ways, and the node's end is the browser's");
    let headers = asked.lock().unwrap().remove(0);
    assert_eq!(
        (&headers["sec-websocket-key"], &headers["upgrade"]),
        (&"key".parse().unwrap(), &"websocket".parse().unwrap())
    );
    assert!(!headers.contains_key("cookie") && !headers.contains_key("origin"), "{headers:?}");

    let mut stranger = TcpStream::connect(address).await.unwrap();
    stranger.write_all(greet("waifu=0").replace("keep-alive, Upgrade", "close, Upgrade").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stranger.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert!(asked.lock().unwrap().is_empty(), "who may not come in goes nowhere");
}

//! Servers that do as they are told, on a UNIX socket each, and values to answer with.

use axum::{
    Json, Router,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, UnixListener},
};
use tokio_util::task::AbortOnDropHandle;
use waifud_api::{
    client::{Config, Endpoint},
    problem::{Problem, ProblemCode},
    vm::VmCreate,
};

/// What a server has seen.
#[derive(Debug)]
pub(crate) struct Seen<T>(Arc<Mutex<Vec<T>>>);

impl<T> Default for Seen<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Clone for Seen<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Clone> Seen<T> {
    pub(crate) fn push(&self, value: T) {
        self.0.lock().unwrap().push(value);
    }

    pub(crate) fn all(&self) -> Vec<T> {
        self.0.lock().unwrap().clone()
    }
}

/// A server on a socket of its own, as long as it is held.
pub(crate) struct Fake {
    dir: tempfile::TempDir,
    _task: AbortOnDropHandle<()>,
}

impl Fake {
    fn bind() -> (tempfile::TempDir, UnixListener) {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("api.sock")).unwrap();
        (dir, listener)
    }

    pub(crate) async fn serve(routes: Router) -> Self {
        let (dir, listener) = Self::bind();
        let task = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { dir, _task: AbortOnDropHandle::new(task) }
    }

    /// Reads each request and closes the connection in the middle of the answer's head.
    pub(crate) async fn break_off() -> (Self, Arc<Mutex<Vec<String>>>) {
        let (dir, listener) = Self::bind();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = vec![0; 64 << 10];
                let read = stream.read(&mut request).await.unwrap();
                kept.lock().unwrap().push(String::from_utf8_lossy(&request[..read]).into_owned());
                stream.write_all(b"HTTP/1.1 201 Cre").await.unwrap();
            }
        });
        (Self { dir, _task: AbortOnDropHandle::new(task) }, seen)
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint::Unix(self.dir.path().join("api.sock"))
    }
}

/// These endpoints, with enough patience for a busy machine and little enough to fail soon.
pub(crate) fn config(endpoints: &[Endpoint]) -> Config {
    Config { retry_for: Duration::from_secs(5), ..Config::new(endpoints.to_vec()) }
}

pub(crate) fn problem(code: ProblemCode) -> Response {
    let status = StatusCode::from_u16(code.status()).unwrap();
    (status, Json(Problem::new(code, "because"))).into_response()
}

pub(crate) fn request() -> VmCreate {
    VmCreate::from_template("debian-12".parse().unwrap())
}

pub(crate) fn created() -> Value {
    json!({
        "vm": {
            "id": "ec270707-0707-4707-8707-070707070707", "name": "web-1", "node": "n2",
            "status": { "state": "pending", "since": null, "pending": true },
            "desired": "running", "phase": "live", "cpus": 1, "memory": 1 << 29, "disk": 10u64 << 30,
            "template": { "name": "debian-12", "version": "0".repeat(64) },
            "ip": "10.77.2.14", "mac": "52:54:0a:4d:02:0e", "labels": {}, "restart": "on_failure", "ssh_keys": [],
            "user_data": null, "generation": 1, "created_at": "2026-03-01T12:00:00Z"
        },
        "placement": { "node": "n2", "reason": "most free memory of 3", "rejected": [] }
    })
}

pub(crate) fn version() -> Value {
    json!({
        "template": "tiny", "version": "0".repeat(64), "sha256": "1".repeat(64), "size": 1_000_000,
        "virtual_size": 1_000_000, "format": "raw", "url": null, "nodes": ["n1"], "vms": 0,
        "added_at": "2026-03-01T12:00:00Z"
    })
}

pub(crate) fn event_frame(index: u64) -> String {
    let event = json!({
        "id": format!("{index}.0"), "at": "2026-03-01T12:00:00Z", "actor": { "kind": "node", "node": "n1" },
        "subject": { "kind": "cluster" }, "kind": "changed", "changes": []
    });
    format!("event: event\nid: {index}.0\ndata: {event}\n\n")
}

fn ca() -> (rcgen::Certificate, rcgen::Issuer<'static, rcgen::KeyPair>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&key).unwrap();
    (certificate, rcgen::Issuer::new(params, key))
}

/// A CA that signed nothing.
pub(crate) fn other_ca() -> String {
    ca().0.pem()
}

/// Serves HTTPS on a port of its own until the test ends; gives the CA's certificate.
pub(crate) async fn serve_tls(routes: Router) -> (Endpoint, String) {
    use tokio_rustls::rustls;
    let (certificate, issuer) = ca();
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key.serialize_der().try_into().unwrap())
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("https://{}", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (acceptor, service) = (acceptor.clone(), hyper_util::service::TowerToHyperService::new(routes.clone()));
            tokio::spawn(async move {
                // A client that does not trust us breaks off here; that is what is tested.
                if let Ok(stream) = acceptor.accept(stream).await {
                    let io = hyper_util::rt::TokioIo::new(stream);
                    let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
                }
            });
        }
    });
    (endpoint, certificate.pem())
}

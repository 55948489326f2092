//! Clients that dawdle, and clients that speak an old TLS, on real sockets; the clock leaps to the next thing that anybody
//! waits for.

use super::*;
use crate::{config::Config, daemon::https::acceptor};
use axum::routing::{get, post};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, crypto::ring, pki_types::ServerName, version};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
    time::{Instant, sleep},
};
use tokio_rustls::TlsConnector;
use waifud_model::{
    ids::ClusterId,
    node::{Arch, Capacity, Node},
    size::ByteSize,
    state::ClusterInfo,
    time::Timestamp,
};

fn router() -> Router {
    Router::new().route("/", get(async || "here")).route("/", post(async |body: String| body.len().to_string()))
}

/// A local socket that is served, as long as the directory is there.
fn local() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("api.sock");
    let socket = LocalSocket::bind(&path, None).unwrap();
    tokio::spawn(socket.serve(NodeId::from_random(1), router(), CancellationToken::new()));
    (dir, path)
}

/// What is answered until the connection is ended, and after how long that is.
async fn until_the_end(mut stream: impl AsyncRead + Unpin) -> (String, Duration) {
    let (began, mut said) = (Instant::now(), Vec::new());
    // A connection that is torn down ends, too.
    let _ = stream.read_to_end(&mut said).await;
    (String::from_utf8(said).unwrap(), began.elapsed())
}

#[tokio::test(start_paused = true)]
async fn who_does_not_finish_a_head_is_let_go() {
    let (_dir, path) = local();
    for begun in ["", "GET / HTTP/1.1\r\nhost: n1\r\nx-slow: ", "GET / HTTP/1.1\r\nhost: n1\r\n\r\n"] {
        let mut stream = UnixStream::connect(&path).await.unwrap();
        stream.write_all(begun.as_bytes()).await.unwrap();
        let (said, took) = until_the_end(stream).await;
        assert!((30..32).contains(&took.as_secs()), "{begun:?}: {took:?}");
        assert_eq!(said.contains("here"), begun.ends_with("\r\n\r\n"), "{begun:?}: {said}");
    }
    // Byte by byte is no way to stay either.
    let (answers, mut dribble) = UnixStream::connect(&path).await.unwrap().into_split();
    let dribbling = tokio::spawn(async move {
        for byte in b"GET / HTTP/1.1\r\nhost: n1\r\nx-slow: ".iter().chain(std::iter::repeat(&b'x')) {
            if dribble.write_all(&[*byte]).await.is_err() {
                break;
            }
            sleep(Duration::from_secs(1)).await;
        }
    });
    let (_, took) = until_the_end(answers).await;
    assert!((30..33).contains(&took.as_secs()), "{took:?}");
    dribbling.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_sends_slowly_and_goes_on_is_heard_to_the_end() {
    let (_dir, path) = local();
    let mut stream = UnixStream::connect(&path).await.unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\nhost: n1\r\nconnection: close\r\ncontent-length: 10\r\n\r\n").await.unwrap();
    for _ in 0..10 {
        sleep(Duration::from_secs(25)).await;
        stream.write_all(b"x").await.unwrap();
    }
    let (said, _) = until_the_end(stream).await;
    assert!(said.starts_with("HTTP/1.1 200") && said.ends_with("10"), "{said}");
}

/// HTTPS with a certificate of the operator's own, and whom clients then trust.
async fn https(dir: &Path) -> (SocketAddr, RootCertStore) {
    let made = rcgen::generate_simple_self_signed(["n1".to_owned()]).unwrap();
    let mut config = Config::default();
    for (name, text, place) in [
        ("cert.pem", made.cert.pem(), &mut config.api.tls_cert),
        ("key.pem", made.signing_key.serialize_pem(), &mut config.api.tls_key),
    ] {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        *place = Some(path);
    }
    let cluster = ClusterInfo {
        id: ClusterId::from_random([1; 16]),
        ca_cert: Vec::new(),
        ca_key: Vec::new(),
        cidr: waifud_model::network::DEFAULT_CIDR,
        subnet_prefix: waifud_model::network::DEFAULT_SUBNET_PREFIX,
        feature_level: 1,
    };
    let size = ByteSize::gib(1);
    let node = Node {
        id: NodeId::from_random(1),
        name: "n1".parse().unwrap(),
        advertise: SocketAddr::from(([192, 0, 2, 1], 7443)),
        fingerprint: waifud_model::digest::Fingerprint([1; 32]),
        labels: Default::default(),
        cordoned: false,
        capacity: Capacity {
            cpus: 1,
            threads: 1,
            memory: size,
            disk: size,
            arch: Arch::X86_64,
            kvm: true,
            bridges: vec![],
        },
        subnet: waifud_model::network::DEFAULT_CIDR,
        mesh: None,
        joined_at: Timestamp(0),
    };
    let tls = acceptor(&config, &cluster, &node).unwrap();
    let door = Https::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let address = door.listener.local_addr().unwrap();
    tokio::spawn(door.serve(tls, router(), CancellationToken::new()));
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    (address, roots)
}

#[tokio::test]
async fn only_tls_1_3_is_spoken() {
    let dir = tempfile::tempdir().unwrap();
    let (address, roots) = https(dir.path()).await;
    let greet = async |version: &'static SupportedProtocolVersion| {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        let stream = TcpStream::connect(address).await.unwrap();
        TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("n1").unwrap(), stream).await
    };
    let mut spoken = greet(&version::TLS13).await.unwrap();
    spoken.write_all(b"GET / HTTP/1.1\r\nhost: n1\r\nconnection: close\r\n\r\n").await.unwrap();
    assert!(until_the_end(spoken).await.0.ends_with("here"));
    let refused = greet(&version::TLS12).await.unwrap_err().to_string();
    assert!(refused.contains("ProtocolVersion"), "{refused}");
}

#[tokio::test]
async fn who_connects_and_greets_nobody_is_let_go() {
    let dir = tempfile::tempdir().unwrap();
    let (address, _) = https(dir.path()).await;
    tokio::time::pause();
    let (said, took) = until_the_end(TcpStream::connect(address).await.unwrap()).await;
    assert_eq!(said, "");
    assert!((10..12).contains(&took.as_secs()), "{took:?}");
}

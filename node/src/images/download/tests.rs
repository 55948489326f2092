//! Downloads from a server of our own on the loopback, which has to be allowed first, as any address inside of this host's
//! networks.

use super::*;
use crate::images::{Limits, NoPeers, Patience, Progress, Store, StoreSettings};
use futures::TryStreamExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::watch,
};

/// Answers every request with the same bytes, and holds every connection open.
async fn server(answer: impl Into<Vec<u8>>) -> SocketAddr {
    server_on("127.0.0.1", answer).await
}

async fn server_on(host: &str, answer: impl Into<Vec<u8>>) -> SocketAddr {
    let listener = TcpListener::bind((host, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = answer.into();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                // A request fits into one segment; its contents do not matter.
                while stream.read(&mut [0; 4096]).await.is_ok_and(|n| n > 0) {
                    stream.write_all(&answer).await.ok();
                }
            });
        }
    });
    address
}

fn settings(allowed: &[&str]) -> DownloadSettings {
    let allowed_hosts = allowed.iter().map(|host| (*host).to_owned()).collect();
    DownloadSettings {
        addresses: AddressPolicy { allow_private: false, allowed_hosts },
        timeout: Duration::from_millis(300),
        slowest: ByteSize::ZERO,
    }
}

async fn get(allowed: &[&str], url: &str) -> Result<Vec<u8>, ImageError> {
    let body = Downloader::new(settings(allowed)).get(url, true).await?;
    body.stream
        .try_fold(Vec::new(), |mut all, block| async move {
            all.extend_from_slice(&block);
            Ok(all)
        })
        .await
}

async fn error(allowed: &[&str], url: &str) -> DownloadError {
    match get(allowed, url).await {
        Err(ImageError::Download(error)) => error,
        other => panic!("{url}: {other:?}"),
    }
}

#[tokio::test]
async fn a_file_is_downloaded() {
    let at = server("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await;
    assert_eq!(get(&["127.0.0.1"], &format!("http://{at}/x")).await.unwrap(), b"hello");
    let body = Downloader::new(settings(&["127.0.0.0/8"])).get(&format!("http://{at}/x"), true).await.unwrap();
    assert_eq!(body.size, Some(ByteSize::bytes(5)));
    assert_eq!(get(&["localhost"], &format!("http://localhost:{}/x", at.port())).await.unwrap(), b"hello");
}

#[tokio::test]
async fn this_hosts_own_networks_are_out_of_bounds() {
    let port = server("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await.port();
    for host in [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "0x7f.1",
        "2130706433",
        "0.0.0.0",
        "169.254.169.254",
        "10.0.0.1",
    ] {
        let error = error(&[], &format!("http://{host}:{port}/x")).await;
        assert!(matches!(error, DownloadError::Private { .. }), "{host}: {error}");
    }
}

#[tokio::test]
async fn a_redirect_does_not_lead_around_the_rules() {
    let target = server("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await;
    for location in [format!("http://localhost:{}/", target.port()), "http://127.0.0.2/".into(), "http://[::1]/".into()]
    {
        let answer = format!("HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
        let at = server_on("127.0.0.5", answer).await;
        let error = error(&["127.0.0.5"], &format!("http://{at}/x")).await;
        assert!(matches!(error, DownloadError::Private { .. }), "{location}: {error}");
    }
    let at = server("HTTP/1.1 302 Found\r\nlocation: file:///etc/passwd\r\ncontent-length: 0\r\n\r\n").await;
    let url = format!("http://{at}/x");
    let refused = get(&["127.0.0.1"], &url).await.unwrap_err();
    assert!(matches!(refused, ImageError::Download(_)), "{refused}");
    let good = server(format!("HTTP/1.1 302 Found\r\nlocation: http://{target}/\r\ncontent-length: 0\r\n\r\n")).await;
    assert_eq!(get(&["127.0.0.1"], &format!("http://{good}/x")).await.unwrap(), b"hello");
}

#[tokio::test]
async fn redirects_come_to_an_end() {
    let at = server("HTTP/1.1 302 Found\r\nlocation: /again\r\ncontent-length: 0\r\n\r\n").await;
    let error = error(&["127.0.0.1"], &format!("http://{at}/x")).await;
    assert!(matches!(error, DownloadError::Redirects { .. }), "{error}");
}

#[tokio::test]
async fn refusals_are_told_apart() {
    let at = server("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await;
    let missing = error(&["127.0.0.1"], &format!("http://user:secret@{at}/x?token=secret")).await;
    assert!(matches!(missing, DownloadError::NotFound { .. }) && !missing.to_string().contains("secret"), "{missing}");
    let at = server("HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n").await;
    let busy = error(&["127.0.0.1"], &format!("http://{at}/x")).await;
    assert!(busy.to_string().contains("503"), "{busy}");
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let refused = error(&["127.0.0.1"], &format!("http://{closed}/x")).await;
    assert!(matches!(refused, DownloadError::Connect { .. }), "{refused}");
    for bad in ["", "example", "ftp://example.org/x", "file:///etc/passwd", "http://"] {
        let error = error(&[], bad).await;
        assert!(matches!(error, DownloadError::Url { .. }), "{bad}: {error}");
    }
}

#[tokio::test]
async fn a_server_that_nobody_vouches_for_is_refused() {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        acceptor.accept(stream).await.map(drop)
    });
    let error = error(&["localhost"], &format!("https://localhost:{port}/x")).await;
    let said = format!("{error:?}");
    assert!(matches!(error, DownloadError::Connect { .. }) && said.contains("UnknownIssuer"), "{said}");
    assert!(server.await.unwrap().is_err(), "the handshake must not succeed");
}

#[tokio::test]
async fn a_secure_address_does_not_lead_to_an_insecure_one() {
    let addresses = AddressPolicy { allow_private: true, allowed_hosts: vec![] };
    let attempt = |keep_https| {
        let policy = addresses.clone();
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls(false).unwrap())
            .redirect(redirect::Policy::custom(move |attempt| match judge(&attempt, &policy, keep_https) {
                Ok(()) => attempt.stop(),
                Err(refusal) => attempt.error(refusal),
            }))
            .build()
            .unwrap();
        async move {
            let at = server("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1/\r\ncontent-length: 0\r\n\r\n").await;
            http.get(format!("http://{at}/x")).send().await
        }
    };
    assert!(attempt(false).await.is_ok());
    let refused = Downloader::new(settings(&[])).classify("https://x/", attempt(true).await.unwrap_err());
    assert!(matches!(refused, DownloadError::Downgrade { .. }), "{refused}");
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up() {
    for answer in ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\nhello"] {
        let at = server(answer).await;
        let error = error(&["127.0.0.1"], &format!("http://{at}/x")).await;
        assert!(matches!(error, DownloadError::Timeout { .. }), "{answer:?}: {error}");
    }
}

#[tokio::test]
async fn a_server_that_breaks_off_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\nhello").await.ok();
        }
    });
    let error = error(&["127.0.0.1"], &format!("http://{at}/x")).await;
    assert!(matches!(error, DownloadError::Broken { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_drips_is_given_up() {
    let settings = DownloadSettings { slowest: ByteSize::bytes(100), ..settings(&[]) };
    let drops = futures::stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        Some((Ok(Bytes::from_static(b"drop")), ()))
    });
    let mut body = Downloader::new(settings).body("http://x/".to_owned(), drops);
    let error = loop {
        match body.next().await.unwrap() {
            Ok(_) => {}
            Err(ImageError::Download(error)) => break error,
            Err(other) => panic!("{other}"),
        }
    };
    assert!(matches!(error, DownloadError::TooSlow { .. }), "{error}");
}

#[tokio::test]
async fn a_download_ends_in_the_store_or_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let settings = StoreSettings {
        dir: dir.path().join("images"),
        limits: Limits { max_size: ByteSize::mib(1), max_virtual_size: ByteSize::gib(1) },
        download: settings(&["127.0.0.1"]),
        patience: Patience::default(),
    };
    let store = Store::open(settings, std::sync::Arc::new(NoPeers)).unwrap();
    let progress = watch::Sender::<Progress>::default();
    let page = server("HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\n<html></html>").await;
    let error = store.download(&format!("http://{page}/x.qcow2"), None, &progress).await.unwrap_err();
    assert!(error.to_string().contains("a web page"), "{error}");
    let large = server("HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n").await;
    let error = store.download(&format!("http://{large}/x.qcow2"), None, &progress).await.unwrap_err();
    assert!(matches!(error, ImageError::TooLarge { .. }), "{error}");
    assert_eq!(std::fs::read_dir(dir.path().join("images")).unwrap().count(), 0);
}

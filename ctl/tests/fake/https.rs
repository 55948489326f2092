//! The same server over HTTPS, with a certificate of a CA of its own, as a node has it.

use super::{Fake, Reply, take};
use http::request::Parts;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_rustls::{TlsAcceptor, rustls};

/// A fake over HTTPS: where it is, and the SHA-256 fingerprint of its CA as openssl shows it.
pub(crate) struct Https {
    pub(crate) fake: Fake,
    pub(crate) url: String,
    pub(crate) fingerprint: String,
}

/// Serves what `answer` says to each request, at 127.0.0.1.
pub(crate) async fn serve(answer: impl Fn(&Parts, &[u8]) -> Reply + Send + Sync + 'static) -> Https {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = params.self_signed(&ca_key).unwrap();
    let issuer = rcgen::Issuer::new(params, ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        // As a node does: its own certificate, then the CA's.
        .with_single_cert(vec![leaf.der().clone(), ca.der().clone()], key.serialize_der().try_into().unwrap())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let fake = Fake::over(answer, async move |connections, service| {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (acceptor, service) = (acceptor.clone(), Arc::clone(&service));
            connections.lock().unwrap().push(tokio::spawn(async move {
                // Whoever does not trust the certificate breaks off here; that is what is tested.
                if let Ok(stream) = acceptor.accept(stream).await {
                    take(stream, service).await;
                }
            }));
        }
    });
    let digest = <sha2::Sha256 as sha2::Digest>::digest(ca.der());
    let fingerprint = digest.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":");
    Https { fake, url, fingerprint }
}

//! Whom an HTTPS endpoint must prove to be: the pinned CA's, or the host's trust store where nothing is pinned.
//!
//! The crypto provider is given explicitly, so that nothing depends on which part of a process installed one first.

use super::{Endpoint, SetupError};
use rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer, pki_types::pem::PemObject};
use rustls_platform_verifier::BuilderVerifierExt;
use std::sync::Arc;

/// What is spoken inside of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Versions {
    /// What both sides know best.
    Any,
    /// HTTP/1.1, from which a connection can be upgraded to a WebSocket.
    Http1,
}

pub(super) fn config(
    endpoint: &Endpoint,
    ca_pem: Option<&[u8]>,
    versions: Versions,
) -> Result<ClientConfig, SetupError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| SetupError::Http(e.to_string()))?;
    let mut config = match (endpoint, ca_pem) {
        // No TLS is spoken on a socket; reqwest wants a configuration all the same, and this one trusts nobody.
        (Endpoint::Unix(_), _) => builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth(),
        (Endpoint::Https { .. }, Some(pem)) => builder.with_root_certificates(pinned(pem)?).with_no_client_auth(),
        (Endpoint::Https { .. }, None) => {
            builder.with_platform_verifier().map_err(|e| SetupError::Http(e.to_string()))?.with_no_client_auth()
        }
    };
    config.alpn_protocols = match versions {
        Versions::Any => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        Versions::Http1 => vec![b"http/1.1".to_vec()],
    };
    Ok(config)
}

fn pinned(pem: &[u8]) -> Result<RootCertStore, SetupError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|e| SetupError::Ca(e.to_string()))?;
        roots.add(certificate).map_err(|e| SetupError::Ca(e.to_string()))?;
    }
    if roots.is_empty() { Err(SetupError::Ca("it holds none".to_owned())) } else { Ok(roots) }
}

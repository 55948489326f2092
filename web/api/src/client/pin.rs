//! The first meeting with an HTTPS endpoint that nothing vouches for yet: what certificates it shows.
//!
//! In: an endpoint. Out: its chain, for a person to compare. Nothing is believed and nothing but a public question is sent,
//! least of all a token: what comes of the meeting is a CA that is pinned and then checked like any other.

use super::{ClientError, Endpoint, Refusal, error::plain};
use crate::paths;
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// How long the endpoint may take: two round trips and a signature.
const PATIENCE: Duration = Duration::from_secs(5);

/// The certificates that an HTTPS endpoint shows, as DER, its own first.
///
/// # Errors
/// [`ClientError::Unreachable`] if it cannot be met; sockets show none.
pub async fn presented(endpoint: &Endpoint) -> Result<Vec<Vec<u8>>, ClientError> {
    let refused = |reason: String| ClientError::Unreachable(vec![Refusal { endpoint: endpoint.clone(), reason }]);
    let Endpoint::Https { host, port } = endpoint else {
        return Err(refused("a socket shows no certificate".to_owned()));
    };
    let provider = Arc::new(ring::default_provider());
    let seen = Arc::new(Seen { chain: Mutex::default(), algorithms: provider.signature_verification_algorithms });
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| refused(e.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(seen.clone())
        .with_no_client_auth();
    let http = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(PATIENCE)
        .tls_backend_preconfigured(tls)
        .build()
        .map_err(|e| refused(plain(&e)))?;
    let met = http.get(format!("https://{host}:{port}{}", paths::HEALTHZ)).send().await;
    let chain = std::mem::take(&mut *seen.chain.lock().unwrap_or_else(PoisonError::into_inner));
    match met {
        // What it answered does not matter: its certificates were shown before.
        Ok(_) => Ok(chain),
        Err(_) if !chain.is_empty() => Ok(chain),
        Err(error) => Err(refused(plain(&error))),
    }
}

/// Looks at the chain and accepts it. That the other side has the key to its certificate is checked all the same.
#[derive(Debug)]
struct Seen {
    chain: Mutex<Vec<Vec<u8>>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Seen {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let chain = std::iter::once(own).chain(others).map(|certificate| certificate.to_vec()).collect();
        *self.chain.lock().unwrap_or_else(PoisonError::into_inner) = chain;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

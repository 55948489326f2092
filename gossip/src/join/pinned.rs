//! The joiner's view of TLS: it knows the cluster's CA by its hash and no member by name.
//!
//! Used for joins only. The chain a member shows must contain the pinned CA, and a certificate of a node of the token's
//! cluster that this CA signed. Which node it is does not matter here; that it knows the token is proved afterwards.

use crate::{
    identity::{Certificate, pin},
    peers::{JOIN_ALPN, client_transport, provider},
};
use quinn::crypto::rustls::QuicClientConfig;
use rustls::{
    DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    version::TLS13,
};
use std::sync::Arc;
use waifud_model::{digest::Sha256, ids::ClusterId};

/// How a machine with a token dials.
pub(super) fn client_config(ca_pin: Sha256, cluster: ClusterId) -> Result<quinn::ClientConfig, Error> {
    let verifier = Arc::new(PinnedCa { ca_pin, cluster, provider: provider() });
    let mut tls = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    tls.alpn_protocols = vec![JOIN_ALPN.to_vec()];
    tls.resumption = Resumption::disabled();
    let quic = QuicClientConfig::try_from(tls).map_err(|e| Error::General(e.to_string()))?;
    let mut config = quinn::ClientConfig::new(Arc::new(quic));
    config.transport_config(client_transport());
    Ok(config)
}

#[derive(Debug)]
struct PinnedCa {
    ca_pin: Sha256,
    cluster: ClusterId,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedCa {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let ca = intermediates
            .iter()
            .find(|der| pin(der) == self.ca_pin)
            .ok_or_else(|| Error::General("its CA is not the one the token was made for".into()))?;
        let subject = Certificate::parse(end_entity).map_err(|e| Error::General(e.to_string()))?.subject;
        if subject.cluster != self.cluster {
            return Err(Error::General("it belongs to another cluster".into()));
        }
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
            .build()
            .map_err(|e| Error::General(e.to_string()))?;
        let name = ServerName::try_from(subject.node.dns_name()).map_err(|e| Error::General(e.to_string()))?;
        verifier.verify_server_cert(end_entity, &[], &name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("QUIC is TLS 1.3 only".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

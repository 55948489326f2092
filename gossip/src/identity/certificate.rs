//! What a node's certificate says. It is read only after TLS has verified the chain, and believed only after the peer
//! table has confirmed the key.

use super::key;
use rustls::pki_types::CertificateDer;
use std::{
    fmt,
    time::{Duration, SystemTime},
};
use waifud_model::{
    digest::Fingerprint,
    ids::{ClusterId, NodeId},
};
use x509_parser::{
    certificate::X509Certificate,
    extensions::GeneralName,
    prelude::{ASN1Time, FromDer},
};

/// Why a certificate is not one of a waifud node.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// Not X.509.
    #[error("the certificate does not read as X.509")]
    Form,
    /// A certificate of somebody else.
    #[error("the certificate names no waifud {0}")]
    Name(&'static str),
    /// rcgen could not read it, or the key that belongs to it.
    #[error("the certificate or its key could not be read")]
    Library(#[from] rcgen::Error),
}

/// The node that a certificate speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject {
    /// Its cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
}

impl Subject {
    /// Its SPIFFE ID.
    #[must_use]
    pub fn uri(&self) -> String {
        format!("{}/node/{}", trust_domain(self.cluster), self.node)
    }

    fn from_uri(uri: &str) -> Option<Self> {
        let (cluster, node) = uri.strip_prefix("spiffe://")?.split_once("/node/")?;
        Some(Self { cluster: cluster.parse().ok()?, node: node.parse().ok()? })
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {} of cluster {}", self.node, self.cluster)
    }
}

/// The SPIFFE ID of the CA itself: a trust domain without a path.
pub(super) fn trust_domain(cluster: ClusterId) -> String {
    format!("spiffe://{cluster}")
}

/// A node's certificate, read.
#[derive(Debug)]
pub(crate) struct Certificate {
    pub(crate) der: CertificateDer<'static>,
    pub(crate) subject: Subject,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
}

impl Certificate {
    /// Reads a certificate, DER. Both of its names must speak of the same node.
    pub(crate) fn parse(der: &[u8]) -> Result<Self, CertificateError> {
        let x509 = parse(der)?;
        let subject = uri_of(&x509).and_then(Subject::from_uri).ok_or(CertificateError::Name("node"))?;
        if !names(&x509).any(|name| matches!(name, GeneralName::DNSName(dns) if *dns == subject.node.dns_name())) {
            return Err(CertificateError::Name("node"));
        }
        Ok(Self {
            der: CertificateDer::from(der.to_vec()),
            subject,
            fingerprint: key::fingerprint(x509.public_key().raw),
            not_before: system_time(x509.validity().not_before),
            not_after: system_time(x509.validity().not_after),
        })
    }

    /// Did the key of `ca` sign this?
    pub(crate) fn is_signed_by(&self, ca: &CertificateDer<'_>) -> Result<bool, CertificateError> {
        let anchor = webpki_anchor(ca)?;
        let provider = rustls::crypto::ring::default_provider();
        let chain = rustls::server::ParsedCertificate::try_from(&self.der).map_err(|_| CertificateError::Form)?;
        // Checked at a moment when it is valid: this asks who signed it, not whether it has expired.
        let within = self.not_before.duration_since(SystemTime::UNIX_EPOCH).map_err(|_| CertificateError::Form)?;
        let verdict = rustls::client::verify_server_cert_signed_by_trust_anchor(
            &chain,
            &anchor,
            &[],
            rustls::pki_types::UnixTime::since_unix_epoch(within),
            provider.signature_verification_algorithms.all,
        );
        Ok(verdict.is_ok() && cluster_of_ca(ca)? == self.subject.cluster)
    }
}

fn webpki_anchor(ca: &CertificateDer<'_>) -> Result<rustls::RootCertStore, CertificateError> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(ca.clone().into_owned()).map_err(|_| CertificateError::Form)?;
    Ok(roots)
}

/// The cluster that a CA signs for.
pub(crate) fn cluster_of_ca(ca: &CertificateDer<'_>) -> Result<ClusterId, CertificateError> {
    let x509 = parse(ca)?;
    uri_of(&x509)
        .and_then(|uri| uri.strip_prefix("spiffe://"))
        .and_then(|id| id.parse().ok())
        .ok_or(CertificateError::Name("cluster"))
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, CertificateError> {
    match X509Certificate::from_der(der) {
        Ok(([], x509)) => Ok(x509),
        _ => Err(CertificateError::Form),
    }
}

fn names<'a>(x509: &'a X509Certificate<'_>) -> impl Iterator<Item = &'a GeneralName<'a>> {
    x509.subject_alternative_name().ok().flatten().into_iter().flat_map(|names| &names.value.general_names)
}

/// Its only URI: a certificate with two would be two nodes.
fn uri_of<'a>(x509: &'a X509Certificate<'_>) -> Option<&'a str> {
    let mut uris = names(x509).filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    let uri = uris.next()?;
    uris.next().is_none().then_some(uri)
}

fn system_time(time: ASN1Time) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(time.timestamp().try_into().unwrap_or(0))
}

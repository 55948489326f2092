//! The cluster's certificate authority. Its key is replicated, so every node can sign: being signed proves nothing by
//! itself, being in the [peer table](crate::PeerTable) does.

use super::{BACKDATED, CERTIFICATE_LIFE, CertificateError, KeyError, certificate, key::PublicKey};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use sha2::Digest as _;
use std::{fmt, time::SystemTime};
use waifud_model::{
    digest::Sha256,
    ids::{ClusterId, NodeId},
};

/// A CA that can sign.
pub struct Ca {
    cluster: ClusterId,
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl fmt::Debug for Ca {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ca").field("cluster", &self.cluster).field("pin", &self.pin()).finish_non_exhaustive()
    }
}

impl Ca {
    /// Makes a cluster's CA. It never expires by itself: trust in it ends with the cluster.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn generate(cluster: ClusterId) -> Result<Self, KeyError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, format!("waifud cluster {cluster}"));
        params.subject_alt_names.push(SanType::URI(certificate::trust_domain(cluster).try_into()?));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?.der().clone();
        Ok(Self { cluster, certificate, issuer: Issuer::new(params, key) })
    }

    /// Reads a CA from its certificate and its key (PKCS #8), both DER, as the replicated state holds them.
    ///
    /// # Errors
    /// One of them does not read.
    pub fn from_der(certificate: &[u8], key: &[u8]) -> Result<Self, CertificateError> {
        let certificate = CertificateDer::from(certificate.to_vec());
        let cluster = certificate::cluster_of_ca(&certificate)?;
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(key), &PKCS_ECDSA_P256_SHA256)?;
        Ok(Self { cluster, issuer: Issuer::from_ca_cert_der(&certificate, key)?, certificate })
    }

    /// The cluster it signs for.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// Its certificate, DER.
    #[must_use]
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// Its private key, PKCS #8 DER; for the replicated state only.
    #[must_use]
    pub fn key_der(&self) -> Vec<u8> {
        self.issuer.key().serialize_der()
    }

    /// SHA-256 of its certificate: what a join token pins.
    #[must_use]
    pub fn pin(&self) -> Sha256 {
        pin(&self.certificate)
    }

    /// Signs `key` as `node` of this cluster, valid around `now`; the certificate, DER.
    ///
    /// # Errors
    /// The CA's key cannot sign.
    pub fn sign(&self, key: &PublicKey, node: NodeId, now: SystemTime) -> Result<Vec<u8>, KeyError> {
        let mut params = CertificateParams::new(vec![node.dns_name()])?;
        params.distinguished_name.push(DnType::CommonName, node.dns_name());
        let uri = certificate::Subject { cluster: self.cluster, node }.uri();
        params.subject_alt_names.push(SanType::URI(uri.try_into()?));
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = (now - BACKDATED).into();
        params.not_after = (now + CERTIFICATE_LIFE).into();
        Ok(params.signed_by(key, &self.issuer)?.der().to_vec())
    }
}

/// SHA-256 of a certificate, DER.
pub(crate) fn pin(certificate: &[u8]) -> Sha256 {
    Sha256(sha2::Sha256::digest(certificate).into())
}

//! A node's key pair: P-256, the curve every TLS stack has in constant time.

use rcgen::{CertificateParams, CertificateSigningRequestParams, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use rustls::pki_types::{CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest, Sha256};
use std::{fmt, sync::Arc};
use waifud_model::digest::Fingerprint;

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// No randomness, or the library refused.
    #[error("a key could not be made or used")]
    Library(#[from] rcgen::Error),
    /// The PEM does not hold one.
    #[error("there is no private key in the file")]
    Pem(#[from] rustls::pki_types::pem::Error),
    /// Some other kind of key.
    #[error("the key is not of the kind P-256")]
    Kind,
}

/// A private key. Clones share it; it is never shown.
#[derive(Clone)]
pub struct NodeKey {
    pair: Arc<KeyPair>,
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeKey").field("fingerprint", &self.fingerprint()).finish_non_exhaustive()
    }
}

impl NodeKey {
    /// Makes a key from the system's randomness.
    ///
    /// # Errors
    /// The system has none.
    pub fn generate() -> Result<Self, KeyError> {
        Ok(Self { pair: Arc::new(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?) })
    }

    /// Reads a key from PKCS #8 DER.
    ///
    /// # Errors
    /// It is not a P-256 key.
    pub fn from_der(pkcs8: &[u8]) -> Result<Self, KeyError> {
        let der = PrivatePkcs8KeyDer::from(pkcs8);
        Ok(Self { pair: Arc::new(KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ECDSA_P256_SHA256)?) })
    }

    /// SHA-256 of the subject public key info.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        fingerprint(&self.pair.subject_public_key_info())
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey { der: self.pair.der_bytes().to_vec() }
    }

    /// A request to sign this key. It names nobody: the signer chooses the names.
    ///
    /// # Errors
    /// The key cannot sign.
    pub(crate) fn signing_request(&self) -> Result<Vec<u8>, KeyError> {
        Ok(CertificateParams::default().serialize_request(&*self.pair)?.der().to_vec())
    }

    /// PKCS #8, in PEM.
    pub(crate) fn to_pem(&self) -> String {
        self.pair.serialize_pem()
    }

    /// PKCS #8.
    pub(crate) fn secret_der(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.pair.serialize_der()).into()
    }
}

/// A key that is to be signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    der: Vec<u8>,
}

impl PublicKey {
    /// Takes the key, and nothing else, out of a certificate signing request; its signature proves that whoever made
    /// the request has the private half.
    pub(crate) fn from_signing_request(request: &[u8]) -> Result<Self, KeyError> {
        let request = CertificateSigningRequestDer::from(request);
        let parsed = CertificateSigningRequestParams::from_der(&request)?;
        if parsed.public_key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
            return Err(KeyError::Kind);
        }
        Ok(Self { der: parsed.public_key.der_bytes().to_vec() })
    }

    /// SHA-256 of the subject public key info.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        fingerprint(&self.subject_public_key_info())
    }
}

impl PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        &self.der
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

/// The fingerprint of a subject public key info, DER.
pub(super) fn fingerprint(subject_public_key_info: &[u8]) -> Fingerprint {
    Fingerprint(Sha256::digest(subject_public_key_info).into())
}

//! Who this node is: its key, its certificate, and the cluster's CA that signed it.
//!
//! ```text
//!   NodeKey ──(Ca::sign)──> certificate ──> Identity ──> peers (TLS) and IdentityDir (disk)
//! ```
//!
//! A certificate carries the DNS name `<id>.node.waifud.internal`, which a dialling peer verifies, and the URI
//! `spiffe://<cluster>/node/<id>` (SPIFFE ID, section 2). It lives for 90 days. A node replaces it at two thirds of its
//! life, normally by [`Identity::renew`]: a new certificate for the *same key*. The key is what the replicated node
//! table knows a member by, so renewal needs no agreement, and a node that was off for half a year still recognises its
//! peers and is recognised. [`Identity::rotate`] makes a new key, for when the old one may have leaked; it takes effect
//! with the `RotateNodeKey` command.
//!
//! Nothing here talks to the network, and time comes in as an argument.

mod ca;
mod certificate;
mod dir;
mod key;

pub use ca::Ca;
pub use certificate::{CertificateError, Subject};
pub use dir::{DirError, IdentityDir};
pub use key::{KeyError, NodeKey, PublicKey as NodePublicKey};

pub(crate) use ca::pin;
pub(crate) use certificate::Certificate;

use rustls::pki_types::CertificateDer;
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use waifud_model::{digest::Fingerprint, ids::NodeId};

/// How long a node's certificate is valid. Long enough that a machine may be off for a season, short enough that
/// renewal is exercised and not a surprise years later.
pub const CERTIFICATE_LIFE: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// How far in the past a certificate begins to be valid, for peers whose clocks are behind.
pub const BACKDATED: Duration = Duration::from_secs(5 * 60);

/// Why key, certificate and CA do not make an identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The certificate or the CA's certificate does not read.
    #[error("the certificate cannot be used")]
    Certificate(#[from] CertificateError),
    /// The key does not read or cannot sign.
    #[error("the key cannot be used")]
    Key(#[from] KeyError),
    /// The certificate was made for another key.
    #[error("the certificate belongs to another key")]
    OtherKey,
    /// The certificate was not signed by this CA.
    #[error("the certificate was not signed by this cluster's CA")]
    OtherCa,
}

/// A node's proof of who it is.
#[derive(Clone)]
pub struct Identity {
    key: NodeKey,
    certificate: Arc<Certificate>,
    ca: CertificateDer<'static>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("subject", &self.certificate.subject)
            .field("fingerprint", &self.fingerprint())
            .finish_non_exhaustive()
    }
}

impl Identity {
    /// Puts a key and the certificate made for it together.
    ///
    /// # Errors
    /// The parts do not read, or do not belong together. Validity in time is not looked at: an identity that is past it
    /// can still be renewed.
    pub fn new(key: NodeKey, certificate: &[u8], ca: &[u8]) -> Result<Self, IdentityError> {
        let certificate = Certificate::parse(certificate)?;
        let ca = CertificateDer::from(ca.to_vec());
        if certificate.fingerprint != key.fingerprint() {
            return Err(IdentityError::OtherKey);
        }
        if !certificate.is_signed_by(&ca)? {
            return Err(IdentityError::OtherCa);
        }
        Ok(Self { key, certificate: Arc::new(certificate), ca })
    }

    /// Signs a certificate for `node` and `key`, valid around `now`.
    ///
    /// # Errors
    /// The CA's key cannot sign.
    pub fn issue(ca: &Ca, node: NodeId, key: NodeKey, now: SystemTime) -> Result<Self, IdentityError> {
        let certificate = ca.sign(&key.public(), node, now)?;
        Self::new(key, &certificate, ca.certificate())
    }

    /// The same node and key with a certificate that begins now. No other node needs to know.
    ///
    /// # Errors
    /// The CA's key cannot sign, or it is another cluster's.
    pub fn renew(&self, ca: &Ca, now: SystemTime) -> Result<Self, IdentityError> {
        self.reissue(ca, self.key.clone(), now)
    }

    /// The same node with a new key. Peers accept it once `RotateNodeKey` with its fingerprint is committed; keep it by
    /// [`IdentityDir::save_next`] before proposing that, and let the node use it after.
    ///
    /// # Errors
    /// The CA's key cannot sign, or no key can be made.
    pub fn rotate(&self, ca: &Ca, now: SystemTime) -> Result<Self, IdentityError> {
        self.reissue(ca, NodeKey::generate()?, now)
    }

    fn reissue(&self, ca: &Ca, key: NodeKey, now: SystemTime) -> Result<Self, IdentityError> {
        if ca.certificate() != self.ca_certificate() {
            return Err(IdentityError::OtherCa);
        }
        Self::issue(ca, self.node(), key, now)
    }

    /// True from two thirds of the certificate's life on: the last third is for a machine that was off.
    #[must_use]
    pub fn needs_renewal(&self, now: SystemTime) -> bool {
        let life = self.certificate.not_after.duration_since(self.certificate.not_before).unwrap_or_default();
        now >= self.certificate.not_before + life * 2 / 3
    }

    /// The moment the certificate ends.
    #[must_use]
    pub fn expires_at(&self) -> SystemTime {
        self.certificate.not_after
    }

    /// The cluster and the node.
    #[must_use]
    pub fn subject(&self) -> Subject {
        self.certificate.subject
    }

    /// The node.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.certificate.subject.node
    }

    /// What the replicated node table knows this node's key by.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.certificate.fingerprint
    }

    /// The CA's certificate, DER.
    #[must_use]
    pub fn ca_certificate(&self) -> &[u8] {
        &self.ca
    }

    /// The private key.
    pub(crate) fn key(&self) -> &NodeKey {
        &self.key
    }

    /// The certificate and the CA's after it: the chain that is shown to peers. Joiners find their pin in it.
    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.certificate.der.clone(), self.ca.clone()]
    }

    /// The CA's certificate.
    pub(crate) fn ca(&self) -> &CertificateDer<'static> {
        &self.ca
    }
}

#[cfg(test)]
mod tests;

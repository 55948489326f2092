//! The identity on disk: one PEM file with certificate, CA and key together, so that they are replaced together.
//!
//! ```text
//!   key.pem            the key a join is made with, kept so that a repeated join is the same node
//!   identity.pem       who this node is
//!   identity.next.pem  who it will be once its new key is committed (see Identity::rotate)
//! ```

use super::{Identity, IdentityError, KeyError, NodeKey};
use crate::durable;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, pem::PemObject};
use std::{
    io,
    path::{Path, PathBuf},
};
use waifud_model::digest::Fingerprint;

/// Columns of base64 in PEM (RFC 7468, section 2).
const PEM_COLUMNS: usize = 64;

/// Why the identity could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum DirError {
    /// The file system refused.
    #[error("{path} could not be {action}", path = path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// "read" or "written".
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A file lacks a part.
    #[error("{path} does not hold {missing}", path = path.display())]
    Incomplete {
        /// Which file.
        path: PathBuf,
        /// What it should have held.
        missing: &'static str,
    },
    /// A file's parts do not make an identity.
    #[error("{path} does not hold an identity", path = path.display())]
    Identity {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: IdentityError,
    },
    /// A key does not read or could not be made.
    #[error("{path} does not hold a key", path = path.display())]
    Key {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: KeyError,
    },
}

/// The directory that holds a node's identity. Blocking; for start, join and renewal.
#[derive(Debug, Clone)]
pub struct IdentityDir {
    dir: PathBuf,
}

impl IdentityDir {
    /// Opens `dir`; makes it, for this user alone, if it is not there.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, DirError> {
        let dir = dir.into();
        match durable::private_dir(&dir) {
            Ok(()) => Ok(Self { dir }),
            Err(source) => Err(DirError::Io { path: dir, action: "written", source }),
        }
    }

    /// The identity, if this node has one.
    ///
    /// # Errors
    /// The file is there but unusable.
    pub fn load(&self) -> Result<Option<Identity>, DirError> {
        read_identity(&self.current())
    }

    /// Keeps `identity`, durably.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn save(&self, identity: &Identity) -> Result<(), DirError> {
        write(&self.current(), to_pem(identity).as_bytes())
    }

    /// Keeps the identity that is to follow, before its key is proposed: were it kept after, a crash in between would
    /// leave a member that nobody can be.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn save_next(&self, identity: &Identity) -> Result<(), DirError> {
        write(&self.next(), to_pem(identity).as_bytes())
    }

    /// The identity that is to follow, if a rotation is under way.
    ///
    /// # Errors
    /// The file is there but unusable.
    pub fn load_next(&self) -> Result<Option<Identity>, DirError> {
        read_identity(&self.next())
    }

    /// The node table now knows this node by `committed`: if that is the identity that was to follow, it becomes the
    /// current one and is returned. Harmless to repeat.
    ///
    /// # Errors
    /// A file is unusable, or the file system refuses.
    pub fn promote(&self, committed: Fingerprint) -> Result<Option<Identity>, DirError> {
        let Some(next) = self.load_next()?.filter(|next| next.fingerprint() == committed) else { return Ok(None) };
        durable::rename(&self.next(), &self.current()).map_err(|source| DirError::Io {
            path: self.current(),
            action: "written",
            source,
        })?;
        Ok(Some(next))
    }

    /// The key to join with: the one of an earlier try, or a new one that is kept.
    ///
    /// # Errors
    /// The file is unusable, or the file system refuses.
    pub fn join_key(&self) -> Result<NodeKey, DirError> {
        let path = self.dir.join("key.pem");
        let explain = |source| DirError::Key { path: path.clone(), source };
        if let Some(pem) = read(&path)? {
            let der = PrivatePkcs8KeyDer::from_pem_slice(&pem).map_err(|e| explain(e.into()))?;
            return NodeKey::from_der(der.secret_pkcs8_der()).map_err(explain);
        }
        let key = NodeKey::generate().map_err(explain)?;
        write(&path, key.to_pem().as_bytes())?;
        Ok(key)
    }

    fn current(&self) -> PathBuf {
        self.dir.join("identity.pem")
    }

    fn next(&self) -> PathBuf {
        self.dir.join("identity.next.pem")
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, DirError> {
    durable::read(path).map_err(|source| DirError::Io { path: path.to_owned(), action: "read", source })
}

fn write(path: &Path, content: &[u8]) -> Result<(), DirError> {
    durable::replace(path, content).map_err(|source| DirError::Io { path: path.to_owned(), action: "written", source })
}

fn read_identity(path: &Path) -> Result<Option<Identity>, DirError> {
    let Some(pem) = read(path)? else { return Ok(None) };
    let incomplete = |missing| DirError::Incomplete { path: path.to_owned(), missing };
    let explain = |source| DirError::Identity { path: path.to_owned(), source };
    let certificates: Vec<_> =
        CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().map_err(|_| incomplete("certificates"))?;
    let [certificate, ca] = certificates.as_slice() else { return Err(incomplete("a certificate and its CA's")) };
    let key = PrivatePkcs8KeyDer::from_pem_slice(&pem).map_err(|e| explain(KeyError::from(e).into()))?;
    let key = NodeKey::from_der(key.secret_pkcs8_der()).map_err(|e| explain(e.into()))?;
    Identity::new(key, certificate, ca).map(Some).map_err(explain)
}

fn to_pem(identity: &Identity) -> String {
    let mut text: String = identity.chain().iter().map(|der| certificate_pem(der)).collect();
    text.push_str(&identity.key().to_pem());
    text
}

fn certificate_pem(der: &[u8]) -> String {
    let base64 = STANDARD.encode(der);
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(PEM_COLUMNS));
        text.push_str(line);
        text.push('\n');
        rest = tail;
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}

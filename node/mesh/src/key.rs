//! WireGuard keys, as `wg` prints them, and the file that holds a node's own.
//!
//! A private key never appears in a log or an error: its `Debug` hides it, it has no `Display`, and it is wiped when dropped.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use boringtun::x25519;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The text is not a key.
    #[error("a WireGuard key is 32 bytes in base64, 44 characters")]
    Malformed,
    /// Others could have read the key, so it is no secret any more.
    #[error("{0} can be read by others (mode {1:03o}); remove it and a new key is made")]
    Readable(PathBuf, u32),
    /// The file could not be read or made.
    #[error("cannot read or make the key file {path}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The system has no randomness.
    #[error("the system gives no random bytes: {0}")]
    Random(String),
}

/// A private key. Cloning is cheap; what is dropped is wiped.
#[derive(Clone)]
pub struct PrivateKey(x25519::StaticSecret);

impl PrivateKey {
    /// A new one out of the kernel's randomness.
    ///
    /// # Errors
    /// The kernel gives none.
    pub fn generate() -> Result<Self, KeyError> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|error| KeyError::Random(error.to_string()))?;
        // As `wg genkey` does, so that the text of a key is the same in both (RFC 7748, section 5).
        bytes[0] &= 248;
        bytes[31] = (bytes[31] & 127) | 64;
        Ok(Self::from_bytes(bytes))
    }

    /// The key that these bytes are.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(x25519::StaticSecret::from(bytes))
    }

    /// The key in the file, or a new one that is then in it, readable by its owner only. The directory is made if it lacks.
    ///
    /// # Errors
    /// The file cannot be read or made, holds something else, or others can read it.
    pub fn load_or_make(path: &Path) -> Result<Self, KeyError> {
        let failed = |source| KeyError::File { path: path.to_owned(), source };
        match File::open(path) {
            Ok(file) => Self::load(path, file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key = Self::generate()?;
                key.save(path).map_err(failed)?;
                Ok(key)
            }
            Err(error) => Err(failed(error)),
        }
    }

    fn load(path: &Path, mut file: File) -> Result<Self, KeyError> {
        let failed = |source| KeyError::File { path: path.to_owned(), source };
        let mode = file.metadata().map_err(failed)?.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyError::Readable(path.to_owned(), mode));
        }
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(failed)?;
        text.trim().parse()
    }

    /// Written beside and renamed: a power cut leaves no file or the whole file, never a key that nobody has.
    fn save(&self, path: &Path) -> io::Result<()> {
        let directory = path.parent().unwrap_or(Path::new("."));
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let beside = path.with_extension("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        // `mode` is only for a file that is made; what a crash left may have another.
        file.set_permissions(Permissions::from_mode(0o600))?;
        writeln!(file, "{}", self.to_base64())?;
        file.sync_all()?;
        std::fs::rename(&beside, path)?;
        File::open(directory)?.sync_all()
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(x25519::PublicKey::from(&self.0).to_bytes())
    }

    /// As `wg genkey` prints it: for the configuration of a laptop, never for a log.
    #[must_use]
    pub fn to_base64(&self) -> String {
        STANDARD.encode(self.0.to_bytes())
    }

    /// The bytes, for the kernel.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    pub(crate) fn secret(&self) -> x25519::StaticSecret {
        self.0.clone()
    }
}

impl PartialEq for PrivateKey {
    fn eq(&self, other: &Self) -> bool {
        // The public halves are equal exactly when the private ones are, and comparing them tells nobody anything.
        self.public() == other.public()
    }
}

impl Eq for PrivateKey {}

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PrivateKey(of {})", self.public())
    }
}

impl FromStr for PrivateKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        decode(text).map(Self::from_bytes)
    }
}

/// A public key: who a peer is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// The key that these bytes are.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub(crate) fn point(&self) -> x25519::PublicKey {
        x25519::PublicKey::from(self.0)
    }
}

impl std::fmt::Display for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        decode(text).map(Self)
    }
}

fn decode(text: &str) -> Result<[u8; 32], KeyError> {
    STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok()).ok_or(KeyError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // RFC 7748, section 6.1: Alice's key pair.
    const ALICE: [u8; 32] = [
        0x77, 0x07, 0x6d, 0x0a, 0x73, 0x18, 0xa5, 0x7d, 0x3c, 0x16, 0xc1, 0x72, 0x51, 0xb2, 0x66, 0x45, 0xdf, 0x4c,
        0x2f, 0x87, 0xeb, 0xc0, 0x99, 0x2a, 0xb1, 0x77, 0xfb, 0xa5, 0x1d, 0xb9, 0x2c, 0x2a,
    ];

    #[test]
    fn the_public_half_is_what_the_rfc_says() {
        let key = PrivateKey::from_bytes(ALICE);
        assert_eq!(key.public().to_string(), "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=");
    }

    #[test]
    fn a_private_key_is_not_printed() {
        let key = PrivateKey::from_bytes(ALICE);
        assert!(!format!("{key:?}").contains(&key.to_base64()));
        assert!(format!("{key:?}").contains(&key.public().to_string()));
    }

    #[test]
    fn a_key_file_is_made_once_and_read_ever_after() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("mesh/key");
        let made = PrivateKey::load_or_make(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(PrivateKey::load_or_make(&path).unwrap(), made);
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("key");
        PrivateKey::load_or_make(&path).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(PrivateKey::load_or_make(&path), Err(KeyError::Readable(_, 0o640))));
    }

    #[test]
    fn a_file_with_something_else_is_left_alone() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("key");
        std::fs::write(&path, "not a key").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(PrivateKey::load_or_make(&path), Err(KeyError::Malformed)));
        assert_eq!(std::fs::read(&path).unwrap(), b"not a key");
    }

    proptest! {
        #[test]
        fn text_and_back(bytes in any::<[u8; 32]>()) {
            let public = PublicKey::from_bytes(bytes);
            prop_assert_eq!(public.to_string().parse::<PublicKey>().unwrap(), public);
            prop_assert_eq!(PrivateKey::from_bytes(bytes).to_base64().parse::<PrivateKey>().unwrap(), PrivateKey::from_bytes(bytes));
        }

        #[test]
        fn other_text_is_refused(text in "[A-Za-z0-9+/=]{0,50}") {
            if text.len() != 44 {
                prop_assert!(text.parse::<PublicKey>().is_err());
            }
        }
    }
}

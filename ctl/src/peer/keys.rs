//! WireGuard key pairs (Curve25519, RFC 7748), made of this machine's own randomness.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rand::{TryRng as _, rngs::SysRng};
use std::fmt;
use waifud_model::mesh::MeshKey;
use x25519_dalek::{PublicKey, StaticSecret};

/// A private key. Its text is for the configuration alone.
pub(crate) struct PrivateKey(StaticSecret);

impl PrivateKey {
    /// A fresh one, from the kernel's randomness.
    ///
    /// # Errors
    /// If the kernel has none.
    pub(crate) fn random() -> Result<Self, rand::rngs::SysError> {
        let mut bytes = [0; 32];
        SysRng.try_fill_bytes(&mut bytes)?;
        Ok(Self::of(bytes))
    }

    fn of(mut bytes: [u8; 32]) -> Self {
        // RFC 7748, section 5: what every user of the key does to it anyway. Done here, its text is as `wg genkey` prints it.
        bytes[0] &= 0b1111_1000;
        bytes[31] = bytes[31] & 0b0111_1111 | 0b0100_0000;
        Self(StaticSecret::from(bytes))
    }

    /// Its other half, for the cluster.
    pub(crate) fn public(&self) -> MeshKey {
        MeshKey(PublicKey::from(&self.0).to_bytes())
    }

    /// The key itself, as `wg` writes it.
    pub(super) fn secret(&self) -> String {
        STANDARD.encode(self.0.as_bytes())
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey(of {})", self.public())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_halves_belong_together() {
        // A pair as `wg genkey` and `wg pubkey` print it.
        let private = "AMO7blwQCGpGcNVkoPZeTwc/tavhTzen7uJoZmtaAns=";
        let public = "Q90puoT1A0zu1Zt3uZtfJMomvil8sHOAxxGau3pgkW8=";
        let key = PrivateKey::of(STANDARD.decode(private).unwrap().try_into().unwrap());
        assert_eq!((key.secret().as_str(), key.public().to_string().as_str()), (private, public));
        assert!(!format!("{key:?}").contains(&key.secret()));
    }

    #[test]
    fn no_two_are_alike() {
        assert_ne!(PrivateKey::random().unwrap().public(), PrivateKey::random().unwrap().public());
    }
}

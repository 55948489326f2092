//! Proof of knowing a token's key, bound to one TLS session so that it cannot be carried into another.
//!
//! HMAC-SHA256 over exported keying material (RFC 8446, section 7.5; RFC 5705) and the message. The two directions use
//! different labels: a proof never passes for its own answer.

use ring::hmac;

/// Length of a proof.
pub(super) const PROOF_LEN: usize = 32;
/// Length of the exported keying material.
const SESSION_LEN: usize = 32;

/// Which way a message goes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Direction {
    Request,
    Welcome,
}

impl Direction {
    fn label(self) -> &'static [u8] {
        match self {
            Self::Request => b"EXPORTER-waifud-join-request",
            Self::Welcome => b"EXPORTER-waifud-join-welcome",
        }
    }
}

/// Why a proof cannot be made or does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum ProofError {
    #[error("the TLS session gave no keying material")]
    Session,
    #[error("the proof does not hold")]
    Wrong,
}

fn session(connection: &quinn::Connection, direction: Direction) -> Result<[u8; SESSION_LEN], ProofError> {
    let mut material = [0; SESSION_LEN];
    connection.export_keying_material(&mut material, direction.label(), b"").map_err(|_| ProofError::Session)?;
    Ok(material)
}

/// Proves `message` with `key`.
pub(super) fn prove(
    connection: &quinn::Connection,
    direction: Direction,
    key: &[u8; 32],
    message: &[u8],
) -> Result<[u8; PROOF_LEN], ProofError> {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    context.update(&session(connection, direction)?);
    context.update(message);
    let mut proof = [0; PROOF_LEN];
    proof.copy_from_slice(context.sign().as_ref());
    Ok(proof)
}

/// Checks the other side's proof, in constant time.
pub(super) fn check(
    connection: &quinn::Connection,
    direction: Direction,
    key: &[u8; 32],
    message: &[u8],
    proof: &[u8; PROOF_LEN],
) -> Result<(), ProofError> {
    let mut signed = session(connection, direction)?.to_vec();
    signed.extend_from_slice(message);
    hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, key), &signed, proof).map_err(|_| ProofError::Wrong)
}

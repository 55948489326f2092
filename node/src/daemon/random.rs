//! Randomness from the operating system: ids, secrets and names are drawn from it.

/// `N` unpredictable bytes.
///
/// # Panics
/// If the kernel has no randomness to give: nothing that needs a secret may go on without.
#[must_use]
#[expect(
    clippy::expect_used,
    reason = "going on without randomness would make guessable keys; the kernel only refuses when it is broken"
)]
pub(super) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the kernel gives random bytes");
    bytes
}

/// The source as the web crate wants it.
#[derive(Debug, Clone, Copy)]
pub(super) struct SystemRandom;

impl waifud_web::ports::Random for SystemRandom {
    #[expect(clippy::expect_used, reason = "see `bytes`")]
    fn fill(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the kernel gives random bytes");
    }
}

//! The digest of the replicated state, computed with measure: it reads every row, years of events too.
//!
//! In: the replica. Out: the digest at an index, not always the newest one. What is cheap is always fresh; what takes long
//! is computed again only after twenty times as long, so that no page that is kept open burns more than a twentieth of a core.

use crate::problem::Failure;
use std::time::Duration;
use tokio::{sync::Mutex, time::Instant};
use waifud_api::cluster::StateDigest;
use waifud_consensus::Handle;

/// How many times its cost a digest is kept.
const REST: u32 = 20;

/// The last digest, and what it cost.
#[derive(Debug, Default)]
pub struct DigestCache(Mutex<Option<Computed>>);

#[derive(Debug, Clone, Copy)]
struct Computed {
    digest: StateDigest,
    at: Instant,
    cost: Duration,
}

impl DigestCache {
    /// The digest, computed now or not long ago.
    pub(crate) async fn get(&self, consensus: &Handle) -> Result<StateDigest, Failure> {
        // Held while computing: those who ask meanwhile want the same.
        let mut last = self.0.lock().await;
        let began = Instant::now();
        if let Some(Computed { digest, at, cost }) = *last
            && (digest.index == consensus.applied().borrow().index || began < at + cost * REST)
        {
            return Ok(digest);
        }
        let (index, digest) = consensus.state_digest().await.map_err(Failure::Digest)?;
        let digest = StateDigest { index, digest };
        *last = Some(Computed { digest, at: Instant::now(), cost: began.elapsed() });
        Ok(digest)
    }
}

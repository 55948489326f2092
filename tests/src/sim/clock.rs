//! Wall clocks that are wrong, each by an amount of its own. Waiting is done on tokio's clock, which is right for all.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};
use tokio::time::Instant;
use waifud_model::time::Timestamp;

/// When every simulation begins: some day in 2026.
const BEGAN: u64 = 1_780_000_000_000;

/// One host's wall clock.
#[derive(Debug, Clone)]
pub(crate) struct WallClock {
    began: Instant,
    /// Milliseconds it is off.
    off: Arc<AtomicI64>,
}

impl WallClock {
    /// A clock that is right.
    pub(crate) fn new(began: Instant) -> Self {
        Self { began, off: Arc::default() }
    }

    /// From now on it is off by so many milliseconds.
    pub(crate) fn set_off(&self, millis: i64) {
        self.off.store(millis, Ordering::Relaxed);
    }

    /// How far it is off.
    pub(crate) fn off(&self) -> i64 {
        self.off.load(Ordering::Relaxed)
    }

    /// What it shows.
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp(BEGAN.saturating_add_signed(self.off())).plus(self.began.elapsed())
    }
}

impl waifud_node::reconcile::Clock for WallClock {
    fn now(&self) -> Timestamp {
        Self::now(self)
    }
}

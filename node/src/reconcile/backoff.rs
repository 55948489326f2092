//! How long to wait before the next try: twice as long after each failure, up to a bound.

use std::{fmt, sync::Arc, time::Duration};

/// Waiting times that double. The spread keeps many VMs that failed together from trying together; it is injected, so that
/// simulations draw it from their seed and tests have none.
#[derive(Clone)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    spread: Arc<dyn Fn(Duration) -> Duration + Send + Sync>,
}

impl fmt::Debug for Backoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backoff").field("first", &self.first).field("most", &self.most).finish_non_exhaustive()
    }
}

impl Backoff {
    /// From `first`, doubling, to `most`; without spread.
    #[must_use]
    pub fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, spread: Arc::new(|delay| delay) }
    }

    /// The same, and what `spread` makes of each waiting time.
    #[must_use]
    pub fn spread(self, spread: impl Fn(Duration) -> Duration + Send + Sync + 'static) -> Self {
        Self { spread: Arc::new(spread), ..self }
    }

    /// How long to wait after this many failures in a row; zero after none.
    #[must_use]
    pub fn delay(&self, failures: u32) -> Duration {
        let Some(doublings) = failures.checked_sub(1) else { return Duration::ZERO };
        // 2^20 seconds are twelve days: whatever the bound, it is reached by then.
        let delay = self.first.saturating_mul(1 << doublings.min(20)).min(self.most);
        (self.spread)(delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_doubles_up_to_a_bound() {
        let backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        let delays: Vec<_> = (0..9).map(|n| backoff.delay(n).as_secs()).collect();
        assert_eq!(delays, [0, 1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(backoff.delay(u32::MAX).as_secs(), 60);
        assert_eq!(backoff.spread(|d| d / 2).delay(1), Duration::from_millis(500));
    }
}

//! How often a guest may ask: a token bucket for each address.
//!
//! Bounded: a bucket that has filled up again is as good as none and is thrown away when room is needed. Takes the time as an
//! argument.

use std::{
    collections::HashMap,
    net::Ipv4Addr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Buckets that are kept: as many as a node has guests on its largest bridge, and more than may be connected at once.
const BUCKETS: usize = 4096;

/// How often a guest may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Requests a second, in the long run; at least one.
    pub per_second: u32,
    /// Requests at once, after a pause; at least one.
    pub burst: u32,
}

/// A booting cloud-init asks some 50 things at once, and an agent that polls asks once in some seconds.
impl Default for Rate {
    fn default() -> Self {
        Self { per_second: 100, burst: 400 }
    }
}

/// All guests' buckets.
#[derive(Debug)]
pub(super) struct Buckets {
    /// What one request takes.
    each: Duration,
    /// What a full bucket holds.
    full: Duration,
    /// When each bucket will be full again.
    full_at: Mutex<HashMap<Ipv4Addr, Instant>>,
}

impl Buckets {
    pub(super) fn new(rate: Rate) -> Self {
        let each = Duration::from_secs(1) / rate.per_second.max(1);
        Self { each, full: each * rate.burst.max(1), full_at: Mutex::default() }
    }

    /// Takes one request of `guest` at `now` off its bucket. If that is empty: how long until there is one.
    pub(super) fn take(&self, guest: Ipv4Addr, now: Instant) -> Result<(), Duration> {
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        if full_at.len() >= BUCKETS && !full_at.contains_key(&guest) {
            full_at.retain(|_, at| *at > now);
            if full_at.len() >= BUCKETS {
                // All of them ask at this moment; whoever comes late is not refused for it.
                return Ok(());
            }
        }
        let at = full_at.entry(guest).or_insert(now);
        let next = (*at).max(now) + self.each;
        match next.checked_duration_since(now + self.full) {
            Some(wait) if !wait.is_zero() => Err(wait),
            _ => {
                *at = next;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUEST: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

    #[test]
    fn a_burst_passes_then_the_rate_holds_and_others_notice_nothing() {
        let (buckets, start) = (Buckets::new(Rate { per_second: 10, burst: 3 }), Instant::now());
        for _ in 0..3 {
            assert_eq!(buckets.take(GUEST, start), Ok(()));
        }
        assert_eq!(buckets.take(GUEST, start), Err(Duration::from_millis(100)));
        assert_eq!(buckets.take(Ipv4Addr::new(10, 77, 0, 3), start), Ok(()));
        let later = start + Duration::from_millis(100);
        assert_eq!(buckets.take(GUEST, later), Ok(()));
        assert!(buckets.take(GUEST, later).is_err());
        // A long pause fills it, and no further.
        let much_later = start + Duration::from_secs(100);
        assert_eq!((0..10).filter(|_| buckets.take(GUEST, much_later).is_ok()).count(), 3);
    }

    #[test]
    fn full_buckets_are_forgotten_when_there_are_too_many() {
        let (buckets, start) = (Buckets::new(Rate { per_second: 10, burst: 3 }), Instant::now());
        for n in 0..BUCKETS {
            let guest = Ipv4Addr::from_bits(u32::try_from(n).unwrap());
            assert_eq!(buckets.take(guest, start), Ok(()));
        }
        assert_eq!(buckets.take(GUEST, start), Ok(()));
        assert_eq!(buckets.full_at.lock().unwrap().len(), BUCKETS);
        assert_eq!(buckets.take(GUEST, start + Duration::from_secs(1)), Ok(()));
        assert_eq!(buckets.full_at.lock().unwrap().len(), 1);
    }
}

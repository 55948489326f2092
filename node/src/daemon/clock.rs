//! The wall clock: read here and handed to whoever may know the time.
//! How far it is from those of the others is [`skew`](super::skew)'s business.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};
use waifud_model::time::Timestamp;

/// Now, by this machine's clock.
#[must_use]
pub(super) fn now() -> Timestamp {
    since_epoch(SystemTime::now())
}

/// The same moment in our words. One before 1970 reads as 1970.
#[must_use]
pub(super) fn since_epoch(moment: SystemTime) -> Timestamp {
    let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// The clock as a value.
#[must_use]
pub(super) fn wall() -> Arc<dyn Fn() -> Timestamp + Send + Sync> {
    Arc::new(now)
}

/// The clock as the web crate wants it.
#[derive(Debug, Clone, Copy)]
pub(super) struct WallClock;

impl waifud_web::ports::Clock for WallClock {
    fn now(&self) -> Timestamp {
        now()
    }
}

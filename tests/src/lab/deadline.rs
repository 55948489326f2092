//! Waiting for something to become true, with a limit.
//!
//! Tests never sleep for a fixed time and hope: they wait on a level, and fail saying what did not come.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Short beside anything that is waited for, and long enough to leave the processor to it.
const PAUSE: Duration = Duration::from_millis(10);

/// Asks until there is an answer and returns it.
///
/// # Errors
/// When there is none within `limit`; the message says `what` was missing.
pub fn eventually<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = ask() {
            return Ok(answer);
        }
        if Instant::now() >= deadline {
            bail!("{what} did not come within {limit:?}");
        }
        std::thread::sleep(PAUSE);
    }
}

//! Fault injection for the in-memory fakes of the node's edges: an operation can be made to fail a number of times, to
//! hang, or to take its time. In: a script written by a test or a simulation; out: what the next call of an operation
//! meets. It draws no randomness and waits on tokio's clock only, so that the same script gives the same run. Nothing
//! outside of fakes may use it.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    io,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::watch;

/// The script of one fake. `O` names its operations.
#[derive(Debug)]
pub struct Faults<O> {
    failures: Mutex<BTreeMap<O, u32>>,
    slow: Mutex<BTreeMap<O, Duration>>,
    hanging: watch::Sender<Vec<O>>,
}

impl<O> Default for Faults<O> {
    fn default() -> Self {
        Self { failures: Mutex::default(), slow: Mutex::default(), hanging: watch::Sender::new(Vec::new()) }
    }
}

impl<O: Ord + Copy + Debug> Faults<O> {
    /// The next `times` calls of `operation` fail.
    pub fn fail(&self, operation: O, times: u32) {
        lock(&self.failures).insert(operation, times);
    }

    /// Calls of `operation` take this long from now on, by tokio's clock.
    pub fn delay(&self, operation: O, by: Duration) {
        lock(&self.slow).insert(operation, by);
    }

    /// Calls of `operation` do not return until [`Self::release`].
    pub fn hang(&self, operation: O) {
        self.hanging.send_modify(|hanging| hanging.push(operation));
    }

    /// Calls of `operation` that hang go on.
    pub fn release(&self, operation: O) {
        self.hanging.send_modify(|hanging| hanging.retain(|o| *o != operation));
    }

    /// Everything works again, at once.
    pub fn heal(&self) {
        lock(&self.failures).clear();
        lock(&self.slow).clear();
        self.hanging.send_replace(Vec::new());
    }

    /// What a call of `operation` meets before it does its work.
    ///
    /// # Errors
    /// If the script says so.
    pub async fn meet(&self, operation: O) -> io::Result<()> {
        let delay = lock(&self.slow).get(&operation).copied();
        if let Some(delay) = delay {
            tokio::time::sleep(delay).await;
        }
        // The sender lives in `self`, so waiting cannot end with an error.
        self.hanging.subscribe().wait_for(|hanging| !hanging.contains(&operation)).await.ok();
        match lock(&self.failures).get_mut(&operation) {
            Some(left) if *left > 0 => {
                *left -= 1;
                Err(io::Error::other(format!("injected fault in {operation:?}")))
            }
            _ => Ok(()),
        }
    }
}

/// Fakes hold plain maps under these locks and no code between can leave them half changed, so a panic elsewhere is no
/// reason to fail here.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_script_is_followed() {
        let faults = Faults::default();
        faults.fail('a', 2);
        faults.delay('b', Duration::from_secs(5));
        assert!(faults.meet('a').await.is_err() && faults.meet('a').await.is_err());
        assert!(faults.meet('a').await.is_ok());
        let before = tokio::time::Instant::now();
        faults.meet('b').await.unwrap();
        assert_eq!(before.elapsed(), Duration::from_secs(5));
        faults.hang('a');
        assert!(tokio::time::timeout(Duration::from_secs(3600), faults.meet('a')).await.is_err());
        faults.release('a');
        faults.meet('a').await.unwrap();
    }
}

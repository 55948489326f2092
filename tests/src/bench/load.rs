//! Clients in a closed loop: each sends its next request when the last one was answered. Most of them write.
//!
//! In: one [`Writer`] for each client. Out: how long every write took. The clients share the machine with what they
//! measure, and so are made as lean as each protocol allows, for both sides.

use anyhow::{Context, Result, anyhow};
use serde::{Deserialize, Serialize};
use std::{
    future::Future,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// One client, with a connection of its own.
pub(super) trait Writer: Send + 'static {
    /// One durable write, from the request to its acknowledgement; or one of whatever else is measured.
    fn write(&mut self) -> impl Future<Output = Result<()>> + Send;
}

/// For how long.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Pace {
    /// Not counted: connections and caches warm up.
    pub(super) warm_up: Duration,
    /// Counted.
    pub(super) time: Duration,
}

/// What came of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Measured {
    /// How long each acknowledged write took.
    took: Vec<Duration>,
    /// For how long there were writes.
    time: Duration,
    /// Acknowledged writes in all, those of the warming up included: what counters of the whole run are divided by.
    written: usize,
}

impl Measured {
    /// From single measurements, taken one after the other.
    pub(super) fn of(took: Vec<Duration>) -> Self {
        let (time, written) = (took.iter().sum(), took.len());
        Self::during(took, time, written)
    }

    fn during(mut took: Vec<Duration>, time: Duration, written: usize) -> Self {
        took.sort_unstable();
        Self { took, time, written }
    }

    /// Together with what others measured at the same time.
    #[must_use]
    pub(super) fn and(mut self, others: Self) -> Self {
        self.took.extend(others.took);
        Self::during(self.took, self.time.max(others.time), self.written + others.written)
    }

    /// The time that this share of the writes did not exceed.
    pub(super) fn quantile(&self, share: f64) -> Duration {
        let last = self.took.len().saturating_sub(1);
        let at = (last as f64 * share).round() as usize;
        self.took.get(at).copied().unwrap_or_default()
    }

    /// The longest.
    pub(super) fn max(&self) -> Duration {
        self.took.last().copied().unwrap_or_default()
    }

    /// Acknowledged writes in all, those of the warming up included.
    pub(super) fn written(&self) -> f64 {
        self.written as f64
    }

    /// Writes a second.
    pub(super) fn rate(&self) -> f64 {
        if self.time.is_zero() { 0.0 } else { self.took.len() as f64 / self.time.as_secs_f64() }
    }
}

/// Lets all writers write.
///
/// # Errors
/// When any write fails: a system that loses writes under load is not measured further.
pub(super) async fn drive<W: Writer>(writers: Vec<W>, pace: Pace) -> Result<Measured> {
    let begin = Instant::now() + pace.warm_up;
    let end = begin + pace.time;
    let mut clients = JoinSet::new();
    for mut writer in writers {
        clients.spawn(async move {
            let (mut took, mut written) = (Vec::new(), 0);
            loop {
                let sent = Instant::now();
                if sent >= end {
                    return anyhow::Ok((took, written));
                }
                writer.write().await?;
                written += 1;
                if sent >= begin {
                    took.push(sent.elapsed());
                }
            }
        });
    }
    let (mut all, mut written) = (Vec::new(), 0);
    while let Some(client) = clients.join_next().await {
        let (took, wrote) = client.context("a client died")?.context("a request under load failed")?;
        all.extend(took);
        written += wrote;
    }
    if all.is_empty() {
        return Err(anyhow!("no request was answered within {:?}", pace.time));
    }
    // The last ones were answered after the end; for as long as that took there were writes too.
    Ok(Measured::during(all, begin.elapsed(), written))
}

/// Lets the writers do this many writes together, and measures each.
///
/// # Errors
/// When any write fails.
pub(super) async fn count<W: Writer>(writers: &mut [W], writes: usize) -> Result<Measured> {
    let begun = Instant::now();
    let left = AtomicUsize::new(writes);
    let clients = writers.iter_mut().map(async |writer| {
        let mut took = Vec::new();
        while left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok() {
            let sent = Instant::now();
            writer.write().await?;
            took.push(sent.elapsed());
        }
        anyhow::Ok(took)
    });
    let took = futures::future::try_join_all(clients).await?.concat();
    Ok(Measured::during(took, begun.elapsed(), writes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_what_was_measured() {
        let measured = Measured::of((1..=101).rev().map(Duration::from_millis).collect());
        assert_eq!(measured.quantile(0.0), Duration::from_millis(1));
        assert_eq!(measured.quantile(0.5), Duration::from_millis(51));
        assert_eq!(measured.quantile(0.99), Duration::from_millis(100));
        assert_eq!(measured.max(), Duration::from_millis(101));
        assert_eq!(Measured::default().quantile(0.5), Duration::ZERO);
    }

    #[test]
    fn what_is_measured_side_by_side_is_added() {
        let one = Measured::during(vec![Duration::from_millis(2); 10], Duration::from_secs(1), 12);
        let both = one.clone().and(one);
        assert_eq!((both.rate(), both.written()), (20.0, 24.0));
    }

    struct Broken(u32);

    impl Writer for Broken {
        async fn write(&mut self) -> Result<()> {
            self.0 = self.0.checked_sub(1).context("no more")?;
            tokio::task::yield_now().await;
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_failed_write_is_not_passed_over() {
        let pace = Pace { warm_up: Duration::ZERO, time: Duration::from_secs(60) };
        let error = drive(vec![Broken(5)], pace).await.unwrap_err();
        assert!(format!("{error:#}").contains("no more"));
        assert!(count(&mut [Broken(5)], 6).await.is_err());
    }

    #[tokio::test]
    async fn writers_share_a_count() {
        let mut writers = [Broken(5), Broken(5)];
        let measured = count(&mut writers, 10).await.unwrap();
        assert_eq!(measured.written(), 10.0);
    }
}

//! For how long nothing is acknowledged when the leader ends.
//!
//! Writes are sent at a steady pace, each on a connection of its own, whether or not those before were answered: a client
//! that waits for an answer that never comes would measure its own patience. All go to one node that stays.

use anyhow::{Context, Result};
use std::{
    future::Future,
    time::{Duration, Instant},
};
use tokio::{sync::mpsc, task::JoinSet};

/// Between two writes. What is shorter than this is not seen.
const EVERY: Duration = Duration::from_millis(5);
/// Writes before the leader ends, so that everything is warm.
const BEFORE: Duration = Duration::from_millis(200);
/// A system that acknowledges nothing for this long is broken, not slow.
const LIMIT: Duration = Duration::from_secs(30);
/// For writes that were under way when the first one was acknowledged again.
const LATE: Duration = Duration::from_secs(2);

/// What the clients saw.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gap {
    /// The longest time between two acknowledgements.
    pub(super) longest: Duration,
    /// Writes that failed, or were not answered in time.
    pub(super) failed: usize,
}

/// Sends writes by `probe` while `end` ends the leader, and until a write that was sent after that is acknowledged.
pub(super) async fn around<F>(probe: impl Fn() -> F + Send + 'static, end: impl FnOnce() -> Result<()>) -> Result<Gap>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let (answers, mut answered) = mpsc::unbounded_channel();
    let sending = tokio::spawn(async move {
        let mut ticks = tokio::time::interval(EVERY);
        let mut probes = JoinSet::new();
        while !answers.is_closed() {
            ticks.tick().await;
            while probes.try_join_next().is_some() {}
            let (write, answers) = (probe(), answers.clone());
            probes.spawn(async move {
                let at = Instant::now();
                let acknowledged = write.await.is_ok();
                // Nobody listens any more once the first write after the end is acknowledged.
                let _ = answers.send(Answer { sent: at, done: Instant::now(), acknowledged });
                acknowledged
            });
        }
        tokio::time::timeout(LATE, probes.join_all()).await.map_or(0, |late| late.iter().filter(|ok| !**ok).count())
    });

    tokio::time::sleep(BEFORE).await;
    let begun = Instant::now();
    tokio::task::block_in_place(end)?;
    let ended = Instant::now();

    let mut answers = Vec::new();
    let back = async {
        while let Some(answer) = answered.recv().await {
            answers.push(answer);
            if answer.acknowledged && answer.sent >= ended {
                return;
            }
        }
    };
    tokio::time::timeout(LIMIT, back).await.context("no write was acknowledged after the leader's end")?;
    drop(answered);
    let late = sending.await?;
    let failed = answers.iter().filter(|answer| !answer.acknowledged).count() + late;
    Ok(Gap { longest: longest(&answers, begun), failed })
}

#[derive(Debug, Clone, Copy)]
struct Answer {
    sent: Instant,
    done: Instant,
    acknowledged: bool,
}

/// The longest time without an acknowledgement, from `begun` on.
fn longest(answers: &[Answer], begun: Instant) -> Duration {
    let mut done: Vec<Instant> = answers.iter().filter(|a| a.acknowledged && a.done > begun).map(|a| a.done).collect();
    done.sort_unstable();
    let before = std::iter::once(begun).chain(done.iter().copied());
    done.iter().zip(before).map(|(later, earlier)| later.duration_since(earlier)).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    };

    #[test]
    fn only_acknowledgements_end_a_gap() {
        let begun = Instant::now();
        let at = |ms, acknowledged| {
            let done = begun + Duration::from_millis(ms);
            Answer { sent: begun, done, acknowledged }
        };
        let answers = [at(90, true), at(10, true), at(50, false), at(100, true)];
        assert_eq!(longest(&answers, begun), Duration::from_millis(80));
        assert_eq!(longest(&[], begun), Duration::ZERO);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_fails_meanwhile_is_counted() {
        let down = Arc::new(AtomicBool::new(false));
        let probe = {
            let down = down.clone();
            move || {
                let down = down.clone();
                async move {
                    anyhow::ensure!(!down.load(Ordering::SeqCst), "down");
                    Ok(())
                }
            }
        };
        let gap = around(probe, || {
            down.store(true, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(100));
            down.store(false, Ordering::SeqCst);
            Ok(())
        });
        let gap = gap.await.unwrap();
        assert!(gap.failed > 0);
        assert!(gap.longest >= Duration::from_millis(80), "{gap:?}");
    }
}

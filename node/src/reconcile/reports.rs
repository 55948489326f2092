//! What this node has to say to the cluster about its VMs, in order and in batches: what happened to guests, and that a
//! deleted VM is gone. Nothing here waits for the cluster but the one task that carries it; without quorum the queue
//! grows up to a bound, and what is lost then is history, not state.

use super::{
    backoff::Backoff,
    ports::{ProposeFailure, Proposer},
};
use crate::faults::lock;
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::Notify;
use waifud_model::{
    command::{Command, VmReport},
    ids::{Generation, VmId},
    reject::Reject,
    vm::Desired,
};

/// Reports in one command. A log entry stays small, and a whole node's guests going down still makes few.
const BATCH: usize = 100;
/// How long to wait for others to come along.
const LINGER: Duration = Duration::from_millis(100);
/// History that is kept while the cluster does not take it.
const QUEUE: usize = 4096;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    Event(VmReport),
    Power(Power),
    Gone(VmId),
}

/// What a guest does becomes what is wanted of it, unless somebody decided otherwise meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Power {
    pub(super) vm: VmId,
    pub(super) desired: Desired,
    /// The generation that this is about.
    pub(super) expect: Generation,
}

impl Entry {
    /// History may be lost; what changes the state may not: its sender counts on it.
    const fn is_history(&self) -> bool {
        matches!(self, Self::Event(VmReport { by_guest: false, .. }))
    }
}

/// The queue of reports.
#[derive(Debug)]
pub(super) struct Reports {
    queue: Mutex<VecDeque<Entry>>,
    filled: Notify,
    boot: u64,
}

impl Reports {
    pub(super) fn new(boot: u64) -> Arc<Self> {
        Arc::new(Self { queue: Mutex::default(), filled: Notify::new(), boot })
    }

    pub(super) fn event(&self, report: VmReport) {
        self.push(Entry::Event(report));
    }

    pub(super) fn power(&self, power: Power) {
        self.push(Entry::Power(power));
    }

    pub(super) fn gone(&self, vm: VmId) {
        self.push(Entry::Gone(vm));
    }

    fn push(&self, entry: Entry) {
        let mut queue = lock(&self.queue);
        // A task that sees no effect says the same again, for as long as there is no quorum.
        if !entry.is_history() && queue.contains(&entry) {
            return;
        }
        if queue.len() >= QUEUE
            && let Some(oldest) = queue.iter().position(Entry::is_history)
        {
            queue.remove(oldest);
            tracing::warn!("the cluster takes no reports; the oldest is dropped");
        }
        queue.push_back(entry);
        self.filled.notify_one();
    }

    /// What comes next: the events up to the next thing that is none, or that.
    fn take(&self) -> Vec<Entry> {
        let mut queue = lock(&self.queue);
        if matches!(queue.front(), Some(Entry::Gone(_) | Entry::Power(_))) {
            return queue.pop_front().into_iter().collect();
        }
        let events = queue.iter().take(BATCH).take_while(|entry| matches!(entry, Entry::Event(_))).count();
        queue.drain(..events).collect()
    }

    /// Carries reports to the cluster; never ends.
    pub(super) async fn carry(&self, proposer: &dyn Proposer) {
        let mut number = 0;
        loop {
            let batch = self.take();
            if batch.is_empty() {
                self.filled.notified().await;
                tokio::time::sleep(LINGER).await;
                continue;
            }
            let Err(refused) = self.propose(proposer, &batch, &mut number).await else { continue };
            if batch.len() == 1 {
                tracing::warn!(error = %refused, report = ?batch[0], "the cluster refused a report");
                continue;
            }
            // One of them spoilt it for all.
            for entry in batch {
                if let Err(refused) = self.propose(proposer, std::slice::from_ref(&entry), &mut number).await {
                    tracing::warn!(error = %refused, report = ?entry, "the cluster refused a report");
                }
            }
        }
    }

    /// Tries until the cluster has an answer.
    async fn propose(&self, proposer: &dyn Proposer, batch: &[Entry], number: &mut u64) -> Result<(), Reject> {
        let (key, command) = match batch {
            [Entry::Gone(vm)] => (format!("vm-gone/{vm}"), Command::ConfirmVmGone { vm: *vm }),
            [Entry::Power(Power { vm, desired, expect })] => {
                let command = Command::SetPower { vm: *vm, desired: *desired, grace: None, expect: Some(*expect) };
                (format!("vm-power/{vm}/{expect}/{desired:?}"), command)
            }
            events => {
                *number += 1;
                let reports = events.iter().filter_map(|entry| match entry {
                    Entry::Event(report) => Some(report.clone()),
                    Entry::Gone(_) | Entry::Power(_) => None,
                });
                let key = format!("vm-events/{:016x}/{number}", self.boot);
                (key, Command::ReportVmEvents(reports.collect()))
            }
        };
        let backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(10));
        let mut failures = 0;
        loop {
            match proposer.propose(&key, command.clone()).await {
                Ok(()) => return Ok(()),
                Err(ProposeFailure::Refused(reject)) => return Err(reject),
                Err(ProposeFailure::NotNow(why)) => {
                    tracing::debug!(why, key, "a report has to wait");
                    failures += 1;
                    tokio::time::sleep(backoff.delay(failures)).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_already_does_not_wait_twice() {
        let reports = Reports::new(1);
        let [one, other] = [[1; 16], [2; 16]].map(VmId::from_random);
        for vm in [one, one, other, one] {
            reports.gone(vm);
        }
        assert_eq!(reports.take(), [Entry::Gone(one)]);
        assert_eq!(reports.take(), [Entry::Gone(other)]);
        assert_eq!(reports.take(), []);
    }
}

//! Takes the wishes that were given without the cluster to it, once it can agree again.
//!
//! In: the wishes, and the records as the replica has them. Out: a command for each wish, meant for the generation it was
//! given on. What somebody decided meanwhile stands: then the wish is dropped, and that is an event of the VM.

use super::overrides::{Override, Overrides, OverridesError};
use crate::reconcile::{Backoff, ProposeFailure, Proposer, Reconciler};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use waifud_consensus::{Applied, Handle, ReadError};
use waifud_model::{
    command::{Command, VmReport},
    event::EventKind,
    ids::{NodeId, VmId},
    observed::VmState,
    reject::Reject,
    vm::{Desired, Phase, Vm},
};

/// How often a guest is looked at for which the record says what the wish says, before the wish is let go.
const LOOK: Duration = Duration::from_secs(1);

/// Keeps the wishes of one node in step with the cluster.
#[derive(Debug)]
pub struct Keeper {
    me: NodeId,
    overrides: Arc<Overrides>,
    consensus: Handle,
    proposer: Arc<dyn Proposer>,
    reconciler: Arc<Reconciler>,
    /// What the cluster has been told, and need not be told again.
    told: BTreeMap<VmId, Override>,
}

/// What becomes of a wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// The cluster has to be told.
    Tell,
    /// The record says the same, and this node sees to it.
    Settle,
    /// It came true, or the VM is gone: nobody needs it any more.
    Done,
    /// Somebody decided otherwise.
    Overtaken,
}

/// Pure: `seen` is what the guest does, if that is known.
fn verdict(me: NodeId, wish: &Override, record: Option<&Vm>, told: bool, seen: Option<VmState>) -> Verdict {
    let Some(vm) = record.filter(|vm| vm.node == me && vm.phase == Phase::Live) else { return Verdict::Done };
    if vm.generation != wish.base {
        return if vm.desired == wish.desired { Verdict::Done } else { Verdict::Overtaken };
    }
    // The record says the same under the generation the wish was given on, where the guest was something else in between:
    // without the wish its end would be taken for its own doing.
    let is_so = VmState::of(wish.desired);
    match (vm.desired == wish.desired, told) {
        (true, true) if seen == Some(is_so) => Verdict::Done,
        (true, true) => Verdict::Settle,
        _ => Verdict::Tell,
    }
}

impl Keeper {
    /// For the wishes of `me`. `reconciler` is what carries them out.
    #[must_use]
    pub fn new(
        me: NodeId,
        overrides: Arc<Overrides>,
        consensus: Handle,
        proposer: Arc<dyn Proposer>,
        reconciler: Arc<Reconciler>,
    ) -> Self {
        Self { me, overrides, consensus, proposer, reconciler, told: BTreeMap::new() }
    }

    /// Works until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let applied = self.consensus.applied();
        stop.run_until_cancelled_owned(self.keep(applied)).await;
    }

    async fn keep(mut self, mut applied: watch::Receiver<Applied>) {
        let mut changed = self.overrides.changed();
        let backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(5));
        let mut failures = 0;
        loop {
            changed.borrow_and_update();
            applied.borrow_and_update();
            let mut look_at = None;
            let mut failed = false;
            for (vm, wish) in self.overrides.all() {
                match self.attend(vm, &wish).await {
                    Ok(true) => look_at = Some(Instant::now() + LOOK),
                    Ok(false) => {}
                    Err(error) => {
                        tracing::debug!(%vm, %error, "a wish that was given here has to wait for the cluster");
                        failed = true;
                    }
                }
            }
            failures = if failed { failures + 1 } else { 0 };
            let again = if failed { Some(Instant::now() + backoff.delay(failures)) } else { look_at };
            tokio::select! {
                moved = changed.changed() => if moved.is_err() { return },
                // A busy cluster moves all the time; who has nothing to tell it only waits for that.
                () = sleep_until(again), if again.is_some() => {}
                moved = applied.changed(), if again.is_none() && !self.overrides.all().is_empty() => {
                    if moved.is_err() { return }
                }
            }
        }
    }

    /// True if it has to be looked at again soon.
    async fn attend(&mut self, vm: VmId, wish: &Override) -> Result<bool, KeeperError> {
        let record = self.consensus.read(move |view| view.vm(vm)).await?;
        let told = self.told.get(&vm) == Some(wish);
        let found = self.verdict(wish, vm, record.as_ref(), told);
        if found != Verdict::Tell {
            return self.conclude(vm, wish, record.as_ref(), found).await;
        }
        if told {
            // This replica has not heard of it yet.
            return Ok(true);
        }
        let Override { desired, grace, base, at } = *wish;
        let command = Command::SetPower { vm, desired, grace, expect: Some(base) };
        // The moment tells two wishes on one generation apart.
        match self.proposer.propose(&format!("vm-override/{vm}/{base}/{}", at.0), command).await {
            Ok(()) | Err(ProposeFailure::Refused(Reject::Stale { .. })) => {}
            Err(ProposeFailure::Refused(reject)) => {
                tracing::warn!(%vm, %reject, "the cluster refused a wish given here");
                return self.conclude(vm, wish, record.as_ref(), Verdict::Overtaken).await;
            }
            Err(error) => return Err(error.into()),
        }
        self.told.insert(vm, *wish);
        Ok(true)
    }

    fn verdict(&self, wish: &Override, vm: VmId, record: Option<&Vm>, told: bool) -> Verdict {
        let seen = self.reconciler.status(vm).map(|status| status.observation.state);
        verdict(self.me, wish, record, told, seen)
    }

    async fn conclude(
        &mut self,
        vm: VmId,
        wish: &Override,
        record: Option<&Vm>,
        verdict: Verdict,
    ) -> Result<bool, KeeperError> {
        match verdict {
            Verdict::Tell | Verdict::Settle => return Ok(true),
            Verdict::Done => tracing::info!(%vm, "a wish given here without the cluster came true"),
            Verdict::Overtaken => self.tell_overtaken(vm, wish, record).await?,
        }
        self.overrides.let_go(vm, wish).await?;
        self.told.remove(&vm);
        Ok(false)
    }

    async fn tell_overtaken(&self, vm: VmId, wish: &Override, record: Option<&Vm>) -> Result<(), KeeperError> {
        let Some(record) = record else { return Ok(()) };
        let word = match wish.desired {
            Desired::Running => "start",
            Desired::Stopped => "stop",
            Desired::Paused => "pause",
        };
        let detail = format!(
            "a {word} that this node was asked for without the cluster does not count: the VM was changed meanwhile \
             (generation {}, then {})",
            wish.base, record.generation
        );
        tracing::warn!(%vm, detail);
        let report = VmReport {
            vm,
            kind: EventKind::Failed,
            generation: record.generation,
            by_guest: false,
            detail: Some(detail),
        };
        let key = format!("vm-override-dropped/{vm}/{}/{}", wish.base, wish.at.0);
        match self.proposer.propose(&key, Command::ReportVmEvents(vec![report])).await {
            Ok(()) => Ok(()),
            // It is in the log at least.
            Err(ProposeFailure::Refused(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Why a wish has to wait.
#[derive(Debug, thiserror::Error)]
enum KeeperError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Propose(#[from] ProposeFailure),
    #[error(transparent)]
    Kept(#[from] OverridesError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::samples;
    use waifud_model::{ids::Generation, time::Timestamp};

    #[test]
    fn what_becomes_of_a_wish() {
        let me = NodeId::from_random(1);
        let wish = |desired| Override { desired, grace: None, base: Generation(1), at: Timestamp(0) };
        let record = |generation, desired| Vm { generation: Generation(generation), desired, ..samples::vm(1) };
        let of = |record: &Vm, desired, told, seen| verdict(me, &wish(desired), Some(record), told, Some(seen));
        let (running, stopped) = (Desired::Running, Desired::Stopped);
        let before = record(1, running);
        assert_eq!(of(&before, stopped, false, VmState::Stopped), Verdict::Tell);
        // Stopped and started again, all without the cluster: the record has said so all along.
        assert_eq!(of(&before, running, false, VmState::Running), Verdict::Tell);
        assert_eq!(of(&before, running, true, VmState::Preparing), Verdict::Settle);
        assert_eq!(of(&before, running, true, VmState::Running), Verdict::Done);
        assert_eq!(of(&record(2, stopped), stopped, true, VmState::Stopped), Verdict::Done);
        assert_eq!(of(&record(2, running), stopped, false, VmState::Stopped), Verdict::Overtaken);
        let deleting = Vm { phase: Phase::Deleting, ..record(2, running) };
        assert_eq!(of(&deleting, stopped, false, VmState::Stopped), Verdict::Done);
        assert_eq!(verdict(me, &wish(stopped), None, false, None), Verdict::Done);
    }
}

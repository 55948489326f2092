//! Writes that wait for Redis: the newest of each VM, bounded, carried out by one task.
//!
//! Level-triggered: what could not be written stays until it can be, or until something newer takes its place. Nobody
//! waits for it.

use super::{
    entry::{Entry, FIELDS, Seal},
    link::{CallError, Link},
    seconds_now,
};
use redis::Pipeline;
use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    ops::Bound::{Excluded, Unbounded},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;
use waifud_model::ids::VmId;

/// Bytes that may wait: as much as a hundred VMs with the largest user-data, or some ten thousand usual ones.
const WAITING: usize = 32 << 20;
/// What a waiting change counts beside its bytes, so that small ones are bounded too.
const EACH: usize = 512;
/// A write is in nobody's way, so a slow network may have its time.
const WRITE_WITHIN: Duration = Duration::from_secs(5);
/// Pause after a write that did not work, the first and the longest.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Too much waits to be written to Redis already.
#[derive(Debug, thiserror::Error)]
#[error("too many changes wait to be written to Redis; this one will be missing there")]
pub struct QueueFull;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    Put(Arc<Entry>),
    Forget(Ipv4Addr),
}

impl Change {
    fn size(&self) -> usize {
        EACH + match self {
            Self::Put(entry) => entry.size(),
            Self::Forget(_) => 0,
        }
    }
}

/// What waits.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    more: Notify,
    done: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    changes: BTreeMap<VmId, Change>,
    bytes: usize,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, vm: VmId, change: Change) -> Result<(), QueueFull> {
        let mut waiting = self.lock();
        let replaced = waiting.changes.get(&vm).map_or(0, Change::size);
        let bytes = waiting.bytes - replaced + change.size();
        if bytes > WAITING {
            return Err(QueueFull);
        }
        waiting.bytes = bytes;
        waiting.changes.insert(vm, change);
        drop(waiting);
        self.more.notify_one();
        Ok(())
    }

    /// What to write after this one, in a circle: one that Redis refuses keeps no other waiting for more than its pause.
    fn after(&self, last: Option<VmId>) -> Option<(VmId, Change)> {
        let waiting = self.lock();
        let later = last.and_then(|last| waiting.changes.range((Excluded(last), Unbounded)).next());
        later.or_else(|| waiting.changes.first_key_value()).map(|(vm, change)| (*vm, change.clone()))
    }

    /// This was written; something newer may wait by now.
    fn written(&self, vm: VmId, written: &Change) {
        let mut waiting = self.lock();
        if waiting.changes.get(&vm) == Some(written) {
            waiting.changes.remove(&vm);
            waiting.bytes -= written.size();
        }
        if waiting.changes.is_empty() {
            self.done.notify_waiters();
        }
    }

    /// Until nothing waits.
    pub(super) async fn drained(&self) {
        loop {
            let done = self.done.notified();
            tokio::pin!(done);
            done.as_mut().enable();
            if self.lock().changes.is_empty() {
                return;
            }
            done.await;
        }
    }
}

/// Writes until `stop`.
pub(super) async fn run(queue: Arc<Queue>, link: Arc<Link>, seal: Seal, ttl: Duration, stop: CancellationToken) {
    let work = async {
        let (mut pause, mut last) = (AGAIN.0, None);
        loop {
            let Some((vm, change)) = queue.after(last) else {
                queue.more.notified().await;
                continue;
            };
            last = Some(vm);
            match write(&link, &seal, vm, &change, ttl).await {
                Ok(()) => {
                    pause = AGAIN.0;
                    queue.written(vm, &change);
                }
                Err(error) => {
                    tell(&error);
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(AGAIN.1);
                }
            }
        }
    };
    let _: Option<std::convert::Infallible> = stop.run_until_cancelled(work).await;
}

async fn write(link: &Link, seal: &Seal, vm: VmId, change: &Change, ttl: Duration) -> Result<(), CallError> {
    let deadline = Instant::now() + WRITE_WITHIN;
    if let Change::Put(entry) = change
        && is_newer_there(link, seal, entry, deadline).await?
    {
        return Ok(());
    }
    link.call(&commands(seal, vm, change, ttl), deadline).await
}

/// An owner whose replica is behind, after a restart, has an older entry than the one it wrote before; that one is what it
/// will ask for itself. Only the owner writes, so nobody comes in between. What cannot be believed does not count.
async fn is_newer_there(link: &Link, seal: &Seal, ours: &Entry, deadline: Instant) -> Result<bool, CallError> {
    let mut commands = redis::pipe();
    commands.cmd("HMGET").arg(seal.vm_key(ours.vm)).arg(&FIELDS);
    let fields: Vec<Option<Vec<u8>>> = match link.call(&commands, deadline).await {
        Ok((fields,)) => fields,
        // Something else is there, or it may not be read: it is written over.
        Err(CallError::Refused(_)) => return Ok(false),
        Err(error) => return Err(error),
    };
    let there = seal.read(&fields, seconds_now()).ok().flatten();
    Ok(there.is_some_and(|there| there.vm == ours.vm && there.generation > ours.generation))
}

fn tell(error: &CallError) {
    let reason = std::error::Error::source(error).map(ToString::to_string);
    tracing::warn!(%error, reason, "the shared cache was not written; trying again");
}

/// In one transaction: nobody reads half of an entry.
fn commands(seal: &Seal, vm: VmId, change: &Change, ttl: Duration) -> Pipeline {
    let mut commands = redis::pipe();
    commands.atomic();
    let key = seal.vm_key(vm);
    // Not a part of what was there before, whatever type it had, stays.
    commands.cmd("DEL").arg(&key).ignore();
    match change {
        Change::Put(entry) => {
            let ttl = ttl.as_secs().max(1);
            let fields = seal.write(entry, seconds_now().saturating_add(ttl));
            let hset = commands.cmd("HSET").arg(&key);
            for (name, value) in FIELDS.iter().zip(&fields) {
                hset.arg(*name).arg(value);
            }
            hset.ignore();
            commands.cmd("EXPIRE").arg(&key).arg(ttl).ignore();
            commands.cmd("SET").arg(seal.ip_key(entry.ip)).arg(vm.to_string()).arg("EX").arg(ttl).ignore();
        }
        Change::Forget(ip) => {
            commands.cmd("DEL").arg(seal.ip_key(*ip)).ignore();
        }
    }
    commands
}

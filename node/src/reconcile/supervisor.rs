//! Sees to it that every VM has its task, and that each task hears what concerns it: a changed record, an event, a listing
//! that shows something new. Decides nothing about a VM.

use super::{
    execute::Hands,
    ports::Proposer,
    scout,
    task::{Bell, Shared, Task, Wish, is_news},
};
use crate::hypervisor::{DomainEvent, DomainState};
use std::{
    collections::{BTreeMap, BTreeSet},
    future,
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{broadcast::error::RecvError, watch},
    task::JoinSet,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;
use waifud_model::ids::VmId;

/// How long to wait before the replica is read again when it could not be.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// A busy cluster changes its state thousands of times a second, and each reading is of all VMs of this node: for each
/// moment of reading there are this many of rest.
const READING_SHARE: u32 = 10;
/// The longest rest. One that lasted because it waited (for a quorum after the start, for a disk) says nothing about the next,
/// and whoever has just asked for something waits too.
const REST_MAX: Duration = Duration::from_secs(1);

struct Leash {
    wish: watch::Sender<Wish>,
    bell: Arc<Bell>,
}

pub(super) struct Supervisor {
    shared: Arc<Shared>,
    tasks: BTreeMap<VmId, Leash>,
    running: JoinSet<VmId>,
    /// The listing under way. Apart from the loop, which must not wait for a hypervisor that hangs.
    listings: JoinSet<Listing>,
    /// When the replica was first read with success: before that nothing is known to be unwanted.
    informed: bool,
    /// When to read the replica (again).
    read_at: Option<Instant>,
    /// Not before this moment.
    rested_at: Instant,
}

impl Supervisor {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let now = Instant::now();
        Self {
            shared,
            tasks: BTreeMap::new(),
            running: JoinSet::new(),
            informed: false,
            read_at: Some(now),
            rested_at: now,
            listings: JoinSet::new(),
        }
    }

    /// Runs until told to stop; then all tasks have ended, between two steps or in the middle of one. Guests run on.
    pub(super) async fn run(
        mut self,
        proposer: Arc<dyn Proposer>,
        retry: watch::Receiver<u64>,
        stop: CancellationToken,
    ) {
        let reports = Arc::clone(&self.shared.reports);
        let carrier = tokio::spawn(async move { reports.carry(&*proposer).await });
        let scout = tokio::spawn(scout::run(Arc::clone(&self.shared)));
        stop.run_until_cancelled_owned(self.watch(retry)).await;
        carrier.abort();
        scout.abort();
        self.running.shutdown().await;
        // They were aborted, or they panicked; there is nothing to be done about either.
        let _ = tokio::join!(carrier, scout);
    }

    async fn watch(&mut self, mut retry: watch::Receiver<u64>) {
        let hypervisor = Arc::clone(&self.shared.hands.hypervisor);
        let mut changed = self.shared.intent.changed();
        let mut events = hypervisor.events();
        let mut health = hypervisor.health();
        let mut sweep = tokio::time::interval(self.shared.settings.sweep);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let read_at = self.read_at;
            tokio::select! {
                biased;
                () = due(read_at) => self.read().await,
                // If the sender is gone the node is about to stop.
                Ok(()) = changed.changed() => self.read_soon(),
                Ok(()) = retry.changed() => self.ring_all(),
                Ok(()) = health.changed() => {
                    if health.borrow_and_update().is_up() {
                        self.ring_all();
                    } else {
                        self.shared.board.lose_sight();
                    }
                }
                event = events.recv() => match event {
                    Ok(DomainEvent { vm: Some(vm), .. }) => self.nudge(vm),
                    Ok(DomainEvent { vm: None, .. }) => self.ring_all(),
                    Err(RecvError::Lagged(_)) => sweep.reset_immediately(),
                    Err(RecvError::Closed) => future::pending().await,
                },
                Some(ended) = self.running.join_next() => self.ended(ended),
                Some(listing) = self.listings.join_next() => match listing {
                    Ok(listing) => self.compare(&listing),
                    Err(error) => tracing::error!(%error, "a listing died"),
                },
                _ = sweep.tick() => self.sweep(),
            }
        }
    }

    /// Reads as soon as it has rested from the last time: at once, unless changes come thick and fast.
    fn read_soon(&mut self) {
        self.read_at = Some(Instant::now().max(self.rested_at));
    }

    /// Reads what is wanted, and tells the tasks.
    async fn read(&mut self) {
        let began = Instant::now();
        self.tell_wishes().await;
        let took = began.elapsed();
        let rest = REST_MAX.min(took * READING_SHARE);
        self.rested_at = Instant::now() + rest.max(self.shared.settings.settle);
    }

    async fn tell_wishes(&mut self) {
        let wanted = match self.shared.intent.wanted().await {
            Ok(wanted) => wanted,
            Err(error) => {
                tracing::debug!(%error, "what is wanted of this node cannot be told now");
                self.read_at = Some(Instant::now() + READ_AGAIN);
                return;
            }
        };
        self.read_at = None;
        self.informed = true;
        self.shared.hands.reserved.set_wanted(wanted.iter().map(|wanted| (wanted.vm.ip, wanted.vm.id)).collect());
        let mut unwanted: BTreeSet<_> = self.tasks.keys().copied().collect();
        for wanted in &wanted {
            unwanted.remove(&wanted.vm.id);
        }
        for id in unwanted {
            self.wish(id, Wish::Absent);
        }
        for wanted in wanted {
            self.wish(wanted.vm.id, Wish::Want(wanted));
        }
    }

    fn wish(&mut self, id: VmId, wish: Wish) {
        if let Some(leash) = self.tasks.get(&id) {
            leash.wish.send_if_modified(|old| {
                let changed = *old != wish;
                *old = wish;
                changed
            });
            return;
        }
        let (sender, receiver) = watch::channel(wish);
        let bell = Arc::new(Bell::default());
        self.running.spawn(Task::new(id, Arc::clone(&self.shared), receiver, Arc::clone(&bell)).run());
        self.tasks.insert(id, Leash { wish: sender, bell });
    }

    fn nudge(&self, vm: VmId) {
        if let Some(leash) = self.tasks.get(&vm) {
            leash.bell.look.notify_one();
        }
    }

    fn ring_all(&self) {
        for leash in self.tasks.values() {
            leash.bell.retry.notify_one();
        }
    }

    fn ended(&mut self, ended: Result<VmId, tokio::task::JoinError>) {
        match ended {
            Ok(id) => drop(self.tasks.remove(&id)),
            Err(error) => {
                tracing::error!(%error, "a VM's task died; it is started again");
                // Which one it was is found by the next reading: its leash has no holder any more.
                self.tasks.retain(|_, leash| !leash.wish.is_closed());
            }
        }
        // It may be wanted again by now.
        self.read_soon();
    }

    /// Begins to list what is here, unless that is being done.
    fn sweep(&mut self) {
        if self.listings.is_empty() {
            let shared = Arc::clone(&self.shared);
            self.listings.spawn(async move { Listing::take(&shared.hands).await });
        }
    }

    /// Finds what no event told: guests that changed, and what belongs to no VM of this node.
    fn compare(&mut self, listing: &Listing) {
        if let Some(states) = &listing.domains {
            for id in self.tasks.keys() {
                if is_news(&self.shared.board, *id, states.get(id).copied()) {
                    self.nudge(*id);
                }
            }
        }
        if !self.informed {
            return;
        }
        let domains = listing.domains.iter().flat_map(BTreeMap::keys);
        let strays: BTreeSet<VmId> =
            domains.chain(&listing.volumes).copied().filter(|id| !self.tasks.contains_key(id)).collect();
        for id in strays {
            self.wish(id, Wish::Absent);
        }
    }
}

/// What is on this node.
struct Listing {
    /// None if it could not be told.
    domains: Option<BTreeMap<VmId, DomainState>>,
    volumes: Vec<VmId>,
}

impl Listing {
    async fn take(hands: &Hands) -> Self {
        // The tasks meet the same errors, and what they say is about a VM.
        let domains = match hands.hypervisor.list().await {
            Ok(domains) => Some(domains.iter().map(|domain| (domain.vm, domain.state)).collect()),
            Err(error) => {
                tracing::debug!(%error, "the domains cannot be listed");
                None
            }
        };
        let volumes = hands.volumes.list().await.unwrap_or_else(|error| {
            tracing::debug!(%error, "the disks cannot be listed");
            Vec::new()
        });
        Self { domains, volumes }
    }
}

async fn due(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => future::pending().await,
    }
}

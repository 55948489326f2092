//! A thread that owns one connection and does one thing after the other, because every call of libvirt blocks. In: closures
//! with a deadline, through a bounded queue; out: their results.
//!
//! A call that gets no answer by its deadline cannot be interrupted. Its thread is given up: it may end when it likes, and
//! does nothing more; a new thread with a new connection takes its place.
//!
//! ```text
//!   call ──> room in the queue ──> thread: connect if needed ──> run ──> reply
//!     │                                        │
//!     └── deadline passed ──> given up <───────┘   queued calls fail at once, a new thread takes over
//! ```

use super::session::Session;
use crate::{
    faults::lock,
    hypervisor::{Cause, Health, HypervisorError},
};
use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_util::sync::CancellationToken;

/// Calls that may wait for the thread. More would only wait longer: a start takes a third of a second.
const QUEUE: usize = 64;
/// How often an idle thread looks whether its connection still stands.
const TEND: Duration = Duration::from_secs(1);
/// Waiting time between attempts to connect: from, and at most.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Threads that may be stuck at once. A libvirtd that hangs for days must not cost a thread every half minute.
const STUCK: usize = 4;

/// Opens a connection.
pub(super) type Opener = Arc<dyn Fn() -> Result<Session, Cause> + Send + Sync>;
/// Told whenever the lane's health changes.
pub(super) type Report = Arc<dyn Fn(Health) + Send + Sync>;

type Work = Box<dyn FnOnce(&Worker, Result<&Session, Cause>) + Send>;

struct Job {
    work: Work,
    _room: OwnedSemaphorePermit,
}

/// What a thread and its callers share.
struct Worker {
    jobs: SyncSender<Job>,
    room: Arc<Semaphore>,
    given_up: CancellationToken,
    /// Since when the thread is in a call of libvirt, and which.
    busy: Mutex<Option<(Instant, &'static str)>>,
}

impl Worker {
    fn enter(&self, what: &'static str) {
        *lock(&self.busy) = Some((Instant::now(), what));
    }

    fn leave(&self) {
        *lock(&self.busy) = None;
    }

    fn stuck_for(&self, deadline: Duration) -> bool {
        lock(&self.busy).is_some_and(|(since, _)| since.elapsed() >= deadline)
    }
}

/// A thread with a connection.
pub(super) struct Lane {
    name: &'static str,
    open: Opener,
    report: Report,
    worker: Mutex<Option<Arc<Worker>>>,
    stuck: Arc<AtomicUsize>,
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane").field("name", &self.name).field("stuck", &self.stuck).finish_non_exhaustive()
    }
}

impl Lane {
    /// Starts the thread. Connecting goes on in the background.
    pub(super) fn start(name: &'static str, open: Opener, report: Report) -> Result<Self, HypervisorError> {
        let lane = Self { name, open, report, worker: Mutex::new(None), stuck: Arc::default() };
        lane.worker("connect", Duration::ZERO)?;
        Ok(lane)
    }

    /// Has `f` done on the thread. If the returned future is dropped before its turn, it is not done.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        what: &'static str,
        deadline: Duration,
        f: impl FnOnce(&Session) -> Result<T, HypervisorError> + Send + 'static,
    ) -> Result<T, HypervisorError> {
        let worker = self.worker(what, deadline)?;
        let hung = HypervisorError::Hung { what, after: deadline };
        tokio::select! {
            biased;
            result = self.submit(&worker, what, deadline, f) => result,
            () = worker.given_up.cancelled() => Err(hung),
        }
    }

    async fn submit<T: Send + 'static>(
        &self,
        worker: &Arc<Worker>,
        what: &'static str,
        deadline: Duration,
        f: impl FnOnce(&Session) -> Result<T, HypervisorError> + Send + 'static,
    ) -> Result<T, HypervisorError> {
        let ended = || HypervisorError::Unavailable(Cause::new("the connection's thread has ended"));
        let room = loop {
            match tokio::time::timeout(deadline, Arc::clone(&worker.room).acquire_owned()).await {
                Ok(room) => break room.map_err(|_| ended())?,
                Err(_) => self.give_up_if_stuck(worker, what, deadline)?,
            }
        };
        let (begun, mut has_begun) = oneshot::channel();
        let (reply, result) = oneshot::channel();
        let work: Work = Box::new(move |worker, session| {
            if reply.is_closed() {
                return;
            }
            // The caller may be gone by now; then nobody waits for either.
            let _ = begun.send(());
            let done = session.map_err(HypervisorError::Unavailable).and_then(|session| {
                worker.enter(what);
                let done = f(session);
                worker.leave();
                done
            });
            let _ = reply.send(done);
        });
        // There is room: permits and places in the queue are as many.
        worker.jobs.try_send(Job { work, _room: room }).map_err(|_| ended())?;
        // The deadline is the call's own, not that of those before it. But whoever waits watches that these do not hang:
        // the one that waited for the call under way may have gone.
        loop {
            match tokio::time::timeout(deadline, &mut has_begun).await {
                Ok(_) => break,
                Err(_) => self.give_up_if_stuck(worker, what, deadline)?,
            }
        }
        match tokio::time::timeout(deadline, result).await {
            Ok(result) => result.map_err(|_| ended())?,
            Err(_) => {
                self.give_up(worker, what);
                Err(HypervisorError::Hung { what, after: deadline })
            }
        }
    }

    fn give_up_if_stuck(&self, worker: &Worker, what: &'static str, deadline: Duration) -> Result<(), HypervisorError> {
        if worker.stuck_for(deadline) {
            self.give_up(worker, what);
            return Err(HypervisorError::Hung { what, after: deadline });
        }
        Ok(())
    }

    fn give_up(&self, worker: &Worker, what: &'static str) {
        if !worker.given_up.is_cancelled() {
            let what = lock(&worker.busy).map_or(what, |(_, what)| what);
            tracing::warn!(lane = self.name, what, "libvirt does not answer; the connection is given up");
            worker.given_up.cancel();
            (self.report)(Health::Hung { what });
            // At once, so that events flow again although nobody calls. The next call tries too, and has the error.
            let _ = self.worker(what, Duration::ZERO);
        }
    }

    /// The thread that works, or a new one if there is none or it was given up.
    fn worker(&self, what: &'static str, after: Duration) -> Result<Arc<Worker>, HypervisorError> {
        let mut current = lock(&self.worker);
        if let Some(worker) = current.as_ref().filter(|worker| !worker.given_up.is_cancelled()) {
            return Ok(Arc::clone(worker));
        }
        // The thread that is about to be started counts as well until it ends.
        if self.stuck.load(Ordering::Acquire) > STUCK {
            return Err(HypervisorError::Hung { what, after });
        }
        let (jobs, queue) = sync_channel(QUEUE);
        let worker = Arc::new(Worker {
            jobs,
            room: Arc::new(Semaphore::new(QUEUE)),
            given_up: CancellationToken::new(),
            busy: Mutex::new(None),
        });
        let thread = Thread {
            // Weak, so that the queue closes with the lane and the thread then ends.
            worker: Arc::downgrade(&worker),
            given_up: worker.given_up.clone(),
            link: Link::new(Arc::clone(&self.open), Arc::clone(&self.report), worker.given_up.clone()),
            _counted: Counted::new(Arc::clone(&self.stuck)),
        };
        thread::Builder::new()
            .name(format!("libvirt-{}", self.name))
            .spawn(move || thread.run(&queue))
            .map_err(|e| HypervisorError::Unavailable(Cause::new(format!("no thread for libvirt: {e}"))))?;
        *current = Some(Arc::clone(&worker));
        Ok(worker)
    }
}

/// Counts the threads that have not ended.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

struct Thread {
    worker: std::sync::Weak<Worker>,
    given_up: CancellationToken,
    link: Link,
    _counted: Counted,
}

impl Thread {
    fn run(mut self, queue: &Receiver<Job>) {
        self.tend();
        loop {
            match queue.recv_timeout(TEND) {
                Ok(job) => {
                    let Some(worker) = self.worker.upgrade() else { return };
                    let session = self.link.session(&worker);
                    // Given up while it connected: whoever asked has been told that it failed, so it must not happen.
                    if self.given_up.is_cancelled() {
                        return;
                    }
                    (job.work)(&worker, session);
                }
                Err(RecvTimeoutError::Timeout) => self.tend(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if self.given_up.is_cancelled() {
                return;
            }
        }
    }

    /// Connects if there is no connection, so that events flow although nobody calls.
    fn tend(&mut self) {
        if let Some(worker) = self.worker.upgrade() {
            // The error is remembered by the link and reported as health.
            let _ = self.link.session(&worker);
        }
    }
}

/// The connection, or the waiting for one.
struct Link {
    open: Opener,
    report: Report,
    given_up: CancellationToken,
    session: Option<Session>,
    /// The last failure, when the next attempt is due, and how long to wait after it.
    failed: Option<(Cause, Instant, Duration)>,
}

impl Link {
    fn new(open: Opener, report: Report, given_up: CancellationToken) -> Self {
        Self { open, report, given_up, session: None, failed: None }
    }

    fn session(&mut self, worker: &Worker) -> Result<&Session, Cause> {
        if self.session.as_ref().is_some_and(|session| !session.is_alive()) {
            self.session = None;
            self.report(Health::Down(Cause::new("the connection was lost")));
        }
        if self.session.is_none() {
            self.connect(worker)?;
        }
        self.session.as_ref().ok_or_else(|| Cause::new("there is no connection"))
    }

    fn connect(&mut self, worker: &Worker) -> Result<(), Cause> {
        let wait = match &self.failed {
            Some((cause, next, _)) if Instant::now() < *next => return Err(cause.clone()),
            Some((_, _, wait)) => (*wait * 2).min(RECONNECT.1),
            None => RECONNECT.0,
        };
        worker.enter("connect");
        let opened = (self.open)();
        worker.leave();
        match opened {
            Ok(session) => {
                self.session = Some(session);
                self.failed = None;
                self.report(Health::Up);
                Ok(())
            }
            Err(cause) => {
                self.failed = Some((cause.clone(), Instant::now() + wait, wait));
                self.report(Health::Down(cause.clone()));
                Err(cause)
            }
        }
    }

    fn report(&self, health: Health) {
        if !self.given_up.is_cancelled() {
            (self.report)(health);
        }
    }
}

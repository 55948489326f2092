//! The one connection that writes a file, and the queue in front of it.

use super::{DatabaseError, Halted};
use crate::config::Storage;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
};
use tokio::sync::oneshot;

/// So many jobs share a transaction at the most: beyond it the fsync is paid off, and the first job has waited long enough.
const GROUP: usize = 512;

type Work = Box<dyn FnOnce(&Transaction<'_>) -> Result<(), DatabaseError> + Send>;
type Done = Box<dyn FnOnce(Result<(), Arc<DatabaseError>>) + Send>;
type Alone = Box<dyn FnOnce(Result<&mut Connection, DatabaseError>) + Send>;

/// How much was done since the start; for metrics and benchmarks.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Transactions committed.
    pub(crate) commits: AtomicU64,
    /// Jobs they contained.
    pub(crate) jobs: AtomicU64,
}

/// Runs jobs on one connection, in the order they came.
///
/// After the first failure every later job fails too: a job may rely on those before it.
#[derive(Clone)]
pub(crate) struct Writer {
    lane: Lane,
    desk: Arc<Desk>,
}

#[derive(Clone)]
enum Lane {
    /// Unbounded, because what fills it is bounded: openraft waits for appends before it takes more than its channels hold.
    Thread(mpsc::Sender<Job>),
    Inline(Arc<Mutex<Option<Connection>>>),
}

enum Job {
    /// Shares a transaction with its neighbours.
    Joined(Work, Done),
    /// Has the connection to itself.
    Alone(Alone),
    /// The last one.
    Close(oneshot::Sender<()>),
}

/// What callers and the thread share.
struct Desk {
    name: &'static str,
    counters: Arc<Counters>,
    stopped: AtomicBool,
    halted: Halted,
}

impl Writer {
    /// Takes the connection, and a thread if storage has them.
    ///
    /// # Errors
    /// If there is no thread to be had.
    pub(crate) fn start(
        name: &'static str,
        connection: Connection,
        storage: Storage,
        halted: Halted,
    ) -> Result<Self, DatabaseError> {
        let desk = Arc::new(Desk { name, counters: Arc::default(), stopped: AtomicBool::new(false), halted });
        let lane = match storage {
            Storage::Inline { .. } => Lane::Inline(Arc::new(Mutex::new(Some(connection)))),
            Storage::Threads => {
                let (sender, jobs) = mpsc::channel();
                let on_thread = desk.clone();
                std::thread::Builder::new()
                    .name(format!("waifud-{name}"))
                    .spawn(move || on_thread.run(connection, &jobs))
                    .map_err(DatabaseError::io("start the writer thread"))?;
                Lane::Thread(sender)
            }
        };
        Ok(Self { lane, desk })
    }

    /// What was done so far.
    pub(crate) fn counters(&self) -> &Counters {
        &self.desk.counters
    }

    /// Queues `work`. It may share a transaction with its neighbours; `done` is called after that is committed, or failed.
    pub(crate) fn submit(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<(), DatabaseError> + Send + 'static,
        done: impl FnOnce(Result<(), Arc<DatabaseError>>) + Send + 'static,
    ) {
        self.push(Job::Joined(Box::new(work), Box::new(done)));
    }

    /// Queues `work` as [`submit`](Self::submit) does and waits until it is committed.
    ///
    /// # Errors
    /// If the work or its transaction fails, or anything failed before it.
    pub(crate) async fn write(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<(), DatabaseError> + Send + 'static,
    ) -> Result<(), Arc<DatabaseError>> {
        let (sender, receiver) = oneshot::channel();
        self.submit(work, move |result| {
            // Nobody waits any more: the caller was cancelled, the write stands.
            let _ = sender.send(result);
        });
        receiver.await.unwrap_or_else(|_| Err(Arc::new(self.desk.gone())))
    }

    /// Gives `work` the connection to itself and waits for its result. An error stops the writer.
    ///
    /// # Errors
    /// If the work fails, or anything failed before it.
    pub(crate) async fn alone<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, DatabaseError> + Send + 'static,
    ) -> Result<T, Arc<DatabaseError>> {
        let (sender, receiver) = oneshot::channel();
        let desk = self.desk.clone();
        self.push(Job::Alone(Box::new(move |connection| {
            let result = connection.and_then(work).map_err(|error| {
                let error = Arc::new(error);
                desk.stop(&error);
                error
            });
            // Nobody waits any more: the caller was cancelled, what was done stands.
            let _ = sender.send(result);
        })));
        receiver.await.unwrap_or_else(|_| Err(Arc::new(self.desk.gone())))
    }

    /// Finishes what is queued, takes no more, and closes the file.
    pub(crate) async fn close(&self) {
        let (sender, receiver) = oneshot::channel();
        self.push(Job::Close(sender));
        // An error means that the thread is gone already, which is what was wanted.
        let _ = receiver.await;
    }

    fn push(&self, job: Job) {
        match &self.lane {
            Lane::Thread(sender) => {
                if let Err(mpsc::SendError(job)) = sender.send(job) {
                    self.desk.refuse(job);
                }
            }
            Lane::Inline(connection) => {
                let mut slot = connection.lock().unwrap_or_else(PoisonError::into_inner);
                match (job, slot.as_mut()) {
                    (Job::Close(done), _) => {
                        *slot = None;
                        let _ = done.send(());
                    }
                    (Job::Alone(work), Some(connection)) => self.desk.alone(connection, work),
                    (Job::Joined(work, done), Some(connection)) => {
                        let mut group = Group::new();
                        let result = self.desk.group(connection, work, done, &mut group, || None);
                        // The callbacks may come back here.
                        drop(slot);
                        group.finish(result);
                    }
                    (job, None) => self.desk.refuse(job),
                }
            }
        }
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("name", &self.desk.name).finish_non_exhaustive()
    }
}

/// The callbacks of the jobs in one transaction.
struct Group(Vec<Done>);

impl Group {
    const fn new() -> Self {
        Self(Vec::new())
    }

    fn finish(self, result: Result<(), Arc<DatabaseError>>) {
        for done in self.0 {
            done(result.clone());
        }
    }
}

impl Desk {
    /// The thread's life: wait for a job, take what else is queued into the same transaction, commit, call back.
    fn run(&self, mut connection: Connection, jobs: &mpsc::Receiver<Job>) {
        let mut next = None;
        while let Some(job) = next.take().or_else(|| jobs.recv().ok()) {
            match job {
                Job::Close(done) => {
                    drop(connection);
                    let _ = done.send(());
                    return;
                }
                Job::Alone(work) => self.alone(&mut connection, work),
                Job::Joined(work, done) => {
                    let mut group = Group::new();
                    let result = self.group(&mut connection, work, done, &mut group, || match jobs.try_recv() {
                        Ok(Job::Joined(work, done)) => Some((work, done)),
                        Ok(other) => {
                            next = Some(other);
                            None
                        }
                        Err(_) => None,
                    });
                    group.finish(result);
                }
            }
        }
    }

    fn alone(&self, connection: &mut Connection, work: Alone) {
        work(self.check().map(|()| connection));
        self.counters.jobs.fetch_add(1, Ordering::Relaxed);
    }

    /// Runs one job and as many more as there are in one transaction. The callbacks are left to the caller.
    fn group(
        &self,
        connection: &mut Connection,
        work: Work,
        done: Done,
        group: &mut Group,
        mut more: impl FnMut() -> Option<(Work, Done)>,
    ) -> Result<(), Arc<DatabaseError>> {
        group.0.push(done);
        let result = self.check().and_then(|()| {
            let transaction = connection
                .transaction_with_behavior(TransactionBehavior::Immediate)
                .map_err(DatabaseError::sqlite("begin a transaction"))?;
            work(&transaction)?;
            while group.0.len() < GROUP
                && let Some((work, done)) = more()
            {
                group.0.push(done);
                work(&transaction)?;
            }
            transaction.commit().map_err(DatabaseError::sqlite("commit a transaction"))
        });
        self.counters.commits.fetch_add(1, Ordering::Relaxed);
        self.counters.jobs.fetch_add(group.0.len() as u64, Ordering::Relaxed);
        result.map_err(|error| {
            self.stop(&error);
            Arc::new(error)
        })
    }

    fn stop(&self, error: &DatabaseError) {
        self.stopped.store(true, Ordering::Release);
        // Being refused is a consequence, never the reason.
        if !matches!(error, DatabaseError::Stopped { .. }) {
            self.halted.set(error);
        }
    }

    fn check(&self) -> Result<(), DatabaseError> {
        if self.stopped.load(Ordering::Acquire) { Err(self.gone()) } else { Ok(()) }
    }

    fn gone(&self) -> DatabaseError {
        let why = self.halted.get().unwrap_or("it is closed").to_owned();
        DatabaseError::Stopped { name: self.name, why }
    }

    fn refuse(&self, job: Job) {
        match job {
            Job::Joined(_, done) => done(Err(Arc::new(self.gone()))),
            Job::Alone(work) => work(Err(self.gone())),
            Job::Close(done) => {
                let _ = done.send(());
            }
        }
    }
}

#[cfg(test)]
mod tests;

//! WireGuard in this process: a TUN device, one UDP socket, a `Tunn` for each peer.
//!
//! Two threads, each with a runtime of its own that waits for nothing but its descriptors: bulk traffic then competes with the
//! daemon's tasks by the kernel's scheduler, not in the daemon's own queues, and no packet waits for another thread to wake.
//!
//! ```text
//!  out:  TUN ──► longest prefix ─► Tunn::encapsulate ─► UDP          (metadata address: ─► Inside ─► PacketLink)
//!  in:   UDP ──► receiver index ─► Tunn::decapsulate ─► source check ─► TUN;   every 250 ms: timers
//! ```
//!
//! The device stays when this process ends, and so do the routes through it. It must not outlive the wish for it: the host
//! side's `remove` takes it away.

mod incoming;
mod inside;
mod outgoing;
mod plane;
mod table;
mod tun;
mod udp;

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::config::{Interface, Kind, MeshConfig, PeerStatus};
use crate::error::MeshError;
use crate::link::{self, Far, PacketLink};
use crate::{Mesh, host};
use incoming::Incoming;
use inside::Inside;
use plane::{Plane, TICK};
use table::Table;
use udp::Udp;

/// The data plane in this process.
pub struct UserspaceMesh {
    /// Gone once it is stopped: port and device must be free by then.
    running: Mutex<Option<Running>>,
    ended: watch::Receiver<Option<String>>,
    threads: Mutex<Vec<oneshot::Receiver<()>>>,
    stop: CancellationToken,
}

/// What a mesh is changed by while it runs.
struct Running {
    plane: Arc<Plane>,
    port: u16,
    /// Sockets that the receiving thread shall take over.
    sockets: watch::Sender<Arc<Udp>>,
    receiving: tokio::runtime::Handle,
}

impl Running {
    fn apply(&mut self, config: &MeshConfig) -> Result<(), MeshError> {
        let port = config.listen_port;
        if port != 0 && port != self.port {
            let _runtime = self.receiving.enter();
            let udp = Udp::bind(port).map_err(|source| MeshError::Bind { port, source })?;
            let udp = Arc::new(udp);
            self.plane.set_udp(Arc::clone(&udp));
            self.sockets.send_replace(udp);
            self.port = port;
        }
        let (next, fresh) = self.plane.table().next(config);
        self.plane.set_table(next);
        let udp = self.plane.udp();
        // Called at once, not when the first packet is for them: after a restart they still use keys that are gone.
        for peer in fresh {
            outgoing::greet(&peer, &udp);
        }
        Ok(())
    }
}

impl std::fmt::Debug for UserspaceMesh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UserspaceMesh").finish_non_exhaustive()
    }
}

impl Drop for UserspaceMesh {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl UserspaceMesh {
    /// Attaches to the interface (and makes it, if it lacks), and serves `config`. The namespace is the calling thread's.
    ///
    /// # Errors
    /// The interface is somebody else's, the port is taken, or the rights are missing.
    pub async fn start(interface: &Interface, config: &MeshConfig) -> Result<(Self, PacketLink), MeshError> {
        config.check()?;
        host::clear_other_kind(&interface.name, Kind::Userspace).await?;
        let (near, far) = link::pair();
        let inside = Inside::new(interface.mtu, far.to_service.clone())
            .map_err(|error| MeshError::Thread(io::Error::other(error)))?;
        let inside = Arc::new(inside);
        let stop = CancellationToken::new();
        // If anything below fails, the threads that run already end.
        let guard = stop.clone().drop_guard();
        let (end, ended) = watch::channel(None);

        // The device belongs to the runtime that reads from it, and so does the socket; each is opened there.
        let (give_plane, take_plane) = oneshot::channel::<Arc<Plane>>();
        let name = interface.clone();
        let (tun, out_done) = thread(
            "out",
            &stop,
            &end,
            move || tun::open(&name).map(Arc::new),
            async move |_| match take_plane.await {
                Ok(plane) => outgoing::run(plane).await.to_string(),
                Err(_) => "never started".to_owned(),
            },
        )
        .await?;
        let tun = tun.map_err(|source| MeshError::Tun { name: interface.name.clone(), source })?;
        host::bring_up(&interface.name, interface.mtu).await?;

        let port = config.listen_port;
        let (give_work, take_work) = oneshot::channel::<(Arc<Plane>, Far, watch::Receiver<Arc<Udp>>)>();
        let bind = move || Ok((Udp::bind(port), tokio::runtime::Handle::current()));
        let (bound, in_done) = thread("in", &stop, &end, bind, async move |_| match take_work.await {
            Ok((plane, far, sockets)) => receive(plane, far, sockets).await.to_string(),
            Err(_) => "never started".to_owned(),
        })
        .await?;
        let (udp, receiving) = bound.map_err(MeshError::Thread)?;
        let udp = udp.map_err(|source| MeshError::Bind { port, source })?;
        let port = udp.port().map_err(|source| MeshError::Bind { port, source })?;

        let table = Table::new(config.private_key.clone(), Arc::clone(&inside));
        let plane = Arc::new(Plane::new(tun, interface.mtu, inside, table, udp));
        let (sockets, take_sockets) = watch::channel(plane.udp());
        let started = give_plane.send(Arc::clone(&plane)).is_ok()
            && give_work.send((Arc::clone(&plane), far, take_sockets)).is_ok();
        if !started {
            return Err(MeshError::Stopped("a thread ended as it began".to_owned()));
        }
        let mut running = Running { plane, port, sockets, receiving };
        running.apply(config)?;
        let mesh = Self {
            running: Mutex::new(Some(running)),
            ended,
            threads: Mutex::new(vec![out_done, in_done]),
            stop: guard.disarm(),
        };
        Ok((mesh, near))
    }

    /// The UDP port that it listens on: what was asked for, or what the kernel chose for 0. `None` once it is stopped.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.with(|running| running.port).ok()
    }

    fn with<T>(&self, work: impl FnOnce(&mut Running) -> T) -> Result<T, MeshError> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let why = || self.ended.borrow().clone().unwrap_or_else(|| "as it was told to".to_owned());
        running.as_mut().map(work).ok_or_else(|| MeshError::Stopped(why()))
    }
}

#[async_trait]
impl Mesh for UserspaceMesh {
    fn kind(&self) -> Kind {
        Kind::Userspace
    }

    async fn apply(&self, config: &MeshConfig) -> Result<(), MeshError> {
        config.check()?;
        self.with(|running| running.apply(config))?
    }

    async fn status(&self) -> Result<Vec<PeerStatus>, MeshError> {
        if let Some(why) = self.ended.borrow().clone() {
            return Err(MeshError::Stopped(why));
        }
        let table = self.with(|running| running.plane.table())?;
        Ok(table.peers.iter().map(|peer| peer.status()).collect())
    }

    async fn failed(&self) -> MeshError {
        let mut ended = self.ended.clone();
        let why = match ended.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or_default(),
            Err(_) => "its threads are gone".to_owned(),
        };
        MeshError::Stopped(why)
    }

    async fn stop(&self) {
        self.stop.cancel();
        self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // Either way it has ended.
            let _ = thread.await;
        }
    }
}

/// A thread with a runtime of its own. `open` runs there first and its result comes back; `work` then runs until it ends by
/// itself, which is a failure, or is stopped. The receiver resolves when the thread has let go of everything.
async fn thread<T, W>(
    direction: &str,
    stop: &CancellationToken,
    end: &watch::Sender<Option<String>>,
    open: impl FnOnce() -> io::Result<T> + Send + 'static,
    work: W,
) -> Result<(io::Result<T>, oneshot::Receiver<()>), MeshError>
where
    T: Send + 'static,
    W: AsyncFnOnce(()) -> String + Send + 'static,
{
    let (opened, wait) = oneshot::channel();
    let (done, finished) = oneshot::channel();
    let (stop, end) = (stop.clone(), end.clone());
    std::thread::Builder::new()
        .name(format!("mesh-{direction}"))
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
            let runtime = match runtime {
                Ok(runtime) => runtime,
                Err(error) => {
                    let _ = opened.send(Err(error));
                    return;
                }
            };
            runtime.block_on(async move {
                let result = open();
                let failed = result.is_err();
                if opened.send(result).is_err() || failed {
                    return;
                }
                tokio::select! {
                    why = work(()) => {
                        tracing::warn!(%why, "the mesh's data plane has stopped");
                        // The other direction is of no use alone.
                        end.send_replace(Some(why));
                        stop.cancel();
                    }
                    () = stop.cancelled() => {}
                }
            });
            drop(runtime);
            // Nobody waits if the mesh was dropped.
            let _ = done.send(());
        })
        .map_err(MeshError::Thread)?;
    let result = wait.await.map_err(|_| MeshError::Stopped("a thread ended as it began".to_owned()))?;
    Ok((result, finished))
}

/// The receiving thread: datagrams, the clock, the service's answers.
async fn receive(plane: Arc<Plane>, far: Far, mut sockets: watch::Receiver<Arc<Udp>>) -> io::Error {
    let mut incoming = Incoming::new(plane.mtu);
    let mut clock = tokio::time::interval(TICK);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut answers = std::pin::pin!(plane::answers(Arc::clone(&plane), far));
    let mut answering = true;
    let mut udp = plane.udp();
    loop {
        tokio::select! {
            ready = udp.readable() => {
                let turned = match ready {
                    Ok(()) => incoming.turn(&plane, &udp).await,
                    Err(error) => Err(error),
                };
                if let Err(error) = turned {
                    return error;
                }
            }
            _ = clock.tick() => plane.tick(),
            answered = &mut answers, if answering => match answered {
                // The service is gone, and the mesh works on without it.
                Ok(()) => answering = false,
                Err(error) => return error,
            },
            Ok(()) = sockets.changed() => udp = Arc::clone(&sockets.borrow_and_update()),
        }
    }
}

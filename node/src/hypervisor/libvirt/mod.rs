//! Guests by libvirt. Three lanes: one looks, one changes, so that a guest that takes long to stop does not make the
//! states of all others unknown; and one asks what is in guests, who may not answer. A fourth, which is there from the first
//! question on, finds serial ports and screens: a person waits for it. Events come from the lane that looks.
//!
//! ```text
//!   Libvirt ──┬── lane "look"    list, find, usage; lifecycle events ──┐
//!             ├── lane "change"  define, start, stop, undefine         ├──> libvirtd
//!             └── lane "agent"   what the agents in guests say ────────┤
//!             ├── lane "console" serial ports and screens ────────────┤
//!   event_loop (one a process): events, keep-alive, lost connections ──┘
//! ```

mod adjust;
pub mod event_loop;
mod explain;
mod ffi;
mod lane;
mod live;
mod measure;
mod power;
mod session;
mod state;

use super::{
    Adjustment, Cause, Domain, DomainEvent, DomainSpec, Happening, Health, Hypervisor, HypervisorError, Line,
    StartMode, Usage, pty::Pty,
};
use crate::faults::lock;
use adjust::{Awaited, Progress};
use async_trait::async_trait;
use lane::{Lane, Opener, Report};
use session::{Marks, Session};
use std::{
    net::Ipv4Addr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    sync::{OnceCell, broadcast, watch},
    time::{Instant, sleep},
};
use waifud_model::ids::{ClusterId, Generation, VmId};

/// How often a guest is looked at that has something to do.
const GLANCE: Duration = Duration::from_millis(250);
/// How long a guest may take to let go of a device: what Linux needs to write back a disk that is in use. One that does not
/// hear of it, because it is still booting or has no driver, never does.
const LET_GO: Duration = Duration::from_secs(10);
/// How long the balloon of a guest may stand still before it counts as stuck. QEMU tells of it once a second.
const BALLOON_STILL: Duration = Duration::from_secs(4);
/// How long a balloon that moves is watched. It goes on by itself; whoever asked sees how far it is.
const BALLOON: Duration = Duration::from_secs(20);

/// Events kept for a reader that is behind. One that lags further looks at everything, which costs a bulk request.
const EVENTS: usize = 1024;

/// Where libvirt is, and how patient to be with it.
#[derive(Debug, Clone)]
pub struct LibvirtConfig {
    /// The connection's URI: `qemu:///system`.
    pub uri: String,
    /// Domains marked with another cluster are foreign.
    pub cluster: ClusterId,
    /// How long a question may take. More than libvirt's own keep-alive (20 s), which ends a dead connection cleanly.
    pub look: Duration,
    /// How long a change may take. libvirt itself waits up to 30 s for a busy domain, and for a guest to be killed.
    pub change: Duration,
}

impl LibvirtConfig {
    /// The system's libvirt, with the usual patience.
    #[must_use]
    pub fn system(cluster: ClusterId) -> Self {
        Self {
            uri: "qemu:///system".to_owned(),
            cluster,
            look: Duration::from_secs(25),
            change: Duration::from_secs(60),
        }
    }
}

/// Guests by libvirt.
#[derive(Debug)]
pub struct Libvirt {
    look: Lane,
    change: Lane,
    /// Its health counts for nothing: what is in a guest says nothing about the hypervisor.
    agent: Lane,
    /// Its health counts for nothing either: it does the same as others, more rarely.
    console: OnceCell<Lane>,
    marks: Marks,
    config: LibvirtConfig,
    events: broadcast::Sender<DomainEvent>,
    health: watch::Sender<Health>,
}

impl Libvirt {
    /// Starts to connect, in the background and for as long as it takes: a libvirtd that is not there yet is no error.
    ///
    /// # Errors
    /// If libvirt's event loop or a thread cannot be started.
    pub fn start(config: LibvirtConfig) -> Result<Self, HypervisorError> {
        // Before anybody's first connection, and so before this returns.
        event_loop::start().map_err(HypervisorError::Unavailable)?;
        let events = broadcast::Sender::new(EVENTS);
        let health = watch::Sender::new(Health::Unknown);
        let marks = Marks::default();
        let board = Arc::new(Board { lanes: Mutex::new([Health::Unknown, Health::Unknown]), worst: health.clone() });
        let report = |lane: usize| -> Report {
            let (board, events) = (Arc::clone(&board), events.clone());
            Arc::new(move |health: Health| {
                // Whoever follows events has missed some if this connection is not the first.
                if lane == LOOK && health.is_up() {
                    let _ = events.send(DomainEvent { vm: None, what: Happening::Reconnected });
                }
                board.set(lane, health);
            })
        };
        let look = Lane::start("look", opener(&config, &marks, Some(events.clone())), report(LOOK))?;
        let change = Lane::start("change", opener(&config, &marks, None), report(CHANGE))?;
        let agent = Lane::start("agent", opener(&config, &marks, None), Arc::new(|_| ()))?;
        Ok(Self { look, change, agent, console: OnceCell::new(), marks, config, events, health })
    }

    async fn console_lane(&self) -> Result<&Lane, HypervisorError> {
        let start = async || Lane::start("console", opener(&self.config, &self.marks, None), Arc::new(|_| ()));
        self.console.get_or_try_init(start).await
    }

    /// Waits a while for a guest to let go of a device. Not in a lane: others need those meanwhile.
    async fn see_let_go(&self, vm: VmId, what: &'static str, awaited: Awaited) -> Result<(), HypervisorError> {
        let until = Instant::now() + LET_GO;
        while self.glance(vm, awaited).await? != Progress::Done {
            if Instant::now() >= until {
                let why = Cause::new(format!("it did not let go within {} s", LET_GO.as_secs()));
                return Err(HypervisorError::NotLive { vm, what, why });
            }
            sleep(GLANCE).await;
        }
        Ok(())
    }

    /// Waits a while for a balloon, for as long as it moves.
    async fn see_balloon(&self, vm: VmId, what: &'static str, awaited: Awaited) -> Result<(), HypervisorError> {
        let began = Instant::now();
        let (mut had, mut moved) = (None, None);
        loop {
            let Progress::Memory(now) = self.glance(vm, awaited).await? else { return Ok(()) };
            if had.is_some_and(|had| had != now) {
                moved = Some(Instant::now());
            }
            had = Some(now);
            if moved.unwrap_or(began).elapsed() >= BALLOON_STILL {
                let why = if moved.is_some() {
                    Cause::new(format!("it has no more to give back, and is left with {now}"))
                } else {
                    Cause::new("its balloon driver does not react")
                };
                return Err(HypervisorError::NotLive { vm, what, why });
            }
            if began.elapsed() >= BALLOON {
                return Ok(());
            }
            sleep(GLANCE).await;
        }
    }

    async fn glance(&self, vm: VmId, awaited: Awaited) -> Result<Progress, HypervisorError> {
        self.look.call("look at a domain", self.config.look, move |session| session.progress(vm, awaited)).await
    }

    async fn change(
        &self,
        what: &'static str,
        f: impl FnOnce(&Session) -> Result<(), HypervisorError> + Send + 'static,
    ) -> Result<(), HypervisorError> {
        self.change.call(what, self.config.change, f).await
    }
}

const LOOK: usize = 0;
const CHANGE: usize = 1;

fn opener(config: &LibvirtConfig, marks: &Marks, events: Option<broadcast::Sender<DomainEvent>>) -> Opener {
    let (uri, cluster, marks) = (config.uri.clone(), config.cluster, Arc::clone(marks));
    Arc::new(move || {
        let listener = events.clone().map(|events| -> ffi::Listener {
            let marks = Arc::clone(&marks);
            Box::new(move |uuid, event| {
                let Some(vm) = session::vm_of(uuid) else { return };
                let what = state::happening(event);
                if what == Happening::Definition {
                    lock(&marks).remove(&vm);
                }
                // Nobody listening is no error.
                let _ = events.send(DomainEvent { vm: Some(vm), what });
            })
        });
        Session::open(&uri, cluster, Arc::clone(&marks), listener)
    })
}

/// The health of both lanes, and the worse of them.
struct Board {
    lanes: Mutex<[Health; 2]>,
    worst: watch::Sender<Health>,
}

impl Board {
    fn set(&self, lane: usize, health: Health) {
        let mut lanes = lock(&self.lanes);
        lanes[lane] = health;
        let severity = |health: &Health| match health {
            Health::Up => 0,
            Health::Unknown => 1,
            Health::Down(_) => 2,
            Health::Hung { .. } => 3,
        };
        if let Some(worst) = lanes.iter().max_by_key(|health| severity(health)) {
            // A libvirtd that is away is tried for again and again; only what is new is told.
            self.worst.send_if_modified(|told| {
                let news = told != worst;
                told.clone_from(worst);
                news
            });
        }
    }
}

#[async_trait]
impl Hypervisor for Libvirt {
    async fn list(&self) -> Result<Vec<Domain>, HypervisorError> {
        self.look.call("list the domains", self.config.look, Session::list).await
    }

    async fn find(&self, vm: VmId) -> Result<Option<Domain>, HypervisorError> {
        self.look.call("look at a domain", self.config.look, move |session| session.find(vm)).await
    }

    async fn usage(&self) -> Result<Vec<Usage>, HypervisorError> {
        self.look.call("measure the domains", self.config.look, Session::usage).await
    }

    async fn agent_addresses(&self, vm: VmId) -> Result<Vec<Ipv4Addr>, HypervisorError> {
        self.agent.call("ask a guest's agent", self.config.look, move |session| session.agent_addresses(vm)).await
    }

    async fn define(&self, spec: &DomainSpec) -> Result<(), HypervisorError> {
        let spec = spec.clone();
        self.change("define a domain", move |session| session.define(&spec)).await
    }

    async fn start(&self, vm: VmId, generation: Generation, mode: StartMode) -> Result<(), HypervisorError> {
        self.change("start a guest", move |session| session.start(vm, generation, mode)).await
    }

    async fn note_cloud_init(&self, vm: VmId, life: u32) -> Result<(), HypervisorError> {
        let note = move |session: &Session| session.note_cloud_init(vm, life);
        if self.change.call("note a guest's cloud-init", self.config.change, note).await? {
            // libvirt has no event for it that comes with the others. Nobody listening is no error.
            let _ = self.events.send(DomainEvent { vm: Some(vm), what: Happening::Definition });
        }
        Ok(())
    }

    async fn suspend(&self, vm: VmId) -> Result<(), HypervisorError> {
        self.change("suspend a guest", move |session| session.suspend(vm)).await
    }

    async fn resume(&self, vm: VmId) -> Result<(), HypervisorError> {
        self.change("resume a guest", move |session| session.resume(vm)).await
    }

    async fn adjust(&self, vm: VmId, adjustment: &Adjustment) -> Result<(), HypervisorError> {
        let (what, adjustment) = (adjustment.what(), adjustment.clone());
        let adjust = move |session: &Session| session.adjust(vm, &adjustment);
        match self.change.call("adjust a guest", self.config.change, adjust).await? {
            Some(awaited @ Awaited::Memory(_)) => self.see_balloon(vm, what, awaited).await,
            Some(awaited) => self.see_let_go(vm, what, awaited).await,
            None => Ok(()),
        }
    }

    async fn shutdown(&self, vm: VmId) -> Result<(), HypervisorError> {
        self.change("shut a guest down", move |session| session.shutdown(vm)).await
    }

    async fn force_stop(&self, vm: VmId) -> Result<(), HypervisorError> {
        self.change("stop a guest", move |session| session.force_stop(vm)).await
    }

    async fn undefine(&self, vm: VmId) -> Result<(), HypervisorError> {
        self.change("undefine a domain", move |session| session.undefine(vm)).await
    }

    async fn console(&self, vm: VmId) -> Result<Option<Box<dyn Line>>, HypervisorError> {
        let lane = self.console_lane().await?;
        let find = || lane.call("find a serial port", self.config.look, move |session| session.serial_port(vm));
        let Some(path) = find().await? else { return Ok(None) };
        let pty = Pty::open(&path).map_err(|error| HypervisorError::Refused {
            what: "open the serial port of",
            vm,
            source: Cause::new(format!("{}: {error}", path.display())),
        })?;
        // The kernel gives the numbers of terminals again: if the guest ended just now, this may be somebody else's.
        Ok((find().await? == Some(path)).then(|| Box::new(pty) as Box<dyn Line>))
    }

    async fn screen(&self, vm: VmId) -> Result<Option<Box<dyn Line>>, HypervisorError> {
        let lane = self.console_lane().await?;
        let opened = lane.call("open a screen", self.config.look, move |session| session.screen(vm)).await?;
        let Some(fd) = opened else { return Ok(None) };
        let stream = std::os::unix::net::UnixStream::from(fd);
        let line = stream.set_nonblocking(true).and_then(|()| tokio::net::UnixStream::from_std(stream));
        line.map(|line| Some(Box::new(line) as Box<dyn Line>)).map_err(|error| HypervisorError::Refused {
            what: "open the screen of",
            vm,
            source: Cause::new(error.to_string()),
        })
    }

    fn events(&self) -> broadcast::Receiver<DomainEvent> {
        self.events.subscribe()
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }
}

//! Guests that exist only in memory, for simulations and the tests of whoever uses [`Hypervisor`]. Follows the same
//! contract as libvirt; [`Faults`] and the methods below say when something goes wrong. Time is tokio's, dates are those of
//! a [`Clock`] that it is given; no randomness.
//!
//! The fake outlives the node that uses it, as guests outlive waifud: a simulation restarts a node by dropping everything
//! but its fakes.

mod guest;
mod lines;
mod outside;

use super::{
    Adjustment, Cause, Domain, DomainEvent, DomainSpec, DomainState, Happening, Health, Hypervisor, HypervisorError,
    Line, OffReason, PauseReason, StartMode, Usage,
};
use crate::{
    faults::{Faults, lock},
    reconcile::Clock,
    volumes::fake::FakeVolumes,
};
use async_trait::async_trait;
use guest::Guest;
use lines::Lines;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::{broadcast, watch};
use waifud_model::{
    ids::{Generation, VmId},
    size::ByteSize,
};

/// As patient as libvirt's real one.
const DEADLINE: Duration = Duration::from_secs(25);
/// Enough for any script; a reader that lags is part of what can be tried.
const EVENTS: usize = 256;

/// The operations that can be made to fail, and are recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HypervisorOp {
    /// [`Hypervisor::list`].
    List,
    /// [`Hypervisor::find`].
    Find,
    /// [`Hypervisor::agent_addresses`].
    Agent,
    /// [`Hypervisor::usage`].
    Usage,
    /// [`Hypervisor::define`].
    Define,
    /// [`Hypervisor::start`].
    Start,
    /// [`Hypervisor::note_cloud_init`].
    NoteCloudInit,
    /// [`Hypervisor::shutdown`].
    Shutdown,
    /// [`Hypervisor::force_stop`].
    ForceStop,
    /// [`Hypervisor::suspend`].
    Suspend,
    /// [`Hypervisor::resume`].
    Resume,
    /// [`Hypervisor::adjust`].
    Adjust,
    /// [`Hypervisor::undefine`].
    Undefine,
    /// [`Hypervisor::console`].
    Console,
    /// [`Hypervisor::screen`].
    Screen,
}

#[derive(Debug)]
struct World {
    guests: BTreeMap<VmId, Guest>,
    /// The disks that guests see.
    volumes: Option<Arc<FakeVolumes>>,
    /// What dates a start.
    clock: Option<Arc<dyn Clock>>,
    changes: Vec<(HypervisorOp, VmId)>,
    shutdown_takes: Duration,
    loses_events: bool,
    down: bool,
    lies: BTreeSet<HypervisorOp>,
    lines: Lines,
}

/// Guests in memory.
#[derive(Debug, Clone)]
pub struct FakeHypervisor {
    world: Arc<Mutex<World>>,
    /// What goes wrong. An operation that hangs ends with [`HypervisorError::Hung`] after 25 s, as libvirt's would.
    pub faults: Arc<Faults<HypervisorOp>>,
    events: broadcast::Sender<DomainEvent>,
    health: watch::Sender<Health>,
}

impl Default for FakeHypervisor {
    fn default() -> Self {
        let world = World {
            guests: BTreeMap::new(),
            volumes: None,
            clock: None,
            changes: Vec::new(),
            shutdown_takes: Duration::from_secs(3),
            loses_events: false,
            down: false,
            lies: BTreeSet::new(),
            lines: Lines::default(),
        };
        Self {
            world: Arc::new(Mutex::new(world)),
            faults: Arc::default(),
            events: broadcast::Sender::new(EVENTS),
            health: watch::Sender::new(Health::Up),
        }
    }
}

/// What may be looked at, without a call and so without a fault.
impl FakeHypervisor {
    /// What a domain was last defined from.
    #[must_use]
    pub fn spec(&self, vm: VmId) -> Option<DomainSpec> {
        lock(&self.world).guests.get(&vm)?.spec.clone()
    }

    /// A domain as it is, foreign ones too.
    #[must_use]
    pub fn state(&self, vm: VmId) -> Option<DomainState> {
        lock(&self.world).guests.get(&vm).map(|guest| guest.state)
    }

    /// The guests that have their disk open.
    #[must_use]
    pub fn active(&self) -> Vec<VmId> {
        lock(&self.world).guests.iter().filter(|(_, g)| g.ours && g.state.is_active()).map(|(vm, _)| *vm).collect()
    }

    /// Every call that was to change something, in order, and forgets them.
    #[must_use]
    pub fn take_changes(&self) -> Vec<(HypervisorOp, VmId)> {
        std::mem::take(&mut lock(&self.world).changes)
    }

    fn emit(&self, vm: Option<VmId>, what: Happening) {
        let world = lock(&self.world);
        if !world.loses_events && !world.down {
            // Nobody listening is no error.
            let _ = self.events.send(DomainEvent { vm, what });
        }
    }

    fn set(&self, vm: VmId, state: DomainState, what: Happening) {
        let changed = lock(&self.world).guests.get_mut(&vm).map(|guest| guest.state = state).is_some();
        if changed {
            self.emit(Some(vm), what);
        }
    }

    /// Ends a guest's life; with `life`, only that one.
    fn stop(&self, vm: VmId, reason: OffReason, life: Option<u64>) {
        let stopped = {
            let world = &mut *lock(&self.world);
            let hit = |guest: &&mut Guest| guest.state.is_active() && life.is_none_or(|life| life == guest.life);
            let guest = world.guests.get_mut(&vm).filter(hit);
            let stays = guest.map(|guest| {
                guest.go_off(reason);
                !guest.ours || guest.spec.is_some()
            });
            if stays.is_some() {
                world.lines.end(vm);
            }
            if stays == Some(false) {
                world.guests.remove(&vm);
            }
            stays.is_some()
        };
        if stopped {
            self.emit(Some(vm), Happening::Stopped);
        }
    }

    /// What a call that changes something meets; true if it shall only claim to have done it.
    async fn claims(&self, op: HypervisorOp, what: &'static str, vm: VmId) -> Result<bool, HypervisorError> {
        lock(&self.world).changes.push((op, vm));
        self.meet(op, what, Some(vm)).await?;
        Ok(lock(&self.world).lies.contains(&op))
    }

    async fn meet(&self, op: HypervisorOp, what: &'static str, vm: Option<VmId>) -> Result<(), HypervisorError> {
        if lock(&self.world).down {
            return Err(HypervisorError::Unavailable(Cause::new("injected: the daemon is away")));
        }
        match tokio::time::timeout(DEADLINE, self.faults.meet(op)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                let source = Cause::new(error.to_string());
                Err(match vm {
                    Some(vm) => HypervisorError::Refused { what, vm, source },
                    None => HypervisorError::Failed { what, source },
                })
            }
            Err(_) => Err(HypervisorError::Hung { what, after: DEADLINE }),
        }
    }

    /// Changes one of our guests.
    fn with<T>(
        &self,
        vm: VmId,
        f: impl FnOnce(&mut Guest) -> Result<T, HypervisorError>,
    ) -> Result<T, HypervisorError> {
        match lock(&self.world).guests.get_mut(&vm) {
            None => Err(HypervisorError::NoDomain(vm)),
            Some(guest) if !guest.ours => Err(HypervisorError::Foreign(vm)),
            Some(guest) => f(guest),
        }
    }
}

#[async_trait]
impl Hypervisor for FakeHypervisor {
    async fn list(&self) -> Result<Vec<Domain>, HypervisorError> {
        self.meet(HypervisorOp::List, "list the domains", None).await?;
        Ok(lock(&self.world).guests.iter().filter(|(_, g)| g.ours).map(|(vm, g)| g.domain(*vm)).collect())
    }

    async fn find(&self, vm: VmId) -> Result<Option<Domain>, HypervisorError> {
        self.meet(HypervisorOp::Find, "look at", Some(vm)).await?;
        Ok(lock(&self.world).guests.get(&vm).filter(|g| g.ours).map(|g| g.closely(vm)))
    }

    async fn agent_addresses(&self, vm: VmId) -> Result<Vec<Ipv4Addr>, HypervisorError> {
        self.meet(HypervisorOp::Agent, "ask the agent of", Some(vm)).await?;
        // Its guests have no agent.
        Ok(Vec::new())
    }

    async fn usage(&self) -> Result<Vec<Usage>, HypervisorError> {
        self.meet(HypervisorOp::Usage, "measure the domains", None).await?;
        let world = lock(&self.world);
        let running = world.guests.iter().filter(|(_, g)| g.ours && g.state.is_active());
        // A guest that does nothing: one hundredth of a CPU, and half of its memory.
        Ok(running
            .map(|(vm, guest)| Usage {
                vm: *vm,
                cpu_ns: u64::try_from(guest.started_at.elapsed().as_nanos() / 100).unwrap_or(u64::MAX),
                cpus: 1,
                memory: Some(ByteSize::bytes(guest.memory().as_bytes() / 2)),
            })
            .collect())
    }

    async fn define(&self, spec: &DomainSpec) -> Result<(), HypervisorError> {
        let vm = spec.vm;
        if self.claims(HypervisorOp::Define, "define", vm).await? {
            return Ok(());
        }
        match self.with(vm, |guest| {
            guest.ip = spec.nic.ip;
            guest.spec = Some(spec.clone());
            guest.edited = false;
            Ok(())
        }) {
            Err(HypervisorError::NoDomain(_)) => {
                lock(&self.world).guests.insert(vm, Guest::new(spec));
            }
            other => other?,
        }
        self.emit(Some(vm), Happening::Definition);
        Ok(())
    }

    async fn start(&self, vm: VmId, generation: Generation, mode: StartMode) -> Result<(), HypervisorError> {
        if self.claims(HypervisorOp::Start, "start", vm).await? {
            return Ok(());
        }
        let (volumes, now) = {
            let world = lock(&self.world);
            (world.volumes.clone(), world.clock.as_ref().map(|clock| clock.now()))
        };
        let began = self.with(vm, |guest| {
            guest.started = Some(generation);
            let off = !guest.state.is_active();
            if off {
                guest.boot(volumes.as_deref());
                guest.note_start(now);
                if mode == StartMode::Paused {
                    guest.state = DomainState::Paused(PauseReason::Asked);
                }
            }
            Ok(off)
        })?;
        if began {
            self.emit(Some(vm), Happening::Started);
        }
        Ok(())
    }

    async fn note_cloud_init(&self, vm: VmId, life: u32) -> Result<(), HypervisorError> {
        if self.claims(HypervisorOp::NoteCloudInit, "note the cloud-init of", vm).await? {
            return Ok(());
        }
        if self.with(vm, |guest| Ok(guest.cloud_init_done.replace(life) != Some(life)))? {
            self.emit(Some(vm), Happening::Definition);
        }
        Ok(())
    }

    async fn suspend(&self, vm: VmId) -> Result<(), HypervisorError> {
        if self.claims(HypervisorOp::Suspend, "suspend", vm).await? {
            return Ok(());
        }
        let paused = self.with(vm, |guest| match guest.state {
            DomainState::Paused(_) => Ok(false),
            DomainState::Off(_) => Err(off("suspend", vm)),
            DomainState::Running | DomainState::ShuttingDown => {
                guest.state = DomainState::Paused(PauseReason::Asked);
                Ok(true)
            }
        })?;
        if paused {
            self.emit(Some(vm), Happening::Paused);
        }
        Ok(())
    }

    async fn resume(&self, vm: VmId) -> Result<(), HypervisorError> {
        if self.claims(HypervisorOp::Resume, "resume", vm).await? {
            return Ok(());
        }
        let resumed = self.with(vm, |guest| match guest.state {
            DomainState::Paused(_) => {
                guest.state = DomainState::Running;
                Ok(true)
            }
            DomainState::Off(_) => Err(off("resume", vm)),
            DomainState::Running | DomainState::ShuttingDown => Ok(false),
        })?;
        if resumed {
            self.emit(Some(vm), Happening::Started);
        }
        Ok(())
    }

    async fn adjust(&self, vm: VmId, adjustment: &Adjustment) -> Result<(), HypervisorError> {
        if self.claims(HypervisorOp::Adjust, "adjust", vm).await? {
            return Ok(());
        }
        let volumes = lock(&self.world).volumes.clone();
        self.with(vm, |guest| guest.adjust(vm, adjustment, volumes.as_deref()))
    }

    async fn shutdown(&self, vm: VmId) -> Result<(), HypervisorError> {
        if self.claims(HypervisorOp::Shutdown, "shut down", vm).await? {
            return Ok(());
        }
        let hears =
            self.with(vm, |guest| Ok((guest.state == DomainState::Running && !guest.deaf).then_some(guest.life)))?;
        if let Some(life) = hears {
            let (fake, takes) = (self.clone(), lock(&self.world).shutdown_takes);
            tokio::spawn(async move {
                tokio::time::sleep(takes).await;
                fake.stop(vm, OffReason::ShutDown, Some(life));
            });
        }
        Ok(())
    }

    async fn force_stop(&self, vm: VmId) -> Result<(), HypervisorError> {
        if self.claims(HypervisorOp::ForceStop, "stop", vm).await? {
            return Ok(());
        }
        match self.with(vm, |_| Ok(())) {
            Ok(()) => self.stop(vm, OffReason::Destroyed, None),
            Err(HypervisorError::NoDomain(_)) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    async fn undefine(&self, vm: VmId) -> Result<(), HypervisorError> {
        if self.claims(HypervisorOp::Undefine, "undefine", vm).await? {
            return Ok(());
        }
        let running = |guest: &mut Guest| match guest.state.is_active() {
            true => Err(HypervisorError::Refused { what: "undefine", vm, source: Cause::new("the guest is running") }),
            false => Ok(()),
        };
        match self.with(vm, running) {
            Ok(()) => {
                lock(&self.world).guests.remove(&vm);
                self.emit(Some(vm), Happening::Definition);
                Ok(())
            }
            Err(HypervisorError::NoDomain(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn console(&self, vm: VmId) -> Result<Option<Box<dyn Line>>, HypervisorError> {
        self.meet(HypervisorOp::Console, "open the serial port of", Some(vm)).await?;
        self.open_console(vm)
    }

    async fn screen(&self, vm: VmId) -> Result<Option<Box<dyn Line>>, HypervisorError> {
        self.meet(HypervisorOp::Screen, "open the screen of", Some(vm)).await?;
        self.open_screen(vm)
    }

    fn events(&self) -> broadcast::Receiver<DomainEvent> {
        self.events.subscribe()
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }
}

fn off(what: &'static str, vm: VmId) -> HypervisorError {
    HypervisorError::Refused { what, vm, source: Cause::new("the guest is off") }
}

//! A tap on every call that reconcile makes: it notes each, and can let a fault strike before or after one. The calls are
//! found by running, so a step that is new is struck too.

use crate::{
    faults::lock,
    hypervisor::{
        Adjustment, Cause, Domain, DomainEvent, DomainSpec, Health, Hypervisor, HypervisorError, Line, StartMode, Usage,
    },
    images::{ImageError, ImageStore},
    net::{Attachment, GuestNetwork, Met, NetworkError, Reservation},
    volumes::{DataVolume, Disks, Volume, VolumeError, Volumes},
};
use async_trait::async_trait;
use std::{
    future::{Future, pending},
    io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::{broadcast, watch};
use waifud_model::{
    digest::Blake3,
    ids::{Generation, VmId},
    size::ByteSize,
    template::{ImageFormat, TemplateVersion},
    vm::Mac,
};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// waifud is killed.
    Death,
    /// The call fails.
    Error,
    /// It does not answer.
    Hang,
    /// No space is left.
    NoSpace,
    /// Nothing by itself: the call stands still until [`Tap::heal`], for something around it to go wrong.
    Halt,
}

impl Fault {
    /// Those that strike by themselves.
    pub(super) const ALL: [Self; 4] = [Self::Death, Self::Error, Self::Hang, Self::NoSpace];
}

/// A moment at which something can go wrong: before a call, or after it was done and before that is heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Boundary {
    pub(super) call: &'static str,
    pub(super) done: bool,
}

/// A boundary, and how often it was passed before.
pub(super) type Place = (Boundary, usize);

#[derive(Debug, Default)]
struct Script {
    passed: Vec<Boundary>,
    armed: Option<(Place, Fault)>,
    struck: Option<(Boundary, Fault)>,
}

/// The tap.
#[derive(Debug)]
pub(super) struct Tap {
    script: Mutex<Script>,
    /// A call stands still: waifud is to be killed now, or something around it.
    pub(super) halted: watch::Sender<bool>,
    healed: watch::Sender<bool>,
}

/// As libvirt's.
const HUNG: Duration = Duration::from_secs(25);

impl Tap {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            script: Mutex::default(),
            halted: watch::Sender::new(false),
            healed: watch::Sender::new(false),
        })
    }

    /// Counts from now on, and lets a fault strike at that place. It lasts until [`Self::heal`].
    pub(super) fn arm(&self, armed: Option<(Place, Fault)>) {
        *lock(&self.script) = Script { armed, ..Script::default() };
    }

    /// The fault is over.
    pub(super) fn heal(&self) {
        let mut script = lock(&self.script);
        (script.armed, script.struck) = (None, None);
        self.halted.send_replace(false);
        self.healed.send_replace(true);
    }

    /// All places at which something could have gone wrong since it was armed.
    pub(super) fn places(&self) -> Vec<Place> {
        let passed = self.passed();
        let before = |at: usize| passed[..at].iter().filter(|boundary| **boundary == passed[at]).count();
        (0..passed.len()).map(|at| (passed[at], before(at))).collect()
    }

    /// Everything that was passed since it was armed.
    pub(super) fn passed(&self) -> Vec<Boundary> {
        lock(&self.script).passed.clone()
    }

    /// Where the fault struck.
    pub(super) fn struck(&self) -> Option<Boundary> {
        lock(&self.script).struck.map(|(boundary, _)| boundary)
    }

    fn cross(&self, boundary: Boundary) -> Option<Fault> {
        let mut script = lock(&self.script);
        let before = script.passed.iter().filter(|passed| **passed == boundary).count();
        script.passed.push(boundary);
        if let Some((place, fault)) = script.armed
            && place == (boundary, before)
        {
            script.struck = Some((boundary, fault));
        }
        script.struck.filter(|(struck, _)| *struck == boundary).map(|(_, fault)| fault)
    }

    /// Makes a call, unless the fault strikes. `hung` is how long a call that gets no answer takes to say so; none: for ever.
    async fn call<T, E>(
        &self,
        call: &'static str,
        hung: Option<Duration>,
        fails: impl Fn(Fault) -> E,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        self.meet(Boundary { call, done: false }, hung).await.map_err(&fails)?;
        let answer = work.await;
        self.meet(Boundary { call, done: true }, hung).await.map_err(&fails)?;
        answer
    }

    async fn meet(&self, boundary: Boundary, hung: Option<Duration>) -> Result<(), Fault> {
        match (self.cross(boundary), hung) {
            (None, _) => return Ok(()),
            (Some(Fault::Death), _) => {
                self.halted.send_replace(true);
                pending().await
            }
            (Some(Fault::Halt), _) => {
                self.halted.send_replace(true);
                self.until_healed().await;
                return Ok(());
            }
            (Some(Fault::Hang), Some(after)) => tokio::time::sleep(after).await,
            (Some(Fault::Hang), None) => {
                self.until_healed().await;
                return Ok(());
            }
            (Some(fault), _) => return Err(fault),
        }
        Err(Fault::Hang)
    }

    async fn until_healed(&self) {
        // The sender is in `self`.
        let _ = self.healed.subscribe().wait_for(|healed| *healed).await;
    }

    pub(super) fn hypervisor(self: &Arc<Self>, real: Arc<dyn Hypervisor>) -> Arc<dyn Hypervisor> {
        Arc::new(Tapped { real, tap: Arc::clone(self) })
    }

    pub(super) fn volumes(self: &Arc<Self>, real: Arc<dyn Volumes>) -> Arc<dyn Volumes> {
        Arc::new(Tapped { real, tap: Arc::clone(self) })
    }

    pub(super) fn images(self: &Arc<Self>, real: Arc<dyn ImageStore>) -> Arc<dyn ImageStore> {
        Arc::new(Tapped { real, tap: Arc::clone(self) })
    }

    pub(super) fn network(self: &Arc<Self>, real: Arc<dyn GuestNetwork>) -> Arc<dyn GuestNetwork> {
        Arc::new(Tapped { real, tap: Arc::clone(self) })
    }
}

#[derive(Debug)]
struct Tapped<T: ?Sized> {
    tap: Arc<Tap>,
    real: Arc<T>,
}

impl Tapped<dyn Hypervisor> {
    async fn of<T>(
        &self,
        what: &'static str,
        vm: Option<VmId>,
        work: impl Future<Output = Result<T, HypervisorError>>,
    ) -> Result<T, HypervisorError> {
        let fails = |fault| match (fault, vm) {
            (Fault::Hang, _) => HypervisorError::Hung { what, after: HUNG },
            (Fault::NoSpace, Some(vm)) => {
                HypervisorError::Refused { what, vm, source: Cause::new("No space left on device") }
            }
            (_, Some(vm)) => HypervisorError::Refused { what, vm, source: Cause::new("injected") },
            (_, None) => HypervisorError::Failed { what, source: Cause::new("injected") },
        };
        self.tap.call(what, Some(HUNG), fails, work).await
    }
}

#[async_trait]
impl Hypervisor for Tapped<dyn Hypervisor> {
    async fn list(&self) -> Result<Vec<Domain>, HypervisorError> {
        self.of("list", None, self.real.list()).await
    }

    async fn find(&self, vm: VmId) -> Result<Option<Domain>, HypervisorError> {
        self.of("find", Some(vm), self.real.find(vm)).await
    }

    async fn usage(&self) -> Result<Vec<Usage>, HypervisorError> {
        self.real.usage().await
    }

    async fn agent_addresses(&self, vm: VmId) -> Result<Vec<Ipv4Addr>, HypervisorError> {
        self.of("ask the agent of", Some(vm), self.real.agent_addresses(vm)).await
    }

    async fn define(&self, spec: &DomainSpec) -> Result<(), HypervisorError> {
        self.of("define", Some(spec.vm), self.real.define(spec)).await
    }

    async fn start(&self, vm: VmId, generation: Generation, mode: StartMode) -> Result<(), HypervisorError> {
        self.of("start", Some(vm), self.real.start(vm, generation, mode)).await
    }

    async fn note_cloud_init(&self, vm: VmId, life: u32) -> Result<(), HypervisorError> {
        self.of("note the cloud-init of", Some(vm), self.real.note_cloud_init(vm, life)).await
    }

    async fn suspend(&self, vm: VmId) -> Result<(), HypervisorError> {
        self.of("suspend", Some(vm), self.real.suspend(vm)).await
    }

    async fn resume(&self, vm: VmId) -> Result<(), HypervisorError> {
        self.of("resume", Some(vm), self.real.resume(vm)).await
    }

    async fn adjust(&self, vm: VmId, adjustment: &Adjustment) -> Result<(), HypervisorError> {
        self.of("adjust", Some(vm), self.real.adjust(vm, adjustment)).await
    }

    async fn shutdown(&self, vm: VmId) -> Result<(), HypervisorError> {
        self.of("shut down", Some(vm), self.real.shutdown(vm)).await
    }

    async fn force_stop(&self, vm: VmId) -> Result<(), HypervisorError> {
        self.of("force off", Some(vm), self.real.force_stop(vm)).await
    }

    async fn undefine(&self, vm: VmId) -> Result<(), HypervisorError> {
        self.of("undefine", Some(vm), self.real.undefine(vm)).await
    }

    async fn console(&self, vm: VmId) -> Result<Option<Box<dyn Line>>, HypervisorError> {
        self.real.console(vm).await
    }

    async fn screen(&self, vm: VmId) -> Result<Option<Box<dyn Line>>, HypervisorError> {
        self.real.screen(vm).await
    }

    fn events(&self) -> broadcast::Receiver<DomainEvent> {
        self.real.events()
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.real.health()
    }
}

impl Tapped<dyn Volumes> {
    async fn of<T>(
        &self,
        call: &'static str,
        vm: Option<VmId>,
        work: impl Future<Output = Result<T, VolumeError>>,
    ) -> Result<T, VolumeError> {
        let dir = || PathBuf::from("/fake/volumes");
        let fails = |fault| match (fault, vm) {
            (Fault::NoSpace, Some(vm)) => VolumeError::NoSpace { vm, dir: dir() },
            _ => VolumeError::Io { doing: "use", path: dir(), source: io::Error::other("injected") },
        };
        self.tap.call(call, None, fails, work).await
    }
}

#[async_trait]
impl Volumes for Tapped<dyn Volumes> {
    async fn ensure(
        &self,
        vm: VmId,
        life: u32,
        base: Option<(&Path, ImageFormat)>,
        size: ByteSize,
    ) -> Result<Volume, VolumeError> {
        self.of("make a root disk", Some(vm), self.real.ensure(vm, life, base, size)).await
    }

    async fn find(&self, vm: VmId, life: u32) -> Result<Option<Volume>, VolumeError> {
        self.of("find a root disk", Some(vm), self.real.find(vm, life)).await
    }

    async fn disks(&self, vm: VmId) -> Result<Disks, VolumeError> {
        self.of("list disks", Some(vm), self.real.disks(vm)).await
    }

    async fn remove_old_lives(&self, vm: VmId, keep: u32) -> Result<(), VolumeError> {
        self.of("remove old root disks", Some(vm), self.real.remove_old_lives(vm, keep)).await
    }

    async fn ensure_data(&self, vm: VmId, disk: &DataVolume, size: ByteSize) -> Result<Volume, VolumeError> {
        self.of("make a disk", Some(vm), self.real.ensure_data(vm, disk, size)).await
    }

    async fn find_data(&self, vm: VmId, disk: &DataVolume) -> Result<Option<Volume>, VolumeError> {
        self.of("find a disk", Some(vm), self.real.find_data(vm, disk)).await
    }

    async fn remove_data(&self, vm: VmId, disk: &DataVolume) -> Result<(), VolumeError> {
        self.of("remove a disk", Some(vm), self.real.remove_data(vm, disk)).await
    }

    async fn write_seed(&self, vm: VmId, contents: Vec<u8>) -> Result<PathBuf, VolumeError> {
        self.of("write a seed", Some(vm), self.real.write_seed(vm, contents)).await
    }

    async fn remove(&self, vm: VmId) -> Result<(), VolumeError> {
        self.of("remove all disks", Some(vm), self.real.remove(vm)).await
    }

    async fn list(&self) -> Result<Vec<VmId>, VolumeError> {
        self.of("list all disks", None, self.real.list()).await
    }
}

#[async_trait]
impl ImageStore for Tapped<dyn ImageStore> {
    async fn ensure(&self, version: &TemplateVersion) -> Result<PathBuf, ImageError> {
        let dir = || PathBuf::from("/fake/images");
        let fails = |fault| match fault {
            Fault::NoSpace => ImageError::NoSpace { dir: dir(), needed: version.size, free: ByteSize::ZERO },
            _ => ImageError::Io { doing: "fetch", path: dir(), source: io::Error::other("injected") },
        };
        self.tap.call("fetch an image", None, fails, self.real.ensure(version)).await
    }

    async fn present(&self, version: Blake3) -> bool {
        self.real.present(version).await
    }
}

impl Tapped<dyn GuestNetwork> {
    async fn of<T>(
        &self,
        doing: &'static str,
        work: impl Future<Output = Result<T, NetworkError>>,
    ) -> Result<T, NetworkError> {
        let fails = |fault| match fault {
            Fault::Hang => NetworkError::Hung { doing, after: HUNG },
            fault => NetworkError::Libvirt { doing, said: format!("injected: {fault:?}") },
        };
        self.tap.call(doing, Some(HUNG), fails, work).await
    }
}

#[async_trait]
impl GuestNetwork for Tapped<dyn GuestNetwork> {
    async fn reserve(&self, vm: VmId, ip: Ipv4Addr, mac: Mac) -> Result<(), NetworkError> {
        self.of("reserve an address", self.real.reserve(vm, ip, mac)).await
    }

    async fn release(&self, vm: VmId, ip: Ipv4Addr, mac: Mac) -> Result<(), NetworkError> {
        self.of("release an address", self.real.release(vm, ip, mac)).await
    }

    async fn reserved(&self) -> Result<Vec<Reservation>, NetworkError> {
        self.of("list reservations", self.real.reserved()).await
    }

    async fn met(&self) -> Result<Vec<Met>, NetworkError> {
        self.of("see who was met", self.real.met()).await
    }

    fn attachment(&self) -> Attachment {
        self.real.attachment()
    }
}

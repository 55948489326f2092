//! Looking, and taking one step: the thin hands of reconcile. Nothing is decided here.

use super::{
    plan::{Adjust, Observed, Step},
    ports::{Intent, Wanted},
    shape::{self, Files, Shape},
};
use crate::{
    faults::lock,
    hypervisor::{Adjustment, Drive, ExtraDisk, Hypervisor, HypervisorError, StartMode},
    images::{ImageError, ImageStore},
    net::{GuestNetwork, NetworkError, Reservation},
    volumes::{Disks, VolumeError, Volumes},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time::Instant;
use waifud_model::{
    hardware::DataDisk,
    ids::VmId,
    template::{ImageFormat, TemplateVersion},
    vm::{Desired, ImageRef, Mac, Vm},
};

/// Reservations are listed all at once, and by many tasks: a list this old is still good.
const LISTING: Duration = Duration::from_secs(5);

/// Why a VM could not be looked at, or a step not be taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum StepError {
    #[error(transparent)]
    Hypervisor(#[from] HypervisorError),
    #[error(transparent)]
    Volume(#[from] VolumeError),
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error("the console's log cannot be removed")]
    Log(#[source] std::io::Error),
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error("template {} has no version {} any more", .0.template, .0.version.short())]
    NoTemplate(ImageRef),
    #[error("a disk that was made is not there")]
    NoVolume,
    #[error("nothing changed although it was done")]
    NoEffect,
    #[error("it was not done within {} s, and is given up for now; does the node's disk answer?", .0.as_secs())]
    TooLong(Duration),
    #[error(transparent)]
    Intent(#[from] super::ports::IntentError),
}

impl StepError {
    /// True if the hypervisor did not answer: nothing is known of the guest then.
    pub(super) const fn is_silence(&self) -> bool {
        matches!(self, Self::Hypervisor(error) if error.is_silence())
    }

    /// The error and all its reasons, for people.
    pub(super) fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            text.push_str(": ");
            text.push_str(&error.to_string());
            source = error.source();
        }
        text
    }
}

/// What steps are taken with.
#[derive(Debug)]
pub(super) struct Hands {
    pub(super) hypervisor: Arc<dyn Hypervisor>,
    pub(super) volumes: Arc<dyn Volumes>,
    pub(super) images: Arc<dyn ImageStore>,
    pub(super) network: Arc<dyn GuestNetwork>,
    pub(super) shape: Shape,
    pub(super) reserved: Reserved,
}

impl Hands {
    /// What is here of a VM.
    pub(super) async fn observe(&self, id: VmId, wanted: Option<&Wanted>) -> Result<Observed, StepError> {
        let domain = self.hypervisor.find(id).await?;
        let Disks { roots, data: disks } = self.volumes.disks(id).await?;
        let named = Disks::named(id, domain.iter().flat_map(|domain| &domain.disks));
        let mut seen = Observed { domain, roots: roots.into_keys().collect(), disks, named, ..Observed::default() };
        match (wanted, &seen.domain) {
            (Some(Wanted { vm, image, cd, .. }), _) => {
                let stands_on_nothing = image.as_ref().is_some_and(|image| image.format == ImageFormat::Iso);
                seen.image = stands_on_nothing || self.images.present(vm.spec.image.version).await;
                if let Some(cd) = cd
                    && self.images.present(cd.version).await
                {
                    seen.cd = Some(self.images.ensure(cd).await?);
                }
                seen.reserved = self.reserved.has(&*self.network, vm).await?;
            }
            (None, Some(domain)) => seen.reserved = self.reserved.has_only(&*self.network, domain.ip).await?,
            (None, None) => {}
        }
        Ok(seen)
    }

    /// Takes a step. Reports are not taken here: they are the task's.
    pub(super) async fn take(
        &self,
        step: &Step,
        id: VmId,
        wanted: Option<&Wanted>,
        seen: &Observed,
        intent: &dyn Intent,
    ) -> Result<(), StepError> {
        match (step, wanted) {
            (Step::Suspend, _) => self.hypervisor.suspend(id).await?,
            (Step::Resume, _) => self.hypervisor.resume(id).await?,
            (Step::Shutdown, _) => self.hypervisor.shutdown(id).await?,
            (Step::ForceStop, _) => self.hypervisor.force_stop(id).await?,
            (Step::Undefine, _) => self.hypervisor.undefine(id).await?,
            (Step::RemoveVolumes, _) => {
                // First what was written on its console: without a volume nobody would come back for it.
                self.shape.logs().remove(id).map_err(StepError::Log)?;
                self.volumes.remove(id).await?;
            }
            (Step::RemoveDisk(disk), _) => self.volumes.remove_data(id, disk).await?,
            (Step::ReleaseAddress, _) => {
                let of_record = wanted.map(|wanted| (wanted.vm.ip, wanted.vm.mac));
                let of_mark = seen.domain.as_ref().map(|domain| (domain.ip, Mac::of(domain.ip)));
                if let Some((ip, mac)) = of_record.or(of_mark) {
                    self.network.release(id, ip, mac).await?;
                    self.reserved.forget(ip);
                }
            }
            (Step::EnsureImage, Some(wanted)) => drop(self.images.ensure(image(wanted)?).await?),
            (Step::EnsureCd, Some(wanted)) => drop(self.cd(wanted).await?),
            (Step::EnsureRoot, Some(wanted)) => self.ensure_root(wanted).await?,
            (Step::EnsureDisk(slot), Some(Wanted { vm, .. })) => {
                if let Some(disk) = disk_in(vm, *slot) {
                    self.volumes.ensure_data(id, &disk.into(), disk.size).await?;
                }
            }
            (Step::RemoveOldRoots, Some(Wanted { vm, .. })) => {
                self.volumes.remove_old_lives(id, vm.disk_life).await?;
            }
            (Step::ReserveAddress, Some(Wanted { vm, .. })) => {
                self.network.reserve(id, vm.ip, vm.mac).await?;
                self.reserved.add(vm);
            }
            (Step::DefineDomain, Some(wanted)) => self.define(wanted, intent).await?,
            (Step::Start, Some(Wanted { vm, .. })) => {
                if !seen.domain.as_ref().is_some_and(|domain| domain.state.is_active())
                    && let Err(error) = self.shape.logs().begin(id)
                {
                    // The guest is worth more than the place in its log.
                    tracing::warn!(vm = %id, %error, "a guest's start is not noted in its console's log");
                }
                let mode = if vm.desired == Desired::Paused { StartMode::Paused } else { StartMode::Run };
                self.hypervisor.start(id, vm.generation, mode).await?;
            }
            (Step::Adjust(adjust), Some(wanted)) => {
                if let Some(adjustment) = self.adjustment(*adjust, wanted).await? {
                    self.hypervisor.adjust(id, &adjustment).await?;
                }
            }
            // A plan without a record has none of the steps that need one, and reports are sent by the task.
            _ => {}
        }
        Ok(())
    }

    async fn ensure_root(&self, wanted: &Wanted) -> Result<(), StepError> {
        let (vm, image) = (&wanted.vm, image(wanted)?);
        // What a CD installs on is empty.
        let base = match image.format {
            ImageFormat::Iso => None,
            format => Some((self.images.ensure(image).await?, format)),
        };
        let base = base.as_ref().map(|(path, format)| (path.as_path(), *format));
        self.volumes.ensure(vm.id, vm.disk_life, base, vm.spec.disk).await?;
        Ok(())
    }

    async fn define(&self, wanted: &Wanted, intent: &dyn Intent) -> Result<(), StepError> {
        let vm = &wanted.vm;
        let root = self.volumes.find(vm.id, vm.disk_life).await?.ok_or(StepError::NoVolume)?;
        let mut disks = Vec::new();
        for disk in &vm.spec.hardware.disks {
            disks.push(self.extra_disk(vm.id, disk).await?);
        }
        let seed = match intent.seed(vm).await? {
            Some(contents) => Some(self.volumes.write_seed(vm.id, contents).await?),
            None => None,
        };
        // Who installs from a CD needs a drive that every installer knows; what was made from an image boots from virtio.
        let installs = wanted.image.as_ref().is_some_and(|image| image.format == ImageFormat::Iso);
        let drive = if installs { Drive::Plain } else { Drive::Virtio };
        let files = Files { root, disks, cd: self.cd(wanted).await?, drive, seed };
        self.hypervisor.define(&self.shape.domain(vm, files, self.network.attachment())).await?;
        Ok(())
    }

    /// What the guest is told; none if the record does not have what it is about.
    async fn adjustment(&self, adjust: Adjust, wanted: &Wanted) -> Result<Option<Adjustment>, StepError> {
        let vm = &wanted.vm;
        Ok(Some(match adjust {
            Adjust::Cpus(cpus) => Adjustment::Cpus(cpus),
            Adjust::Memory(memory) => Adjustment::Memory(memory),
            Adjust::Grow(slot, size) => Adjustment::Grow { slot, size },
            Adjust::Attach(slot) => {
                let Some(disk) = disk_in(vm, slot) else { return Ok(None) };
                Adjustment::Attach(self.extra_disk(vm.id, disk).await?)
            }
            Adjust::Detach(slot) => Adjustment::Detach { slot },
            Adjust::Cd => Adjustment::Cd(self.cd(wanted).await?),
            Adjust::AttachCard(number) | Adjust::MoveCard(number) => {
                let card = shape::cards(vm).into_iter().nth(number.into());
                let Some(card) = card else { return Ok(None) };
                let there = matches!(adjust, Adjust::MoveCard(_));
                if there { Adjustment::MoveCard(card) } else { Adjustment::AttachCard(card) }
            }
            Adjust::DetachCard(mac) => Adjustment::DetachCard(mac),
        }))
    }

    async fn extra_disk(&self, vm: VmId, disk: &DataDisk) -> Result<ExtraDisk, StepError> {
        let volume = self.volumes.find_data(vm, &disk.into()).await?.ok_or(StepError::NoVolume)?;
        Ok(ExtraDisk { slot: disk.slot, serial: disk.name.clone(), disk: self.shape.disk(volume) })
    }

    /// The image for the CD drive, if there shall be one.
    async fn cd(&self, wanted: &Wanted) -> Result<Option<PathBuf>, StepError> {
        match (&wanted.cd, &wanted.vm.spec.hardware.cd) {
            (Some(version), _) => Ok(Some(self.images.ensure(version).await?)),
            (None, Some(image)) => Err(StepError::NoTemplate(image.clone())),
            (None, None) => Ok(None),
        }
    }
}

fn disk_in(vm: &Vm, slot: u8) -> Option<&DataDisk> {
    vm.spec.hardware.disks.iter().find(|disk| disk.slot == slot)
}

fn image(wanted: &Wanted) -> Result<&TemplateVersion, StepError> {
    wanted.image.as_ref().ok_or_else(|| StepError::NoTemplate(wanted.vm.spec.image.clone()))
}

/// The reservations as they were listed a moment ago, with our own changes since.
#[derive(Debug, Default)]
pub(super) struct Reserved {
    listed: Mutex<Option<(Instant, BTreeSet<Reservation>)>>,
    /// One listing at a time; the others wait for it and use it.
    listing: tokio::sync::Mutex<()>,
    /// The addresses of this node's VMs.
    wanted: Mutex<BTreeMap<Ipv4Addr, VmId>>,
}

impl Reserved {
    /// These addresses belong to VMs of this node.
    pub(super) fn set_wanted(&self, addresses: BTreeMap<Ipv4Addr, VmId>) {
        *lock(&self.wanted) = addresses;
    }

    /// Which VM of this node has the address.
    pub(super) fn whose(&self, ip: Ipv4Addr) -> Option<VmId> {
        lock(&self.wanted).get(&ip).copied()
    }

    /// The address of a VM of this node.
    pub(super) fn address(&self, vm: VmId) -> Option<Ipv4Addr> {
        lock(&self.wanted).iter().find(|(_, whose)| **whose == vm).map(|(ip, _)| *ip)
    }

    async fn has(&self, network: &dyn GuestNetwork, vm: &Vm) -> Result<bool, NetworkError> {
        let wanted = reservation(vm);
        self.any(network, |listed| *listed == wanted).await
    }

    /// Is the address reserved, and not for any VM of this node?
    async fn has_only(&self, network: &dyn GuestNetwork, ip: Ipv4Addr) -> Result<bool, NetworkError> {
        let taken = lock(&self.wanted).contains_key(&ip);
        Ok(!taken && self.any(network, |listed| listed.ip == ip).await?)
    }

    async fn any(
        &self,
        network: &dyn GuestNetwork,
        is_it: impl Fn(&Reservation) -> bool,
    ) -> Result<bool, NetworkError> {
        let _turn = self.listing.lock().await;
        let fresh = lock(&self.listed).as_ref().is_some_and(|(at, _)| at.elapsed() < LISTING);
        if !fresh {
            let all = network.reserved().await?.into_iter().collect();
            *lock(&self.listed) = Some((Instant::now(), all));
        }
        Ok(lock(&self.listed).as_ref().is_some_and(|(_, all)| all.iter().any(is_it)))
    }

    fn add(&self, vm: &Vm) {
        let new = reservation(vm);
        if let Some((_, all)) = lock(&self.listed).as_mut() {
            all.retain(|old| !old.collides(&new));
            all.insert(new);
        }
    }

    fn forget(&self, ip: Ipv4Addr) {
        if let Some((_, all)) = lock(&self.listed).as_mut() {
            all.retain(|old| old.ip != ip);
        }
    }
}

fn reservation(vm: &Vm) -> Reservation {
    Reservation { ip: vm.ip, mac: vm.mac }
}

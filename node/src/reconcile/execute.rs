//! Looking, and taking one step: the thin hands of reconcile. Nothing is decided here.

use super::{
    plan::{Observed, Step},
    ports::{Intent, Wanted},
    shape::Shape,
};
use crate::{
    faults::lock,
    hypervisor::{Hypervisor, HypervisorError, StartMode},
    images::{ImageError, ImageStore},
    net::{GuestNetwork, NetworkError, Reservation},
    volumes::{VolumeError, Volumes},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time::Instant;
use waifud_model::{
    ids::VmId,
    template::ImageFormat,
    vm::{ImageRef, Mac, Vm},
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
    #[error("the disk was made but is not there")]
    NoVolume,
    #[error("nothing changed although it was done")]
    NoEffect,
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
    pub(super) async fn observe(&self, id: VmId, wanted: Option<&Vm>) -> Result<Observed, StepError> {
        let domain = self.hypervisor.find(id).await?;
        let volume = match wanted {
            Some(vm) => self.volumes.find(id, vm.disk_life).await?.is_some(),
            None => self.volumes.list().await?.contains(&id),
        };
        let (image, reserved) = match (wanted, &domain) {
            (Some(vm), _) => {
                (self.images.present(vm.spec.image.version).await, self.reserved.has(&*self.network, vm).await?)
            }
            (None, Some(domain)) => (false, self.reserved.has_only(&*self.network, domain.ip).await?),
            (None, None) => (false, false),
        };
        Ok(Observed { domain, volume, image, reserved })
    }

    /// Takes a step. Reports are not taken here: they are the task's.
    pub(super) async fn take(
        &self,
        step: Step,
        id: VmId,
        wanted: Option<&Wanted>,
        seen: &Observed,
        intent: &dyn Intent,
    ) -> Result<(), StepError> {
        match (step, wanted) {
            (Step::Shutdown, _) => self.hypervisor.shutdown(id).await?,
            (Step::ForceStop, _) => self.hypervisor.force_stop(id).await?,
            (Step::Undefine, _) => self.hypervisor.undefine(id).await?,
            (Step::RemoveVolume, _) => {
                // First what was written on its console: without a volume nobody would come back for it.
                self.shape.logs().remove(id).map_err(StepError::Log)?;
                self.volumes.remove(id).await?;
            }
            (Step::ReleaseAddress, _) => {
                let of_record = wanted.map(|wanted| (wanted.vm.ip, wanted.vm.mac));
                let of_mark = seen.domain.as_ref().map(|domain| (domain.ip, Mac::of(domain.ip)));
                if let Some((ip, mac)) = of_record.or(of_mark) {
                    self.network.release(id, ip, mac).await?;
                    self.reserved.forget(ip);
                }
            }
            (Step::EnsureImage, Some(wanted)) => drop(self.images.ensure(image(wanted)?).await?),
            (Step::CreateVolume, Some(wanted)) => {
                let image = image(wanted)?;
                let base = self.images.ensure(image).await?;
                let base = (image.format != ImageFormat::Iso).then_some((base.as_path(), image.format));
                self.volumes.ensure(id, wanted.vm.disk_life, base, wanted.vm.spec.disk).await?;
            }
            (Step::ReserveAddress, Some(Wanted { vm, .. })) => {
                self.network.reserve(id, vm.ip, vm.mac).await?;
                self.reserved.add(vm);
            }
            (Step::DefineDomain, Some(Wanted { vm, .. })) => {
                let volume = self.volumes.find(id, vm.disk_life).await?.ok_or(StepError::NoVolume)?;
                let seed = match intent.seed(vm).await? {
                    Some(contents) => Some(self.volumes.write_seed(id, contents).await?),
                    None => None,
                };
                self.hypervisor.define(&self.shape.domain(vm, volume, seed, self.network.attachment())).await?;
            }
            (Step::Start, Some(Wanted { vm, .. })) => {
                if !seen.domain.as_ref().is_some_and(|domain| domain.state.is_active())
                    && let Err(error) = self.shape.logs().begin(id)
                {
                    // The guest is worth more than the place in its log.
                    tracing::warn!(vm = %id, %error, "a guest's start is not noted in its console's log");
                }
                self.hypervisor.start(id, vm.generation, StartMode::Run).await?;
            }
            // A plan without a record has none of the steps that need one, and reports are sent by the task.
            _ => {}
        }
        Ok(())
    }
}

fn image(wanted: &Wanted) -> Result<&waifud_model::template::TemplateVersion, StepError> {
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

//! The product's own edges, with planted bugs wrapped around those that have one. Without a bug nothing is wrapped.

use super::{lock, planted::Planted};
use async_trait::async_trait;
use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};
use tokio::sync::{broadcast, watch};
use waifud_consensus::Handle;
use waifud_model::{
    ids::{Generation, VmId},
    size::ByteSize,
    template::ImageFormat,
    vm::Vm,
};
use waifud_node::{
    hypervisor::{
        Adjustment, Domain, DomainEvent, DomainSpec, Health, Hypervisor, HypervisorError, Line, Nic, StartMode, Usage,
    },
    reconcile::{Fate, Intent, IntentError, Wanted},
    volumes::{DataVolume, Disks, Volume, VolumeError, Volumes},
};

/// What a node wants to run, perhaps with the VMs of other owners, or without reboots.
pub(crate) fn intent(real: Arc<dyn Intent>, consensus: Handle, planted: Option<Planted>) -> Arc<dyn Intent> {
    match planted {
        Some(Planted::ForeignOwner) => Arc::new(Greedy { real, consensus }),
        Some(Planted::MissedReboots) => Arc::new(Inattentive(real)),
        _ => real,
    }
}

/// What runs guests, perhaps with the address of another.
pub(crate) fn hypervisor(real: Arc<dyn Hypervisor>, planted: Option<Planted>) -> Arc<dyn Hypervisor> {
    match planted {
        Some(Planted::SharedAddress) => Arc::new(Confused { real, last: Mutex::new(None) }),
        _ => real,
    }
}

/// What keeps disks, perhaps too long.
pub(crate) fn volumes(real: Arc<dyn Volumes>, planted: Option<Planted>) -> Arc<dyn Volumes> {
    match planted {
        Some(Planted::LeftDisks) => Arc::new(Hoard { real, removed: Mutex::new(Vec::new()) }),
        _ => real,
    }
}

#[derive(Debug)]
struct Greedy {
    real: Arc<dyn Intent>,
    consensus: Handle,
}

#[async_trait]
impl Intent for Greedy {
    fn changed(&self) -> watch::Receiver<u64> {
        self.real.changed()
    }

    async fn wanted(&self) -> Result<Vec<Arc<Wanted>>, IntentError> {
        let own = self.real.wanted().await?;
        let all = self.consensus.read(|view| {
            let mut all = Vec::new();
            for vm in view.vms()? {
                let image = view.template_version(&vm.spec.image.template, vm.spec.image.version)?;
                all.push(Arc::new(Wanted { vm, image, cd: None, wished_at: None }));
            }
            Ok(all)
        });
        Ok(all.await.unwrap_or(own))
    }

    async fn seed(&self, vm: &Vm) -> Result<Option<Vec<u8>>, IntentError> {
        self.real.seed(vm).await
    }

    async fn fate(&self, vm: VmId) -> Result<Fate, IntentError> {
        self.real.fate(vm).await
    }
}

/// Says that nobody asked for a reboot.
#[derive(Debug)]
struct Inattentive(Arc<dyn Intent>);

#[async_trait]
impl Intent for Inattentive {
    fn changed(&self) -> watch::Receiver<u64> {
        self.0.changed()
    }

    async fn wanted(&self) -> Result<Vec<Arc<Wanted>>, IntentError> {
        let without = |wanted: Arc<Wanted>| {
            let mut wanted = Arc::unwrap_or_clone(wanted);
            wanted.vm.reboots = 0;
            Arc::new(wanted)
        };
        Ok(self.0.wanted().await?.into_iter().map(without).collect())
    }

    async fn seed(&self, vm: &Vm) -> Result<Option<Vec<u8>>, IntentError> {
        self.0.seed(vm).await
    }

    async fn fate(&self, vm: VmId) -> Result<Fate, IntentError> {
        self.0.fate(vm).await
    }
}

#[derive(Debug)]
struct Confused {
    real: Arc<dyn Hypervisor>,
    last: Mutex<Option<(VmId, Nic)>>,
}

#[async_trait]
impl Hypervisor for Confused {
    async fn list(&self) -> Result<Vec<Domain>, HypervisorError> {
        self.real.list().await
    }

    async fn find(&self, vm: VmId) -> Result<Option<Domain>, HypervisorError> {
        self.real.find(vm).await
    }

    async fn agent_addresses(&self, vm: VmId) -> Result<Vec<Ipv4Addr>, HypervisorError> {
        self.real.agent_addresses(vm).await
    }

    async fn usage(&self) -> Result<Vec<Usage>, HypervisorError> {
        self.real.usage().await
    }

    async fn define(&self, spec: &DomainSpec) -> Result<(), HypervisorError> {
        let before = lock(&self.last).replace((spec.vm, spec.nic.clone()));
        let nic = match before {
            Some((vm, nic)) if vm != spec.vm => nic,
            _ => spec.nic.clone(),
        };
        self.real.define(&DomainSpec { nic, ..spec.clone() }).await
    }

    async fn start(&self, vm: VmId, generation: Generation, mode: StartMode) -> Result<(), HypervisorError> {
        self.real.start(vm, generation, mode).await
    }

    async fn note_cloud_init(&self, vm: VmId, life: u32) -> Result<(), HypervisorError> {
        self.real.note_cloud_init(vm, life).await
    }

    async fn suspend(&self, vm: VmId) -> Result<(), HypervisorError> {
        self.real.suspend(vm).await
    }

    async fn resume(&self, vm: VmId) -> Result<(), HypervisorError> {
        self.real.resume(vm).await
    }

    async fn adjust(&self, vm: VmId, adjustment: &Adjustment) -> Result<(), HypervisorError> {
        self.real.adjust(vm, adjustment).await
    }

    async fn shutdown(&self, vm: VmId) -> Result<(), HypervisorError> {
        self.real.shutdown(vm).await
    }

    async fn force_stop(&self, vm: VmId) -> Result<(), HypervisorError> {
        self.real.force_stop(vm).await
    }

    async fn undefine(&self, vm: VmId) -> Result<(), HypervisorError> {
        self.real.undefine(vm).await
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

/// Says that disks are gone that are not.
#[derive(Debug)]
struct Hoard {
    real: Arc<dyn Volumes>,
    removed: Mutex<Vec<VmId>>,
}

#[async_trait]
impl Volumes for Hoard {
    async fn ensure(
        &self,
        vm: VmId,
        life: u32,
        base: Option<(&Path, ImageFormat)>,
        size: ByteSize,
    ) -> Result<Volume, VolumeError> {
        self.real.ensure(vm, life, base, size).await
    }

    async fn find(&self, vm: VmId, life: u32) -> Result<Option<Volume>, VolumeError> {
        let removed = lock(&self.removed).contains(&vm);
        if removed { Ok(None) } else { self.real.find(vm, life).await }
    }

    async fn disks(&self, vm: VmId) -> Result<Disks, VolumeError> {
        let removed = lock(&self.removed).contains(&vm);
        if removed { Ok(Disks::default()) } else { self.real.disks(vm).await }
    }

    async fn remove_old_lives(&self, vm: VmId, keep: u32) -> Result<(), VolumeError> {
        self.real.remove_old_lives(vm, keep).await
    }

    async fn ensure_data(&self, vm: VmId, disk: &DataVolume, size: ByteSize) -> Result<Volume, VolumeError> {
        self.real.ensure_data(vm, disk, size).await
    }

    async fn find_data(&self, vm: VmId, disk: &DataVolume) -> Result<Option<Volume>, VolumeError> {
        self.real.find_data(vm, disk).await
    }

    async fn remove_data(&self, vm: VmId, disk: &DataVolume) -> Result<(), VolumeError> {
        self.real.remove_data(vm, disk).await
    }

    async fn write_seed(&self, vm: VmId, contents: Vec<u8>) -> Result<PathBuf, VolumeError> {
        self.real.write_seed(vm, contents).await
    }

    async fn remove(&self, vm: VmId) -> Result<(), VolumeError> {
        lock(&self.removed).push(vm);
        Ok(())
    }

    async fn list(&self) -> Result<Vec<VmId>, VolumeError> {
        let removed = lock(&self.removed).clone();
        Ok(self.real.list().await?.into_iter().filter(|vm| !removed.contains(vm)).collect())
    }
}

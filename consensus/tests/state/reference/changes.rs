//! Changing VMs, told plainly.

use super::{Reference, bad, generation};
use waifud_model::{
    change::{Patch, VmChange},
    command::Reply,
    event::EventKind,
    hardware::DataDisk,
    ids::{Generation, VmId},
    labels::Labels,
    name::VmName,
    reject::{Reject, Resource},
    size::ByteSize,
    template::ImageFormat,
    vm::{Desired, ImageRef, Phase, Vm, VmSpec},
};

/// What a VM takes of its node.
pub(super) fn amounts(spec: &VmSpec) -> [(Resource, u64); 3] {
    let memory = spec.hardware.memory_max.map_or(spec.memory, |most| most.max(spec.memory));
    let disks: u64 = spec.hardware.disks.iter().map(|disk| disk.size.as_bytes()).sum();
    [
        (Resource::Cpus, spec.cpus.into()),
        (Resource::Memory, memory.as_bytes()),
        (Resource::Disk, spec.disk.as_bytes() + disks),
    ]
}

impl Reference {
    fn live(&self, id: VmId, expect: Option<Generation>) -> Result<Vm, Reject> {
        let vm = self.vm(id)?;
        if vm.phase == Phase::Deleting {
            return Err(Reject::VmDeleting(id));
        }
        generation(&vm, expect)?;
        Ok(vm)
    }

    fn changed_vm(&mut self, before: &Vm, mut vm: Vm) -> Reply {
        if vm != *before {
            vm.generation = Generation(before.generation.0 + 1);
        }
        self.put(vm, EventKind::Changed)
    }

    pub(super) fn set_power(
        &mut self,
        id: VmId,
        desired: Desired,
        grace: Option<u32>,
        expect: Option<Generation>,
    ) -> Result<Reply, Reject> {
        let before = self.live(id, expect)?;
        if desired == Desired::Paused && before.desired == Desired::Stopped {
            return Err(Reject::NotRunning(id));
        }
        let grace = if desired == Desired::Stopped { grace } else { None };
        Ok(self.changed_vm(&before, Vm { desired, grace, ..before.clone() }))
    }

    pub(super) fn reboot(&mut self, id: VmId, grace: Option<u32>, expect: Option<Generation>) -> Result<Reply, Reject> {
        let before = self.live(id, expect)?;
        if before.desired != Desired::Running {
            return Err(Reject::NotRunning(id));
        }
        Ok(self.changed_vm(&before, Vm { reboots: before.reboots + 1, grace, ..before.clone() }))
    }

    pub(super) fn rename(&mut self, id: VmId, name: &VmName, expect: Option<Generation>) -> Result<Reply, Reject> {
        let before = self.live(id, expect)?;
        if let Some(holder) = self.state.vms.values().find(|vm| vm.name == *name && vm.id != id) {
            return Err(Reject::VmNameTaken { name: name.clone(), holder: holder.id, node: holder.node });
        }
        Ok(self.changed_vm(&before, Vm { name: name.clone(), ..before.clone() }))
    }

    pub(super) fn reinit(&mut self, id: VmId, image: &ImageRef, expect: Option<Generation>) -> Result<Reply, Reject> {
        let before = self.live(id, expect)?;
        if before.spec.protected {
            return Err(Reject::Protected(id));
        }
        let mut vm = before.clone();
        vm.spec.image = image.clone();
        (vm.instance, vm.disk_life) = (vm.instance + 1, vm.disk_life + 1);
        self.images(&vm.spec)?;
        Ok(self.changed_vm(&before, vm))
    }

    pub(super) fn change_vm(
        &mut self,
        id: VmId,
        change: &VmChange,
        expect: Option<Generation>,
    ) -> Result<Reply, Reject> {
        let before = self.live(id, expect)?;
        let mut vm = before.clone();
        let spec = &mut vm.spec;
        if change.disk.is_some_and(|disk| disk < spec.disk) {
            return Err(bad("disk"));
        }
        spec.cpus = change.cpus.unwrap_or(spec.cpus);
        spec.memory = change.memory.unwrap_or(spec.memory);
        spec.disk = change.disk.unwrap_or(spec.disk);
        spec.protected = change.protected.unwrap_or(spec.protected);
        let mut labels: std::collections::BTreeMap<_, _> = spec.labels.clone().into();
        for (key, value) in &change.labels.0 {
            labels.remove(key);
            labels.extend(value.clone().map(|value| (key.clone(), value)));
        }
        spec.labels = Labels::try_from(labels).unwrap();
        match change.memory_max {
            Patch::Keep => {}
            Patch::Clear => spec.hardware.memory_max = None,
            Patch::Set(most) => spec.hardware.memory_max = Some(most),
        }
        match &change.cd {
            Patch::Keep => {}
            Patch::Clear => spec.hardware.cd = None,
            Patch::Set(cd) => spec.hardware.cd = Some(cd.clone()),
        }
        for (name, size) in &change.disks {
            let field = bad(&format!("disks.{name}"));
            let disks = &mut spec.hardware.disks;
            match (disks.iter_mut().find(|disk| disk.name == *name), size) {
                (None, None) => return Err(field),
                (Some(_), None) if spec.protected => return Err(Reject::Protected(id)),
                (Some(_), None) => disks.retain(|disk| disk.name != *name),
                (Some(disk), Some(size)) if *size < disk.size => return Err(field),
                (Some(disk), Some(size)) => disk.size = *size,
                (None, Some(size)) => {
                    // Fewer than sixteen in these logs, so that some slot is free.
                    let slot = (0..16).find(|slot| disks.iter().all(|disk| disk.slot != *slot)).unwrap();
                    let born = Generation(before.generation.0 + 1);
                    disks.push(DataDisk { name: name.clone(), slot, size: *size, born });
                    disks.sort_by_key(|disk| disk.slot);
                }
            }
        }
        self.sizes(&vm, &vm.spec)?;
        self.images(&vm.spec)?;
        let node = self.node(vm.node)?;
        self.room(&node, &vm.spec, Some(&before))?;
        Ok(self.changed_vm(&before, vm))
    }

    /// The limits of a VM's hardware come first, then those of its sizes.
    fn sizes(&self, vm: &Vm, spec: &VmSpec) -> Result<(), Reject> {
        if spec.hardware.memory_max.is_some_and(|most| most < spec.memory) {
            return Err(bad("memory_max"));
        }
        if let Some(small) = spec.hardware.disks.iter().find(|disk| disk.size < ByteSize::mib(1)) {
            return Err(bad(&format!("disks.{}", small.name)));
        }
        let node = self.node(vm.node)?;
        super::vms::sizes(&node, spec)
    }

    /// The images that a VM stands on are there and of the right kind.
    pub(super) fn images(&self, spec: &VmSpec) -> Result<(), Reject> {
        let find = |image: &ImageRef| {
            let key = (image.template.clone(), image.version);
            match self.state.templates.get(&key) {
                Some(version) => Ok(version),
                None if self.versions(&key.0).is_empty() => Err(Reject::NoSuchTemplate(key.0)),
                None => Err(Reject::NoSuchVersion { template: key.0, version: key.1 }),
            }
        };
        let image = find(&spec.image)?;
        let least = if image.format == ImageFormat::Iso { ByteSize::ZERO } else { image.virtual_size };
        if spec.disk < least {
            return Err(Reject::DiskTooSmall { wanted: spec.disk, least });
        }
        match &spec.hardware.cd {
            Some(cd) if find(cd)?.format != ImageFormat::Iso => {
                Err(Reject::WrongFormat { template: cd.template.clone(), wanted: "a CD (ISO 9660)".to_owned() })
            }
            _ => Ok(()),
        }
    }
}

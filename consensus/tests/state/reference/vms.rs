//! VMs and what they are made from, told plainly.

use super::{Reference, Who, bad};
use std::{collections::BTreeSet, net::Ipv4Addr};
use waifud_model::{
    command::{CreateVm, Reply, VmReport},
    digest::Blake3,
    event::{EventKind, Subject},
    ids::Generation,
    name::TemplateName,
    reject::{Reject, Resource},
    size::ByteSize,
    vm::{Desired, Mac, Phase, RestartPolicy, Vm},
};

impl Reference {
    pub(super) fn create_vm(&mut self, create: &CreateVm) -> Result<Reply, Reject> {
        if self.state.vms.contains_key(&create.id) {
            return Err(Reject::IdTaken(create.id.to_string()));
        }
        if let Some(holder) = self.state.vms.values().find(|vm| vm.name == create.name) {
            return Err(Reject::VmNameTaken { name: create.name.clone(), holder: holder.id, node: holder.node });
        }
        let node = self.node(create.node)?;
        let spec = &create.spec;
        if node.cordoned {
            return Err(Reject::Cordoned(node.id));
        }
        if spec.cpus < 1 || spec.cpus > node.capacity.threads {
            return Err(bad("cpus"));
        }
        if spec.memory < ByteSize::mib(64) || !spec.memory.as_bytes().is_multiple_of(1 << 20) {
            return Err(bad("memory"));
        }
        if spec.disk == ByteSize::ZERO || !spec.disk.as_bytes().is_multiple_of(512) {
            return Err(bad("disk"));
        }
        let image = (spec.image.template.clone(), spec.image.version);
        let least = match self.state.templates.get(&image) {
            Some(version) => version.virtual_size,
            None if self.versions(&image.0).is_empty() => return Err(Reject::NoSuchTemplate(image.0)),
            None => return Err(Reject::NoSuchVersion { template: image.0, version: image.1 }),
        };
        if spec.disk < least {
            return Err(Reject::DiskTooSmall { wanted: spec.disk, least });
        }
        let there: Vec<&Vm> = self.state.vms.values().filter(|vm| vm.node == node.id).collect();
        let sum = |amount: &dyn Fn(&Vm) -> u64| there.iter().map(|vm| amount(vm)).sum::<u64>();
        for (resource, has, used, wanted) in [
            (Resource::Cpus, node.capacity.cpus.into(), sum(&|vm| vm.spec.cpus.into()), spec.cpus.into()),
            (
                Resource::Memory,
                node.capacity.memory.as_bytes(),
                sum(&|vm| vm.spec.memory.as_bytes()),
                spec.memory.as_bytes(),
            ),
            (Resource::Disk, node.capacity.disk.as_bytes(), sum(&|vm| vm.spec.disk.as_bytes()), spec.disk.as_bytes()),
        ] {
            let free = u64::saturating_sub(has, used);
            if wanted > free {
                return Err(Reject::DoesNotFit { node: node.id, resource, wanted, free });
            }
        }
        // Guests are the hosts 2 to 14 of sixteen.
        let base = node.subnet.network().to_bits();
        let taken: BTreeSet<u32> = there.iter().map(|vm| vm.ip.to_bits() - base).collect();
        let last = self.last_host.get(&node.id).copied().unwrap_or(14);
        let free = (1..=13).map(|step| (last - 2 + step) % 13 + 2).find(|host| !taken.contains(host));
        let host = free.ok_or(Reject::NoAddress(node.id))?;
        self.last_host.insert(node.id, host);
        let ip = Ipv4Addr::from_bits(base + host);
        let [a, b, c, d] = ip.octets();
        let vm = Vm {
            id: create.id,
            name: create.name.clone(),
            node: create.node,
            spec: spec.clone(),
            desired: create.desired,
            phase: Phase::Live,
            ip,
            mac: Mac([0x52, 0x54, a, b, c, d]),
            generation: Generation(1),
            instance: 1,
            created_at: self.state.log_time,
        };
        Ok(self.put(vm, EventKind::Created))
    }

    pub(super) fn versions(&self, template: &TemplateName) -> BTreeSet<Blake3> {
        self.state.templates.keys().filter(|(name, _)| name == template).map(|(_, version)| *version).collect()
    }

    /// The version that a template's name stands for.
    pub(crate) fn newest(&self, template: &TemplateName) -> Option<Blake3> {
        let of_it = self.added.iter().filter(|(key, _)| key.0 == *template && self.state.templates.contains_key(*key));
        of_it.max_by_key(|(_, index)| **index).map(|(key, _)| key.1)
    }

    pub(super) fn delete_template(
        &mut self,
        template: &TemplateName,
        version: Option<Blake3>,
    ) -> Result<Reply, Reject> {
        let all = self.versions(template);
        if all.is_empty() {
            return Err(Reject::NoSuchTemplate(template.clone()));
        }
        let doomed: BTreeSet<Blake3> = version.map_or(all.clone(), |version| [version].into());
        if let Some(version) = version.filter(|version| !all.contains(version)) {
            return Err(Reject::NoSuchVersion { template: template.clone(), version });
        }
        let images = self.state.vms.values().map(|vm| &vm.spec.image);
        let count = images.filter(|image| image.template == *template && doomed.contains(&image.version)).count();
        if count > 0 {
            return Err(Reject::TemplateInUse { template: template.clone(), count: count as u32 });
        }
        self.state.templates.retain(|(name, version), _| name != template || !doomed.contains(version));
        let kind = if doomed == all { EventKind::Deleted } else { EventKind::Changed };
        Ok(self.done(Subject::Template(template.clone()), kind))
    }

    pub(super) fn reports(&mut self, who: Who, reports: &[VmReport]) -> Result<Reply, Reject> {
        let Who::Node(node) = who else { return Err(Reject::NodesOnly) };
        if reports.is_empty() {
            return Err(bad("reports"));
        }
        let odd = [EventKind::Created, EventKind::Changed, EventKind::Deleting, EventKind::Deleted];
        if reports.iter().any(|report| odd.contains(&report.kind)) {
            return Err(bad("kind"));
        }
        for report in reports {
            let Some(mut vm) = self.state.vms.get(&report.vm).cloned() else { continue };
            if vm.node != node {
                return Err(Reject::NotYours(node));
            }
            let off = report.by_guest && report.kind == EventKind::Stopped && vm.spec.restart != RestartPolicy::Always;
            let fresh = report.generation == vm.generation && vm.phase == Phase::Live;
            if off && fresh && vm.desired == Desired::Running {
                vm.desired = Desired::Stopped;
                vm.generation = Generation(vm.generation.0 + 1);
            }
            self.put(vm, report.kind);
        }
        Ok(Reply::Done)
    }
}

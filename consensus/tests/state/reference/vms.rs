//! VMs and what they are made from, told plainly.

use super::{Reference, Who, bad, changes::amounts};
use std::{collections::BTreeSet, net::Ipv4Addr};
use waifud_model::{
    command::{CreateVm, Reply, VmReport},
    digest::Blake3,
    event::{EventKind, Subject},
    ids::Generation,
    name::TemplateName,
    node::Node,
    reject::Reject,
    size::ByteSize,
    vm::{Desired, ImageRef, Mac, Phase, RestartPolicy, Vm, VmSpec},
};

pub(super) fn sizes(node: &Node, spec: &VmSpec) -> Result<(), Reject> {
    if spec.cpus < 1 || spec.cpus > node.capacity.threads {
        return Err(bad("cpus"));
    }
    if spec.memory < ByteSize::mib(64) || !spec.memory.as_bytes().is_multiple_of(1 << 20) {
        return Err(bad("memory"));
    }
    if spec.disk == ByteSize::ZERO || !spec.disk.as_bytes().is_multiple_of(512) {
        return Err(bad("disk"));
    }
    Ok(())
}

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
        sizes(&node, spec)?;
        self.images(spec)?;
        self.room(&node, spec, None)?;
        let there: Vec<&Vm> = self.state.vms.values().filter(|vm| vm.node == node.id).collect();
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
            disk_life: 1,
            reboots: 0,
            grace: None,
            created_at: self.state.log_time,
        };
        Ok(self.put(vm, EventKind::Created))
    }

    /// What is wanted more than `before` had must be left on the node.
    pub(super) fn room(&self, node: &Node, spec: &VmSpec, before: Option<&Vm>) -> Result<(), Reject> {
        let others =
            || self.state.vms.values().filter(|vm| vm.node == node.id && Some(vm.id) != before.map(|vm| vm.id));
        let capacity = &node.capacity;
        let has = [u64::from(capacity.cpus), capacity.memory.as_bytes(), capacity.disk.as_bytes()];
        for (n, (resource, wanted)) in amounts(spec).into_iter().enumerate() {
            let used: u64 = others().map(|vm| amounts(&vm.spec)[n].1).sum();
            let free = u64::saturating_sub(has[n], used);
            if wanted > free && before.is_none_or(|before| amounts(&before.spec)[n].1 < wanted) {
                return Err(Reject::DoesNotFit { node: node.id, resource, wanted, free });
            }
        }
        Ok(())
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
        let stands = |image: &ImageRef| image.template == *template && doomed.contains(&image.version);
        let vms = self.state.vms.values();
        let count = vms.filter(|vm| stands(&vm.spec.image) || vm.spec.hardware.cd.as_ref().is_some_and(stands)).count();
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
        let odd = [EventKind::Created, EventKind::Changed, EventKind::Deleting, EventKind::Deleted, EventKind::Opened];
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
            if off && fresh && vm.desired != Desired::Stopped {
                vm.desired = Desired::Stopped;
                vm.generation = Generation(vm.generation.0 + 1);
            }
            self.put(vm, report.kind);
        }
        Ok(Reply::Done)
    }
}

//! VMs: the record of what is wanted, and what its owner told last.

use crate::{
    ports::{NodeSeen, Observed},
    problem::Missing,
    suggest::nearest,
};
use std::collections::BTreeMap;
use waifud_api::{
    user_data::UserDataInfo,
    vm as wire,
    vm::{Silent, TemplateRef, VmStatus},
};
use waifud_consensus::state::{DocumentBrief, ReadError, View, VmBrief};
use waifud_model::{
    hardware::Hardware,
    ids::NodeId,
    name::{NodeName, VmName},
    observed::VmState,
    scope::Scope,
    vm::{ImageRef, Vm},
};

/// One VM and its owner's name. Where there is none, the failure names the nearest. For somebody with a scope there is none
/// outside it, neither to be found nor to be named.
pub(crate) fn find(
    view: &View<'_>,
    scope: &Scope,
    name: &VmName,
) -> Result<Result<(Vm, NodeName), Missing>, ReadError> {
    if let Some(vm) = view.vm_by_name(name)?.filter(|vm| scope.has(&vm.spec.labels))
        && let Some(node) = view.node(vm.node)?
    {
        return Ok(Ok((vm, node.name)));
    }
    let (names, vms) = (node_names(view)?, names(view, scope)?);
    let similar = nearest(name.as_str(), vms.iter().map(|(vm, _)| vm.as_str()))
        .and_then(|near| vms.iter().find(|(vm, _)| vm.as_str() == near))
        .and_then(|(vm, node)| Some((vm.clone(), names.get(node)?.clone())));
    Ok(Err(Missing::Vm { name: name.clone(), similar }))
}

/// The names of all VMs of a scope, with their owners.
fn names(view: &View<'_>, scope: &Scope) -> Result<Vec<(VmName, NodeId)>, ReadError> {
    if scope.is_whole() {
        return view.vm_names();
    }
    let within = view.vms_brief()?.into_iter().map(|brief| brief.vm).filter(|vm| scope.has(&vm.spec.labels));
    Ok(within.map(|vm| (vm.name, vm.node)).collect())
}

pub(super) fn node_names(view: &View<'_>) -> Result<BTreeMap<NodeId, NodeName>, ReadError> {
    Ok(view.nodes()?.into_iter().map(|node| (node.id, node.name)).collect())
}

/// The VM as the API shows it.
pub(crate) fn merge(vm: &Vm, node: NodeName, observed: &Observed) -> wire::Vm {
    let told = &vm.spec.cloud_init;
    let documents = [&told.user_data, &told.network_config].map(|document| document.as_ref().map(Into::into));
    merge_with(vm, documents, node, observed)
}

/// The same, from what a list reads of it.
pub(super) fn merge_brief(brief: &VmBrief, node: NodeName, observed: &Observed) -> wire::Vm {
    let info = |DocumentBrief { digest, size }| UserDataInfo { digest, size };
    let documents = [brief.user_data, brief.network_config].map(|document| document.map(info));
    merge_with(&brief.vm, documents, node, observed)
}

fn merge_with(
    vm: &Vm,
    [user_data, network_config]: [Option<UserDataInfo>; 2],
    node: NodeName,
    observed: &Observed,
) -> wire::Vm {
    wire::Vm {
        id: vm.id,
        name: vm.name.clone(),
        node,
        status: status(vm, observed.seen(vm.node)),
        desired: vm.desired,
        phase: vm.phase,
        cpus: vm.spec.cpus,
        memory: vm.spec.memory,
        disk: vm.spec.disk,
        template: image(&vm.spec.image),
        ip: vm.ip,
        mac: vm.mac,
        labels: vm.spec.labels.clone(),
        restart: vm.spec.restart,
        description: vm.spec.description.clone(),
        protected: vm.spec.protected,
        autostart: vm.spec.autostart,
        hardware: hardware(&vm.spec.hardware),
        ssh_keys: vm.spec.cloud_init.ssh_keys.clone(),
        user_data,
        network_config,
        datasource: vm.spec.cloud_init.datasource,
        imds: vm.spec.cloud_init.imds,
        instance_id: vm.instance_id(),
        generation: vm.generation,
        created_at: vm.created_at.into(),
    }
}

fn image(image: &ImageRef) -> TemplateRef {
    TemplateRef { name: image.template.clone(), version: image.version }
}

fn hardware(hardware: &Hardware) -> wire::Hardware {
    wire::Hardware {
        firmware: hardware.firmware,
        cpu_model: hardware.cpu_model.clone(),
        memory_max: hardware.memory_max,
        disks: hardware.disks.iter().map(|disk| (disk.name.clone(), disk.size)).collect(),
        cd: hardware.cd.as_ref().map(image),
        bridges: hardware.bridges.clone(),
    }
}

/// What is seen of a VM, given what is heard of its owner.
pub(crate) fn status(vm: &Vm, owner: Option<&NodeSeen>) -> VmStatus {
    let told = owner.and_then(|owner| owner.vms.get(&vm.id));
    let silent = match owner {
        Some(owner) if owner.alive => None,
        heard => Some(Silent { since: heard.map(|owner| owner.since.into()) }),
    };
    let runs = silent.is_none() && told.is_some_and(|told| told.state == VmState::Running);
    let usage = owner.filter(|_| runs).and_then(|owner| owner.usage.get(&vm.id)).copied().unwrap_or_default();
    VmStatus {
        state: told.map_or(VmState::Pending, |told| told.state),
        since: told.map(|told| told.since.into()),
        pending: told.is_none_or(|told| told.generation < vm.generation),
        waits: told.map(|told| told.waits.iter().collect()).unwrap_or_default(),
        changes: Vec::new(),
        fetching: None,
        doing: None,
        held: None,
        restarts: 0,
        cpu_percent: usage.cpu,
        memory_used: usage.memory,
        met: told.map(|told| told.met.iter().collect()).unwrap_or_default(),
        // What the owner has not caught up with may have begun another life.
        cloud_init_done: told.is_some_and(|told| told.cloud_init_done && told.generation >= vm.generation),
        silent,
        last_error: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::BTreeSet, net::Ipv4Addr};
    use waifud_model::{
        command::CreateVm,
        digest::Blake3,
        ids::{Generation, VmId},
        name::TemplateName,
        observed::{VmObservation, VmUsage},
        size::ByteSize,
        time::Timestamp,
        vm::{Desired, VmSpec},
    };

    fn record() -> Vm {
        let image = ImageRef { template: TemplateName::new("tiny").unwrap(), version: Blake3::of(b"tiny") };
        let create = CreateVm {
            id: VmId::from_random([1; 16]),
            name: VmName::new("web-1").unwrap(),
            node: NodeId::from_random(1),
            spec: VmSpec::new(1, ByteSize::mib(512), ByteSize::gib(10), image),
            desired: Desired::Running,
        };
        Vm { generation: Generation(2), ..create.record(Ipv4Addr::new(10, 77, 1, 2), Timestamp(0)) }
    }

    fn owner(alive: bool, seen: Option<(VmState, u64)>) -> NodeSeen {
        let told = seen.map(|(state, generation)| {
            let told = VmObservation::new(state, Generation(generation), Timestamp(5));
            (record().id, told)
        });
        NodeSeen {
            alive,
            since: Timestamp(9),
            version: None,
            applied: None,
            vms: told.into_iter().collect(),
            usage: [(record().id, VmUsage { cpu: Some(12), memory: Some(ByteSize::mib(300)) })].into(),
            images: BTreeSet::new(),
        }
    }

    #[test]
    fn the_owner_is_believed_and_its_silence_is_told() {
        let status = |owner: Option<&NodeSeen>| super::status(&record(), owner);
        let fresh = status(Some(&owner(true, Some((VmState::Running, 2)))));
        assert_eq!((fresh.state, fresh.pending, &fresh.silent), (VmState::Running, false, &None));
        let used = |status: &VmStatus| (status.cpu_percent, status.memory_used);
        assert_eq!(used(&fresh), (Some(12), Some(ByteSize::mib(300))));

        let behind = status(Some(&owner(true, Some((VmState::Stopped, 1)))));
        assert_eq!((behind.state, behind.pending), (VmState::Stopped, true));
        assert_eq!(used(&behind), (None, None), "measured before it was stopped");

        for (generation, known) in [(1, false), (2, true)] {
            let mut owner = owner(true, Some((VmState::Running, generation)));
            owner.vms.values_mut().for_each(|told| told.cloud_init_done = true);
            assert_eq!(
                status(Some(&owner)).cloud_init_done,
                known,
                "a record that is not served may be of another life"
            );
        }

        let silent = status(Some(&owner(false, Some((VmState::Running, 2)))));
        assert_eq!(
            (silent.state, silent.silent.clone()),
            (VmState::Running, Some(Silent { since: Some(Timestamp(9).into()) }))
        );
        assert_eq!(used(&silent), (None, None), "nobody knows now");

        let unheard = status(None);
        assert_eq!(
            (unheard.state, unheard.pending, unheard.silent),
            (VmState::Pending, true, Some(Silent { since: None }))
        );
    }
}

//! What a host must have of a VM once everything is well: domain, disks and guest as the record says; and what a running
//! guest has not taken up of it is told, no more and no less.

use super::host::Host;
use anyhow::Result;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};
use waifud_model::{
    ids::VmId,
    observed::{Waiting, Waits},
    size::ByteSize,
    vm::{Desired, Phase, RestartPolicy, Vm},
};
use waifud_node::{
    hypervisor::{Boot, Domain, DomainSpec, DomainState, Hypervisor as _, Live, OffReason},
    volumes::{DataVolume, Disks, Volumes as _},
};

/// What on the host is not as the record wants it; without a record there must be nothing. `told` is what the owner says that
/// the guest has not taken up.
pub(super) async fn wrong(host: &Host, id: VmId, record: Option<&Vm>, told: Waits) -> Result<Option<String>> {
    let domain = host.hypervisor.find(id).await?;
    let disks = host.volumes.disks(id).await?;
    let what = match (record, &domain) {
        (None, None) if disks == Disks::default() => return Ok(None),
        (None, _) => "something is left",
        (Some(_), None) => "the domain is missing",
        (Some(vm), _) if vm.phase != Phase::Live => "it is not deleted",
        (Some(vm), Some(domain)) => {
            let definition = host.hypervisor.spec(id);
            let checks = [
                ("the definition", definition.is_some_and(|spec| is_made_from(vm, &spec))),
                ("the state", serves(vm, domain)),
                ("the root disk", disks.roots.keys().eq([&vm.disk_life])),
                ("the root disk's size", domain.live.is_some() || host.volumes.size(id) == Some(vm.spec.disk)),
                ("the data disks", has_data(vm, domain, &disks)),
                (
                    "what is pending",
                    told == domain.live.as_ref().map(|live| lacks(vm, live, &disks)).unwrap_or_default(),
                ),
            ];
            match checks.into_iter().find(|(_, well)| !well) {
                Some((what, _)) => what,
                None => return Ok(None),
            }
        }
    };
    let found = format!("{domain:?} with {disks:?}, told to lack {told}");
    Ok(Some(format!("{what} of VM {id} on {}: {found}, wanted {record:?}", host.name)))
}

/// The definition, from which the guest is started the next time.
fn is_made_from(vm: &Vm, spec: &DomainSpec) -> bool {
    let hardware = &vm.spec.hardware;
    (&spec.title, spec.cpus.current, spec.memory.current) == (&vm.name, vm.spec.cpus, vm.spec.memory)
        && (spec.firmware, &spec.cpu_model) == (hardware.firmware, &hardware.cpu_model)
        && spec.boot == Boot { reboots: vm.reboots, disk_life: vm.disk_life }
        && spec.disks.iter().map(|disk| disk.slot).eq(hardware.disks.iter().map(|disk| disk.slot))
}

/// The guest does what is wanted, and was off for every reboot and with every root disk since.
fn serves(vm: &Vm, domain: &Domain) -> bool {
    let is_fresh = domain.booted.disk_life == vm.disk_life
        // One that is held still is rebooted when it goes on.
        && (vm.desired == Desired::Paused || domain.booted.reboots == vm.reboots);
    domain.defined == Some(vm.generation)
        && !domain.edited
        && does(vm, domain.state)
        && (!domain.state.is_active() || (is_fresh && domain.started == Some(vm.generation)))
}

fn does(vm: &Vm, state: DomainState) -> bool {
    match (vm.desired, state) {
        (Desired::Running, DomainState::Running) | (Desired::Paused, DomainState::Paused(_)) => true,
        // It is left as it is, by its own policy.
        (Desired::Running | Desired::Paused, DomainState::Off(reason)) => {
            vm.spec.restart == RestartPolicy::Never && !matches!(reason, OffReason::Unknown | OffReason::ShutDown)
        }
        (Desired::Stopped, DomainState::Off(_)) => true,
        _ => false,
    }
}

/// Every data disk of the record is there; beyond them, there are only those that the guest did not let go.
fn has_data(vm: &Vm, domain: &Domain, disks: &Disks) -> bool {
    let wanted: BTreeSet<DataVolume> = vm.spec.hardware.disks.iter().map(DataVolume::from).collect();
    let open = domain.live.iter().flat_map(|live| &live.disks).map(|disk| &disk.path).collect::<BTreeSet<_>>();
    wanted.iter().all(|disk| disks.data.contains_key(disk))
        && disks.data.iter().all(|(disk, path)| wanted.contains(disk) || open.contains(path))
}

/// What the running guest has otherwise than the record says.
fn lacks(vm: &Vm, live: &Live, disks: &Disks) -> Waits {
    let hardware = &vm.spec.hardware;
    let root = (None, (vm.spec.disk, disks.roots.get(&vm.disk_life)));
    let data = hardware.disks.iter().map(|disk| (Some(disk.slot), (disk.size, disks.data.get(&disk.into()))));
    let wanted: BTreeMap<Option<u8>, (ByteSize, Option<&PathBuf>)> = std::iter::once(root).chain(data).collect();
    let plugged = live.disks.iter().map(|disk| (disk.slot, (disk.size, Some(&disk.path)))).collect();
    // Room that nobody asked for may stay.
    let room = hardware.memory_max.is_some() && live.memory.most != vm.spec.memory_promised();
    let otherwise = [
        (Waiting::Cpus, live.cpus.current != vm.spec.cpus),
        (Waiting::Memory, live.memory.current != vm.spec.memory || room),
        (Waiting::Disks, wanted != plugged),
        (Waiting::Hardware, (live.firmware, &live.cpu_model) != (hardware.firmware, &hardware.cpu_model)),
    ];
    otherwise.into_iter().filter(|(_, lacks)| *lacks).map(|(what, _)| what).collect()
}

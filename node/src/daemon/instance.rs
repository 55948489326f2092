//! What a guest may learn about itself, put together from the replica: the one place where records become an [`Instance`].

use std::net::Ipv4Addr;
use waifud_cloudinit::Instance;
use waifud_consensus::state::{ReadError, View};
use waifud_model::{cloud_init::CloudDefaults, network, node::Node, vm::Vm};

/// The instance that `vm` is. None while the replica does not know its owner, which apply never lets happen.
///
/// # Errors
/// If the replica cannot be read.
pub(super) fn of(view: &View<'_>, vm: &Vm, mtu: u16) -> Result<Option<Instance>, ReadError> {
    let Some(owner) = view.node(vm.node)? else { return Ok(None) };
    Ok(Some(made(vm, &owner, view.cloud_defaults()?, mtu)))
}

/// The same, for whoever has read owner and defaults already.
pub(super) fn made(vm: &Vm, owner: &Node, defaults: CloudDefaults, mtu: u16) -> Instance {
    let gateway: Ipv4Addr = network::gateway(owner.subnet);
    Instance {
        id: vm.id,
        instance: vm.instance,
        name: vm.name.clone(),
        ip: vm.ip,
        subnet: owner.subnet,
        gateway,
        mac: vm.mac,
        dns: vec![gateway],
        mtu,
        arch: owner.capacity.arch,
        cpus: vm.spec.cpus,
        memory: vm.spec.memory,
        cloud_init: vm.spec.cloud_init.clone(),
        defaults,
        node: owner.name.clone(),
        template: vm.spec.image.template.clone(),
        created_at: vm.created_at,
    }
}

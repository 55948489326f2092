//! The domain that a VM's record makes on this node. Pure.

use crate::{
    hypervisor::{Accel, Cpus, Disk, DiskCache, DomainSpec, Machine, Memory, Nic},
    net::Attachment,
    volumes::Volume,
};
use std::path::PathBuf;
use waifud_model::{node::Arch, vm::Vm};

/// What all domains of a node have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// On the CPU, or emulated: a fact of the node.
    pub accel: Accel,
    /// The node's instruction set.
    pub arch: Arch,
    /// The node's hardware threads: the most CPUs that a guest can be given while it runs.
    pub threads: u32,
    /// Whether the disks' file system can do `O_DIRECT`.
    pub cache: DiskCache,
    /// Where the consoles' logs go, a file a VM. Must exist.
    pub console_dir: PathBuf,
    /// Where guests find their cloud-init datasource.
    pub smbios_serial: String,
}

impl Shape {
    /// The domain of `vm`.
    #[must_use]
    pub fn domain(&self, vm: &Vm, volume: Volume, attachment: Attachment) -> DomainSpec {
        let current = vm.spec.cpus;
        DomainSpec {
            vm: vm.id,
            generation: vm.generation,
            title: vm.name.clone(),
            // Room to grow while it runs. Each possible CPU costs the guest some memory, so not more than four times.
            cpus: Cpus { current, most: self.threads.min(current.saturating_mul(4)).max(current) },
            // No room here: until its balloon driver runs, a guest may use all it boots with.
            memory: Memory { current: vm.spec.memory, most: vm.spec.memory },
            disk: Disk { path: volume.path, format: volume.format, cache: self.cache },
            nic: Nic {
                mac: vm.mac,
                ip: vm.ip,
                network: attachment.network,
                filter: attachment.filter,
                mtu: attachment.mtu,
            },
            serial_log: self.console_log(vm),
            accel: self.accel,
            arch: self.arch,
            machine: Machine::usual(self.arch),
            agent: true,
            smbios_serial: self.smbios_serial.clone(),
        }
    }

    /// Where a guest's console goes.
    #[must_use]
    pub fn console_log(&self, vm: &Vm) -> PathBuf {
        self.console_dir.join(format!("{}.log", vm.id))
    }
}

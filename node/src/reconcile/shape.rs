//! The domain that a VM's record makes on this node. Pure.

use crate::{
    console::SerialLogs,
    hypervisor::{
        Accel, Boot, Card, Cpus, Disk, DiskCache, DomainSpec, Drive, ExtraDisk, Machine, Memory, Nic, Smbios,
    },
    net::Attachment,
    volumes::Volume,
};
use std::path::PathBuf;
use waifud_model::{cloud_init::Datasource, hardware::bridge_mac, node::Arch, vm::Vm};

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
}

/// The files that a domain has open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// Its root disk.
    pub root: Volume,
    /// Its further disks.
    pub disks: Vec<ExtraDisk>,
    /// What is in its CD drive.
    pub cd: Option<PathBuf>,
    /// What its CD drive hangs on.
    pub drive: Drive,
    /// Its seed, if it has one.
    pub seed: Option<PathBuf>,
}

/// NoCloud by the serial number. cloud-init 22.4 knows this spelling, and so do newer versions.
const NO_CLOUD: &str = "ds=nocloud-net;s=http://169.254.169.254/";

/// What tells cloud-init in a stock image whom to ask (`tools/ds-identify` of cloud-init 22.4: `dscheck_NoCloud`,
/// `ec2_identify_platform`, `dscheck_OpenStack`).
pub(super) fn smbios(vm: &Vm) -> Smbios {
    let (manufacturer, product, serial) = match vm.spec.cloud_init.datasource {
        // With a serial number that names a seed, cloud-init goes past the disk when it sets up the network.
        Datasource::NoCloud if vm.spec.cloud_init.network_config.is_some() => ("waifud", "waifud VM", String::new()),
        Datasource::NoCloud => ("waifud", "waifud VM", NO_CLOUD.to_owned()),
        // Serial number and UUID the same, and both begin with "ec2": every VM's id does.
        Datasource::Ec2 => ("waifud", "waifud VM", vm.id.to_string()),
        Datasource::OpenStack => ("OpenStack Foundation", "OpenStack Nova", String::new()),
    };
    Smbios { manufacturer: manufacturer.to_owned(), product: product.to_owned(), serial }
}

/// The network cards of a VM on bridges of its host, in order.
pub(super) fn cards(vm: &Vm) -> Vec<Card> {
    let bridges = (0..).zip(&vm.spec.hardware.bridges);
    bridges.map(|(number, bridge)| Card { mac: bridge_mac(vm.ip, number), bridge: bridge.clone() }).collect()
}

impl Shape {
    /// The domain of `vm`.
    #[must_use]
    pub fn domain(&self, vm: &Vm, files: Files, attachment: Attachment) -> DomainSpec {
        let current = vm.spec.cpus;
        DomainSpec {
            vm: vm.id,
            generation: vm.generation,
            title: vm.name.clone(),
            // Room to grow while it runs. Each possible CPU costs the guest some memory, so not more than four times.
            cpus: Cpus { current, most: self.threads.min(current.saturating_mul(4)).max(current) },
            // Until its balloon driver runs, a guest may use all it boots with: that is what is promised to it.
            memory: Memory { current: vm.spec.memory, most: vm.spec.memory_promised() },
            disk: self.disk(files.root),
            nic: Nic {
                mac: vm.mac,
                ip: vm.ip,
                network: attachment.network,
                filter: attachment.filter,
                mtu: attachment.mtu,
            },
            serial_log: self.logs().path(vm.id),
            accel: self.accel,
            arch: self.arch,
            machine: Machine::usual(self.arch),
            agent: true,
            smbios: smbios(vm),
            seed: files.seed,
            firmware: vm.spec.hardware.firmware,
            cpu_model: vm.spec.hardware.cpu_model.clone(),
            disks: files.disks,
            cd: files.cd,
            drive: files.drive,
            cards: cards(vm),
            boot: Boot { reboots: vm.reboots, disk_life: vm.disk_life },
        }
    }

    /// A disk, as it is used on this node.
    #[must_use]
    pub fn disk(&self, volume: Volume) -> Disk {
        Disk { path: volume.path, format: volume.format, cache: self.cache }
    }

    /// Where the guests' consoles go.
    #[must_use]
    pub fn logs(&self) -> SerialLogs {
        SerialLogs::new(self.console_dir.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::samples;
    use waifud_model::cloud_init::UserData;

    #[test]
    fn the_firmware_tells_whom_to_ask() {
        let mut vm = samples::vm(2);
        let told = |vm: &Vm| {
            let Smbios { product, serial, .. } = smbios(vm);
            format!("{product}: {serial}")
        };
        assert_eq!(told(&vm), "waifud VM: ds=nocloud-net;s=http://169.254.169.254/");
        vm.spec.cloud_init.network_config = UserData::new(b"version: 2".to_vec()).ok();
        assert_eq!(told(&vm), "waifud VM: ");
        vm.spec.cloud_init.datasource = Datasource::Ec2;
        assert_eq!(told(&vm), format!("waifud VM: {}", vm.id));
        vm.spec.cloud_init.datasource = Datasource::OpenStack;
        assert_eq!(told(&vm), "OpenStack Nova: ");
    }
}

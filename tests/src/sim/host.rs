//! A machine: what is left of a node when its daemon is gone. Guests run on, disks and files stay, the clock goes on.

use super::clock::WallClock;
use std::{net::Ipv4Addr, path::PathBuf, sync::Arc};
use waifud_model::{
    command::NewNode,
    digest::Fingerprint,
    ids::{NodeId, VmId},
    name::{NameError, NodeName},
    node::{Arch, Capacity},
    size::ByteSize,
};
use waifud_node::{
    hypervisor::fake::FakeHypervisor, images::fake::FakeImages, net::fake::FakeNetwork, volumes::fake::FakeVolumes,
};

/// One machine.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    pub(crate) id: NodeId,
    pub(crate) name: NodeName,
    /// Its place among the hosts, from 1.
    pub(crate) number: u8,
    /// The daemon's files.
    pub(crate) dir: PathBuf,
    pub(crate) hypervisor: FakeHypervisor,
    pub(crate) volumes: Arc<FakeVolumes>,
    pub(crate) images: Arc<FakeImages>,
    pub(crate) network: Arc<FakeNetwork>,
    pub(crate) clock: WallClock,
    /// Somebody else's domain.
    pub(crate) foreign: VmId,
}

impl Host {
    /// A fresh machine, with a domain on it that is nobody's business.
    pub(crate) fn new(number: u8, dir: PathBuf, clock: WallClock, foreign: VmId) -> Result<Self, NameError> {
        let host = Self {
            id: NodeId::from_random(u64::from(number)),
            name: NodeName::new(format!("n{number}"))?,
            number,
            dir,
            hypervisor: FakeHypervisor::default(),
            volumes: Arc::default(),
            images: Arc::default(),
            network: Arc::default(),
            clock,
            foreign,
        };
        host.hypervisor.plug(Arc::clone(&host.volumes));
        host.hypervisor.keep_time(Arc::new(host.clock.clone()));
        host.hypervisor.add_foreign(foreign);
        Ok(host)
    }

    /// Is there a domain of the VM, or a disk?
    pub(crate) fn has(&self, vm: VmId) -> bool {
        self.hypervisor.state(vm).is_some() || self.volumes.has(vm)
    }

    /// What it says of itself when it joins. Small, so that placement and apply have to refuse some.
    pub(crate) fn joins(&self) -> NewNode {
        NewNode {
            id: self.id,
            name: self.name.clone(),
            advertise: (Ipv4Addr::new(192, 0, 2, self.number), 7777).into(),
            fingerprint: Fingerprint([self.number; 32]),
            capacity: Capacity {
                cpus: 16,
                threads: 4,
                memory: ByteSize::gib(4),
                disk: ByteSize::gib(60),
                arch: Arch::X86_64,
                kvm: false,
                bridges: Vec::new(),
            },
        }
    }
}

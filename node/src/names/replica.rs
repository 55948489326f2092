//! The local replica as [`Records`]. In: a handle on the replicated state; out: addresses and names as this node knows
//! them, which may be a moment behind the cluster. Waits for no other node.

use super::{Owner, Records, RecordsError};
use async_trait::async_trait;
use std::net::Ipv4Addr;
use waifud_consensus::{Handle, ReadError};
use waifud_model::{
    name::{NodeName, VmName},
    network::gateway,
};

/// Names as this node's copy of the state has them.
#[derive(Debug)]
pub struct Replica(Handle);

impl Replica {
    /// Reads by `handle`.
    #[must_use]
    pub const fn new(handle: Handle) -> Self {
        Self(handle)
    }
}

fn unreadable(error: ReadError) -> RecordsError {
    RecordsError(Box::new(error))
}

#[async_trait]
impl Records for Replica {
    async fn vm(&self, name: &VmName) -> Result<Option<Ipv4Addr>, RecordsError> {
        let name = name.clone();
        self.0.read(move |view| Ok(view.vm_by_name(&name)?.map(|vm| vm.ip))).await.map_err(unreadable)
    }

    async fn node(&self, name: &NodeName) -> Result<Option<Ipv4Addr>, RecordsError> {
        let name = name.clone();
        let read = self.0.read(move |view| Ok(view.node_by_name(&name)?.map(|node| gateway(node.subnet))));
        read.await.map_err(unreadable)
    }

    async fn owner(&self, ip: Ipv4Addr) -> Result<Option<Owner>, RecordsError> {
        let read = self.0.read(move |view| {
            if let Some(vm) = view.vm_by_ip(ip)? {
                return Ok(Some(Owner::Vm(vm.name)));
            }
            // Nodes are few, and no index knows gateways: they are the first address of a subnet.
            let node = view.nodes()?.into_iter().find(|node| gateway(node.subnet) == ip);
            Ok(node.map(|node| Owner::Node(node.name)))
        });
        read.await.map_err(unreadable)
    }
}

//! What a VM's documents are rendered from: everything a guest may learn about itself, and nothing else.
//!
//! The node fills an [`Instance`] from its replica. It can be stored and sent (the cache keeps it): rendering it again
//! gives the same documents.

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use std::{fmt, net::Ipv4Addr};
use waifud_model::{
    cloud_init::{CloudDefaults, CloudInit},
    ids::VmId,
    name::{NodeName, TemplateName, VmName},
    node::Arch,
    size::ByteSize,
    time::Timestamp,
    vm::Mac,
};

/// The domain of guest names: `<vm>.waifu.internal`.
pub const DOMAIN: &str = "waifu.internal";

/// What a guest is told about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// The VM.
    pub id: VmId,
    /// Which life of the VM this is; grows when cloud-init shall run again. Part of the instance-id.
    pub instance: u32,
    /// Its name, and so its hostname.
    pub name: VmName,
    /// Its address.
    pub ip: Ipv4Addr,
    /// The network it finds on its card.
    pub subnet: Ipv4Net,
    /// Its default router.
    pub gateway: Ipv4Addr,
    /// Its network card's address.
    pub mac: Mac,
    /// Name servers, in order.
    pub dns: Vec<Ipv4Addr>,
    /// The largest packet its card takes, in bytes.
    pub mtu: u16,
    /// What its CPUs are.
    pub arch: Arch,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Memory.
    pub memory: ByteSize,
    /// What its owner tells it: user-data, network-config (only NoCloud has a place for it), keys.
    pub cloud_init: CloudInit,
    /// What every guest of the cluster is told; see [`crate::merge`].
    pub defaults: CloudDefaults,
    /// The node it runs on; guests see it as the availability zone.
    pub node: NodeName,
    /// The template it was made from.
    pub template: TemplateName,
    /// When it was created.
    pub created_at: Timestamp,
}

/// What cloud-init remembers an instance by. A new one makes it run again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InstanceId(String);

impl InstanceId {
    /// The id of a VM's `instance`th life.
    #[must_use]
    pub fn of(vm: VmId, instance: u32) -> Self {
        Self(waifud_model::cloud_init::instance_id(vm, instance))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Instance {
    /// What cloud-init remembers this instance by.
    #[must_use]
    pub fn instance_id(&self) -> InstanceId {
        InstanceId::of(self.id, self.instance)
    }

    /// The same in OpenStack's form, a UUID: the VM's id, whose first 32 bits are `instance` instead.
    ///
    /// It must differ from the system's UUID, which is the VM's id. Where they are equal, cloud-init takes what it has
    /// stored and asks no more, so that it would never see the next life
    /// (22.4 `DataSourceOpenStack.check_instance_id`, `cloudinit/stages.py` `_restore_from_checked_cache`).
    #[must_use]
    pub fn openstack_uuid(&self) -> String {
        let id = self.id.to_string();
        let rest = id.split_once('-').map_or("", |(_, rest)| rest);
        format!("{:08x}-{rest}", self.instance)
    }

    /// Its full name. A dot in it is how cloud-init tells name from domain
    /// (22.4 `cloudinit/sources/__init__.py`, `get_hostname`).
    #[must_use]
    pub fn fqdn(&self) -> String {
        format!("{}.{DOMAIN}", self.name)
    }
}

#[cfg(test)]
pub(crate) mod tests;

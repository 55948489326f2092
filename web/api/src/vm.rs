//! VMs on the wire.

mod create;
mod status;

pub use create::{Placement, PlacementPreview, VmCreate, VmCreateQuery, VmCreated};
pub use status::{Fetching, LastError, PendingChange, Silent, VmStatus};

use crate::{page::Limit, schema, time::Time, user_data::UserDataInfo};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, net::Ipv4Addr};
use utoipa::{IntoParams, ToSchema};
use waifud_model::{
    cloud_init::{Datasource, Imds},
    digest::Blake3,
    hardware::{CpuModel, Firmware},
    ids::{Generation, VmId},
    labels::Labels,
    name::{BridgeName, DiskName, NodeName, TemplateName, VmName},
    size::ByteSize,
    vm::{Desired, Mac, Phase, RestartPolicy},
};

/// A VM: what is wanted, and what is seen of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Vm {
    /// Who it is, for ever.
    #[schema(value_type = String)]
    pub id: VmId,
    /// What people call it; unique in the cluster.
    #[schema(value_type = String)]
    pub name: VmName,
    /// The node it is placed on.
    #[schema(value_type = String)]
    pub node: NodeName,
    /// What is seen of it.
    pub status: VmStatus,
    /// Should it run?
    #[schema(value_type = schema::Desired)]
    pub desired: Desired,
    /// Is it being deleted?
    #[schema(value_type = schema::Phase)]
    pub phase: Phase,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Memory, in bytes.
    #[schema(value_type = u64)]
    pub memory: ByteSize,
    /// The root disk, in bytes.
    #[schema(value_type = u64)]
    pub disk: ByteSize,
    /// What its disk started from.
    pub template: TemplateRef,
    /// Its address.
    #[schema(value_type = String, format = Ipv4)]
    pub ip: Ipv4Addr,
    /// Its network card's address.
    #[schema(value_type = String)]
    pub mac: Mac,
    /// For filters, and for what tokens are for that have a scope.
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    pub labels: Labels,
    /// What happens when it stops by itself.
    #[schema(value_type = schema::RestartPolicy)]
    pub restart: RestartPolicy,
    /// What it is for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// True: neither it nor a disk of it can be deleted, nor can it be made anew.
    #[serde(default)]
    pub protected: bool,
    /// Is it started when its host is?
    #[serde(default = "create::yes")]
    pub autostart: bool,
    /// What it is made of beside the sizes.
    #[serde(flatten)]
    pub hardware: Hardware,
    /// OpenSSH public keys of the default user.
    pub ssh_keys: Vec<String>,
    /// Digest and size of its user-data, if it has any; the text is never shown.
    pub user_data: Option<UserDataInfo>,
    /// Digest and size of its network-config, if it has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_config: Option<UserDataInfo>,
    /// As which cloud its guest knows its host.
    #[serde(default)]
    #[schema(value_type = schema::Datasource)]
    pub datasource: Datasource,
    /// Which requests EC2's documents are given to.
    #[serde(default)]
    #[schema(value_type = schema::Imds)]
    pub imds: Imds,
    /// What cloud-init tells one life of the guest from the next by.
    #[serde(default)]
    pub instance_id: String,
    /// Grows with every change; also the `ETag`.
    #[schema(value_type = u64)]
    pub generation: Generation,
    /// When it was made.
    pub created_at: Time,
}

/// A template version, with the name it was chosen by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TemplateRef {
    /// The template.
    #[schema(value_type = String)]
    pub name: TemplateName,
    /// BLAKE3 of the version's bytes.
    #[schema(value_type = String)]
    pub version: Blake3,
}

/// What a VM is made of beside the sizes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Hardware {
    /// What starts its boot loader.
    #[serde(default)]
    #[schema(value_type = schema::Firmware)]
    pub firmware: Firmware,
    /// The CPU its guest sees: `host`, or a model of libvirt's (`virsh cpu-models`).
    #[serde(default)]
    #[schema(value_type = String)]
    pub cpu_model: CpuModel,
    /// The most memory it can be given while it runs, in bytes; as much as it boots with if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub memory_max: Option<ByteSize>,
    /// Disks beside the root disk, by name; their sizes in bytes. A guest finds each by its serial number, which is the
    /// name: `/dev/disk/by-id/virtio-NAME`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<String, u64>)]
    pub disks: BTreeMap<DiskName, ByteSize>,
    /// The image in its CD drive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cd: Option<TemplateRef>,
    /// Bridges of its host that it has a network card on, beside the one of the cluster's network.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub bridges: Vec<BridgeName>,
}

/// The query of `GET /vms`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct VmListQuery {
    /// Only VMs that match; the language of [`Filter`](crate::filter::Filter): `node=n1 status=running label.env=prod`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// How many items at most, 1 to 1000; all if not given. `Waifu-Next` says what to go on after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    pub limit: Option<Limit>,
    /// Only items after this one, which need not be there any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub after: Option<VmName>,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use expect_test::expect;
    use waifud_model::{
        observed::{Sighting, VmState},
        time::Timestamp,
    };

    /// A VM with a bit of everything.
    pub(crate) fn vm() -> Vm {
        let ip = Ipv4Addr::new(10, 77, 2, 14);
        Vm {
            id: VmId::from_random([7; 16]),
            name: VmName::new("web-1").unwrap(),
            node: NodeName::new("n2").unwrap(),
            status: VmStatus {
                state: VmState::Running,
                since: Some(Time(Timestamp(1_760_000_009_800))),
                pending: false,
                waits: Vec::new(),
                changes: Vec::new(),
                doing: None,
                held: None,
                fetching: None,
                restarts: 0,
                cpu_percent: Some(12),
                memory_used: Some(ByteSize::mib(3_174)),
                met: vec![Sighting::Lease, Sighting::Metadata],
                cloud_init_done: true,
                silent: None,
                last_error: None,
            },
            desired: Desired::Running,
            phase: Phase::Live,
            cpus: 2,
            memory: ByteSize::gib(4),
            disk: ByteSize::gib(10),
            template: TemplateRef { name: TemplateName::new("debian-12").unwrap(), version: Blake3::of(b"") },
            ip,
            mac: Mac::of(ip),
            labels: Labels::try_from(std::collections::BTreeMap::from([("env".to_owned(), "prod".to_owned())]))
                .unwrap(),
            restart: RestartPolicy::OnFailure,
            description: String::new(),
            protected: false,
            autostart: true,
            hardware: Hardware::default(),
            ssh_keys: vec!["ssh-ed25519 AAAA me".to_owned()],
            user_data: None,
            network_config: None,
            datasource: Datasource::NoCloud,
            imds: Imds::V2,
            instance_id: "i-78707070707070706".to_owned(),
            generation: Generation::FIRST,
            created_at: Time(Timestamp(1_760_000_000_000)),
        }
    }

    #[test]
    fn a_vm_in_json() {
        let vm = vm();
        expect![[r#"
            {
              "id": "ec270707-0707-4707-8707-070707070707",
              "name": "web-1",
              "node": "n2",
              "status": {
                "state": "running",
                "since": "2025-10-09T08:53:29.800Z",
                "pending": false,
                "met": [
                  "lease",
                  "metadata"
                ],
                "cloud_init_done": true,
                "cpu_percent": 12,
                "memory_used": 3328180224
              },
              "desired": "running",
              "phase": "live",
              "cpus": 2,
              "memory": 4294967296,
              "disk": 10737418240,
              "template": {
                "name": "debian-12",
                "version": "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
              },
              "ip": "10.77.2.14",
              "mac": "52:54:0a:4d:02:0e",
              "labels": {
                "env": "prod"
              },
              "restart": "on_failure",
              "protected": false,
              "autostart": true,
              "firmware": "bios",
              "cpu_model": "host",
              "ssh_keys": [
                "ssh-ed25519 AAAA me"
              ],
              "user_data": null,
              "datasource": "no_cloud",
              "imds": "v2",
              "instance_id": "i-78707070707070706",
              "generation": 1,
              "created_at": "2025-10-09T08:53:20.000Z"
            }"#]]
        .assert_eq(&serde_json::to_string_pretty(&vm).unwrap());
        assert_eq!(serde_json::from_str::<Vm>(&serde_json::to_string(&vm).unwrap()).unwrap(), vm);
    }
}

//! VMs on the wire.

use crate::{
    problem::NodeEvidence,
    schema,
    template::TemplateSelector,
    time::Time,
    user_data::{UserDataIn, UserDataInfo},
};
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
    observed::{Sighting, VmState, Waiting},
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
    /// For filters and placement.
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
    #[serde(default = "yes")]
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

/// What is seen of a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VmStatus {
    /// The last state its owner told; `pending` if it has not told any.
    #[schema(value_type = schema::VmState)]
    pub state: VmState,
    /// Since when, by the owner's clock.
    pub since: Option<Time>,
    /// True while the owner has not caught up with the last change of what is wanted.
    pub pending: bool,
    /// What the running guest has not taken up, and will at its next start. `changes` tells more where the owner was asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<schema::Waiting>)]
    pub waits: Vec<Waiting>,
    /// The same with what is and what shall be. Lists leave it out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<PendingChange>,
    /// What its owner is doing about it. Lists leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doing: Option<String>,
    /// Why its owner does nothing although not all is as wanted. Lists leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
    /// How often the guest died and was started again since it last ran well. Lists leave it out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub restarts: u32,
    /// By what its owner has met the guest since it was started: none yet means that only its allocation is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<schema::Sighting>)]
    pub met: Vec<Sighting>,
    /// Present while the owner is silent: `state` is then what was last heard, not what is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent: Option<Silent>,
    /// Why the wanted state could not be reached, where that is known. Lists leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<LastError>,
}

/// A change that waits for the guest's next start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PendingChange {
    /// The field.
    pub field: String,
    /// What the running guest has.
    pub now: String,
    /// What it will have.
    pub wanted: String,
    /// Why it has to wait.
    pub why: String,
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

const fn yes() -> bool {
    true
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

fn is_false(is: &bool) -> bool {
    !is
}

fn is_true(is: &bool) -> bool {
    *is
}

/// A node that is not heard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Silent {
    /// Since when, as far as the answering node knows.
    pub since: Option<Time>,
}

/// What keeps a VM from its wanted state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LastError {
    /// The error, in the owner's words.
    pub message: String,
    /// When it happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Time>,
    /// How often it was tried in vain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// When it is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_try: Option<Time>,
}

/// A VM to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VmCreate {
    /// Its name; one is made up if none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub name: Option<VmName>,
    /// What its disk starts from: `debian-12`, or a version of it, `debian-12@9f3c21`.
    #[schema(value_type = String)]
    pub template: TemplateSelector,
    /// Virtual CPUs; 1 if not given.
    #[serde(default = "VmCreate::default_cpus")]
    pub cpus: u32,
    /// Memory, in bytes or as a text like `512M`; 512 MiB if not given.
    #[serde(default = "VmCreate::default_memory")]
    #[schema(value_type = u64)]
    pub memory: ByteSize,
    /// The root disk, in bytes or as a text like `10G`; if not given 10 GiB, or the template's size where that is more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub disk: Option<ByteSize>,
    /// The node it must be placed on; the cluster chooses if none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub node: Option<NodeName>,
    /// cloud-init user-data, byte for byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_data: Option<UserDataIn>,
    /// cloud-init network-config, byte for byte; the guest asks DHCP if none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_config: Option<UserDataIn>,
    /// OpenSSH public keys for the default user.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ssh_keys: Vec<String>,
    /// As which cloud its guest is to know its host; `no_cloud` if not given.
    #[serde(default)]
    #[schema(value_type = schema::Datasource)]
    pub datasource: Datasource,
    /// Which requests EC2's documents are given to; `any` if not given.
    #[serde(default)]
    #[schema(value_type = schema::Imds)]
    pub imds: Imds,
    /// For filters and placement.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    pub labels: Labels,
    /// What happens when it stops by itself.
    #[serde(default)]
    #[schema(value_type = schema::RestartPolicy)]
    pub restart: RestartPolicy,
    /// What it is for; at most 1024 bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// True: neither it nor a disk of it can be deleted until this is taken back.
    #[serde(default, skip_serializing_if = "is_false")]
    pub protected: bool,
    /// Is it started when its host is? True if not given.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub autostart: bool,
    /// What starts its boot loader; `bios` if not given.
    #[serde(default)]
    #[schema(value_type = schema::Firmware)]
    pub firmware: Firmware,
    /// The CPU its guest sees: `host` if not given, or a model of libvirt's.
    #[serde(default)]
    #[schema(value_type = String)]
    pub cpu_model: CpuModel,
    /// The most memory it can be given while it runs, in bytes or as a text; as much as it boots with if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub memory_max: Option<ByteSize>,
    /// Empty disks beside the root disk: names and sizes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<String, u64>)]
    pub disks: BTreeMap<DiskName, ByteSize>,
    /// An installer or other ISO image for its CD drive: a template of that format.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub cd: Option<TemplateSelector>,
    /// Bridges of its host that it gets a network card on, beside the one of the cluster's network.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub bridges: Vec<BridgeName>,
    /// Should it run at once? True if not given.
    #[serde(default = "VmCreate::default_start")]
    pub start: bool,
}

impl VmCreate {
    /// A VM from `template`, everything else by default.
    #[must_use]
    pub fn from_template(template: TemplateSelector) -> Self {
        Self {
            name: None,
            template,
            cpus: Self::default_cpus(),
            memory: Self::default_memory(),
            disk: None,
            node: None,
            user_data: None,
            network_config: None,
            ssh_keys: Vec::new(),
            datasource: Datasource::default(),
            imds: Imds::default(),
            labels: Labels::default(),
            restart: RestartPolicy::default(),
            description: String::new(),
            protected: false,
            autostart: true,
            firmware: Firmware::default(),
            cpu_model: CpuModel::default(),
            memory_max: None,
            disks: BTreeMap::new(),
            cd: None,
            bridges: Vec::new(),
            start: Self::default_start(),
        }
    }

    /// Virtual CPUs where none are given.
    #[must_use]
    pub const fn default_cpus() -> u32 {
        1
    }

    /// Memory where none is given.
    #[must_use]
    pub const fn default_memory() -> ByteSize {
        ByteSize::mib(512)
    }

    /// The root disk where none is given, unless the template needs more.
    #[must_use]
    pub const fn default_disk() -> ByteSize {
        ByteSize::gib(10)
    }

    const fn default_start() -> bool {
        true
    }
}

/// A VM that was made. The node is at work on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VmCreated {
    /// The VM.
    pub vm: Vm,
    /// Why it is where it is.
    pub placement: Placement,
    /// What is odd about its documents, without quoting them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// Where a VM goes, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Placement {
    /// The chosen node.
    #[schema(value_type = String)]
    pub node: NodeName,
    /// Why this one: `most free memory of 3`.
    pub reason: String,
    /// The nodes that could not take it, each with its reason.
    pub rejected: Vec<NodeEvidence>,
}

/// What `POST /vms?dry_run=true` answers: what would be made, and where. Nothing is kept or reserved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlacementPreview {
    /// Where it would go.
    pub placement: Placement,
    /// The version it would start from.
    pub template: TemplateRef,
    /// The root disk it would get, in bytes.
    #[schema(value_type = u64)]
    pub disk: ByteSize,
    /// What is odd about its documents, without quoting them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// The query of `GET /vms`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct VmListQuery {
    /// Only VMs that match; the language of [`Filter`](crate::filter::Filter): `node=n1 status=running label.env=prod`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
}

/// The query of `POST /vms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct VmCreateQuery {
    /// Only say where the VM would go.
    #[serde(default)]
    pub dry_run: bool,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use expect_test::expect;
    use waifud_model::time::Timestamp;

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
                restarts: 0,
                met: vec![Sighting::Lease, Sighting::Metadata],
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
                ]
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

    #[test]
    fn the_least_request() {
        let request: VmCreate = serde_json::from_str(r#"{"template":"debian-12"}"#).unwrap();
        assert_eq!(request, VmCreate::from_template("debian-12".parse().unwrap()));
        expect![[r#"{"template":"debian-12","cpus":1,"memory":536870912,"datasource":"no_cloud","imds":"any","restart":"on_failure","firmware":"bios","cpu_model":"host","start":true}"#]]
            .assert_eq(&serde_json::to_string(&request).unwrap());
    }

    #[test]
    fn a_mistyped_field_is_named() {
        let error = serde_json::from_str::<VmCreate>(r#"{"template":"debian-12","memroy":"4G"}"#).unwrap_err();
        expect!["unknown field `memroy`, expected one of `name`, `template`, `cpus`, `memory`, `disk`, `node`, `user_data`, `network_config`, `ssh_keys`, `datasource`, `imds`, `labels`, `restart`, `description`, `protected`, `autostart`, `firmware`, `cpu_model`, `memory_max`, `disks`, `cd`, `bridges`, `start` at line 1 column 32"].assert_eq(&error.to_string());
    }
}

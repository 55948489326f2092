//! A VM to be made, and what becomes of the request.

use super::{TemplateRef, Vm};
use crate::{problem::NodeEvidence, schema, template::TemplateSelector, user_data::UserDataIn};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::{IntoParams, ToSchema};
use waifud_model::{
    cloud_init::{Datasource, Imds},
    hardware::{CpuModel, Firmware},
    labels::Labels,
    name::{BridgeName, DiskName, NodeName, VmName},
    size::ByteSize,
    vm::RestartPolicy,
};

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
    /// For filters, and for what tokens are for that have a scope.
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

/// The query of `POST /vms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct VmCreateQuery {
    /// Only say where the VM would go.
    #[serde(default)]
    pub dry_run: bool,
}

pub(super) const fn yes() -> bool {
    true
}

fn is_false(is: &bool) -> bool {
    !is
}

fn is_true(is: &bool) -> bool {
    *is
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

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

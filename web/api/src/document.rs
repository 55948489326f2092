//! What `waifuctl apply` reads and `waifuctl export` writes: VMs, templates and labels of nodes as people describe them.
//!
//! In: a document, out of YAML or TOML. Out: typed fields, and the JSON Schema of the same types. A field that a document does
//! not name is not managed by it: a new VM has the default, one that is there keeps what it has. What is named is meant as a
//! whole, and `null` or an empty value takes it away. Files that a document names are the reader's business; nothing here
//! opens them, compares anything, or knows the cluster.

mod json_schema;

pub use json_schema::json_schema;

use crate::{schema, template::TemplateSelector, user_data::UserDataIn};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{collections::BTreeMap, fmt};
use utoipa::ToSchema;
use waifud_model::{
    cloud_init::{Datasource, Imds},
    digest::Sha256,
    hardware::{CpuModel, Firmware},
    labels::Labels,
    name::{BridgeName, DiskName, NodeName, TemplateName, VmName},
    size::ByteSize,
    vm::RestartPolicy,
};

/// One document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Document {
    /// A virtual machine.
    Vm(Box<VmDocument>),
    /// What disks of VMs start from.
    Template(TemplateDocument),
    /// What people say of a node.
    Node(NodeDocument),
}

/// The words of `kind`, which are also the names of the lists in a file that has its documents by kind (`[[vm]]`).
pub const KINDS: [&str; 3] = ["vm", "template", "node"];

/// A virtual machine. What is not named is the default for a new VM, and stays as it is for one that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VmDocument {
    /// Its name, unique in the cluster.
    #[schema(value_type = String)]
    pub name: VmName,
    /// What its disk starts from: `debian-12`, or a version of it, `debian-12@9f3c21`. Counts when the VM is made.
    #[schema(value_type = String)]
    pub template: TemplateSelector,
    /// The node it is made on; the cluster chooses if none is named. Counts when the VM is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub node: Option<NodeName>,
    /// Should it run? A new VM does if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<bool>,
    /// Virtual CPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<u32>,
    /// Memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Size>,
    /// The most memory it can be given while it runs; `null` for as much as it boots with.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    #[schema(value_type = Option<Size>)]
    pub memory_max: Option<Option<Size>>,
    /// The root disk; disks never shrink.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<Size>,
    /// All disks beside the root disk. One that is there and not among them goes, with all that is on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<BTreeMap<String, Size>>)]
    pub disks: Option<BTreeMap<DiskName, Size>>,
    /// The image in its CD drive, a template that is an ISO; `null` for none.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    pub cd: Option<Option<TemplateSelector>>,
    /// All bridges of its host that it has a network card on, beside the one of the cluster's network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    pub bridges: Option<Vec<BridgeName>>,
    /// What starts its boot loader.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::Firmware>)]
    pub firmware: Option<Firmware>,
    /// The CPU its guest sees: `host`, or a model of libvirt's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub cpu_model: Option<CpuModel>,
    /// All its labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    pub labels: Option<Labels>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// True: neither it nor a disk of it can be deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protected: Option<bool>,
    /// Is it started when its host is?
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autostart: Option<bool>,
    /// What happens when it stops by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::RestartPolicy>)]
    pub restart: Option<RestartPolicy>,
    /// All OpenSSH public keys of the default user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh_keys: Option<Vec<String>>,
    /// Files with such keys, beside the document; together with `ssh_keys` they are all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh_key_files: Option<Vec<String>>,
    /// cloud-init user-data: a text, taken byte for byte; a mapping, which is a cloud-config; `{base64: …}`; `null` for none.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    #[schema(value_type = Option<json_schema::Inline>)]
    pub user_data: Option<Option<UserDataIn>>,
    /// A file with the user-data, beside the document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_data_file: Option<String>,
    /// cloud-init network-config, in the forms of `user_data`; `null` for none: the guest asks DHCP.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    #[schema(value_type = Option<json_schema::Inline>)]
    pub network_config: Option<Option<UserDataIn>>,
    /// A file with the network-config, beside the document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_config_file: Option<String>,
    /// As which cloud its guest is to know its host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::Datasource>)]
    pub datasource: Option<Datasource>,
    /// Which requests EC2's documents are given to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::Imds>)]
    pub imds: Option<Imds>,
}

impl VmDocument {
    /// A document that names nothing but these two.
    #[must_use]
    pub const fn new(name: VmName, template: TemplateSelector) -> Self {
        Self {
            name,
            template,
            node: None,
            running: None,
            cpus: None,
            memory: None,
            memory_max: None,
            disk: None,
            disks: None,
            cd: None,
            bridges: None,
            firmware: None,
            cpu_model: None,
            labels: None,
            description: None,
            protected: None,
            autostart: None,
            restart: None,
            ssh_keys: None,
            ssh_key_files: None,
            user_data: None,
            user_data_file: None,
            network_config: None,
            network_config_file: None,
            datasource: None,
            imds: None,
        }
    }
}

/// A template: an image from the web, or from a file beside the document. If the template has no version with these bytes, one
/// is added; versions are never changed or taken away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TemplateDocument {
    /// Its name.
    #[schema(value_type = String)]
    pub name: TemplateName,
    /// Where a node downloads the image: http or https. Needs `sha256`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// An image on this machine, beside the document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// What its bytes must be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub sha256: Option<Sha256>,
}

/// A node: its labels. Machines become nodes by joining and leave by being removed, neither of which a document does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeDocument {
    /// Its name.
    #[schema(value_type = String)]
    pub name: NodeName,
    /// All its labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    pub labels: Option<Labels>,
}

/// A number of bytes as people write it: `512M`, `1.5G`, or the number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub ByteSize);

impl fmt::Display for Size {
    /// In the largest unit that needs no fraction; it reads back to the same number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u64); 4] = [("T", 1 << 40), ("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10)];
        let bytes = self.0.as_bytes();
        match UNITS.iter().find(|(_, size)| bytes > 0 && bytes.is_multiple_of(*size)) {
            Some((unit, size)) => write!(f, "{}{unit}", bytes / size),
            None => write!(f, "{bytes}"),
        }
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        ByteSize::deserialize(d).map(Self)
    }
}

/// What is there, `null` or not: serde alone takes `null` for a field that is not there.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(d: D) -> Result<Option<T>, D::Error> {
    T::deserialize(d).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_back_to_the_same_number() {
        for (bytes, text) in [(0, "0"), (1, "1"), (1 << 30, "1G"), (3 << 29, "1536M"), (1025, "1025"), (1 << 40, "1T")]
        {
            let size = Size(ByteSize::bytes(bytes));
            assert_eq!(size.to_string(), text);
            assert_eq!(serde_json::from_value::<Size>(serde_json::json!(text)).unwrap(), size);
        }
    }

    #[test]
    fn null_and_silence_are_told_apart() {
        let read = |json| serde_json::from_str::<VmDocument>(json);
        let null = read(r#"{"name":"a","template":"t","cd":null,"user_data":null,"memory_max":null}"#).unwrap();
        assert_eq!((null.cd.clone(), null.user_data.clone(), null.memory_max), (Some(None), Some(None), Some(None)));
        let json = serde_json::to_string(&Document::Vm(Box::new(null))).unwrap();
        assert_eq!(json, r#"{"kind":"vm","name":"a","template":"t","memory_max":null,"cd":null,"user_data":null}"#);
        let bare = VmDocument::new("a".parse().unwrap(), "t".parse().unwrap());
        assert_eq!(read(r#"{"name":"a","template":"t"}"#).unwrap(), bare);
    }
}

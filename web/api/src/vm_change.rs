//! What is done to a VM that is there: the bodies and queries of `PATCH /vms/{name}` and of its verbs.

use crate::{event::Change, schema, template::TemplateSelector, vm::Vm};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use utoipa::{IntoParams, ToSchema};
use waifud_model::{
    hardware::{CpuModel, Firmware},
    labels::LabelPatch,
    name::{BridgeName, DiskName, VmName},
    size::ByteSize,
    vm::RestartPolicy,
};

/// The longest a guest can be given to go off, in seconds: a day.
pub const GRACE_MAX_S: u32 = 86_400;

/// What shall be different about a VM, as a JSON merge patch (RFC 7396): what is not named stays, and `null` takes away.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VmUpdate {
    /// Virtual CPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<u32>,
    /// Memory, in bytes or as a text like `512M`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub memory: Option<ByteSize>,
    /// The most memory it can be given while it runs; `null` for as much as it boots with.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    #[schema(value_type = Option<u64>)]
    pub memory_max: Option<Option<ByteSize>>,
    /// The root disk; disks never shrink.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub disk: Option<ByteSize>,
    /// Labels that come or change; with `null` those that go.
    #[serde(default, skip_serializing_if = "LabelPatch::is_empty")]
    #[schema(value_type = BTreeMap<String, Option<String>>)]
    pub labels: LabelPatch,
    /// What it is for; empty takes it away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// True: neither it nor a disk of it can be deleted, nor can it be made anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protected: Option<bool>,
    /// Is it started when its host is?
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autostart: Option<bool>,
    /// What happens when it stops by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::RestartPolicy>)]
    pub restart: Option<RestartPolicy>,
    /// What starts its boot loader.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::Firmware>)]
    pub firmware: Option<Firmware>,
    /// The CPU its guest sees: `host`, or a model of libvirt's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub cpu_model: Option<CpuModel>,
    /// Disks beside the root disk that come or grow; with `null` those that go, with all that is on them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<String, Option<u64>>)]
    pub disks: BTreeMap<DiskName, Option<ByteSize>>,
    /// The image in its CD drive, a template that is an ISO; `null` takes it out.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    pub cd: Option<Option<TemplateSelector>>,
    /// All bridges of its host that it shall have a network card on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    pub bridges: Option<Vec<BridgeName>>,
}

/// What is there, `null` or not: serde alone takes `null` for a field that is not there.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(d: D) -> Result<Option<T>, D::Error> {
    T::deserialize(d).map(Some)
}

/// What `PATCH /vms/{name}?dry_run=true` answers: what would change. Nothing is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VmUpdatePreview {
    /// The VM as it would be.
    pub vm: Vm,
    /// What would be different, field by field.
    pub changes: Vec<Change>,
}

/// What `PATCH /vms/{name}` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum VmUpdateAnswer {
    /// With `dry_run`: what would change.
    Preview(Box<VmUpdatePreview>),
    /// The VM as it is now.
    Changed(Box<Vm>),
}

/// The body of `POST /vms/{name}/rename`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VmRename {
    /// Its new name.
    #[schema(value_type = String)]
    pub name: VmName,
}

/// The query of `POST /vms/{name}/stop` and `…/reboot`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct GraceQuery {
    /// How many seconds the guest may take to go off before its power is taken away, at most a day; zero for at once. If
    /// not given, a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(maximum = 86400)]
    pub grace: Option<u32>,
}

/// The query of `POST /vms/{name}/reinit`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ReinitQuery {
    /// What its disk starts from: a template or a version of it. The newest version of its own template if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub template: Option<TemplateSelector>,
    /// Only say what would happen.
    #[serde(default)]
    pub dry_run: bool,
}

/// The query of `PATCH /vms/{name}` and `DELETE /vms/{name}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DryRunQuery {
    /// Only say what would happen.
    #[serde(default)]
    pub dry_run: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_takes_away_and_silence_leaves() {
        let update: VmUpdate =
            serde_json::from_str(r#"{"cd":null,"labels":{"a":null},"disks":{"data":null}}"#).unwrap();
        assert_eq!((update.cd.clone(), update.memory_max), (Some(None), None));
        assert_eq!(serde_json::to_string(&update).unwrap(), r#"{"labels":{"a":null},"disks":{"data":null},"cd":null}"#);
        assert_eq!(serde_json::from_str::<VmUpdate>("{}").unwrap(), VmUpdate::default());
        assert!(serde_json::from_str::<VmUpdate>(r#"{"cups":1}"#).is_err());
    }
}

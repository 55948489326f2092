//! What guests are told, on the wire: a VM's own documents, and those that every guest of the cluster gets.
//!
//! These are the only answers that contain user-data, and only operators get them.

use crate::{schema, user_data::UserDataIn};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use waifud_model::{
    cloud_init::{Datasource, Imds},
    ids::Generation,
};

/// What one VM's guest is told: the answer of `GET /vms/{name}/cloud-init`, and what `PUT` replaces as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CloudInit {
    /// cloud-init user-data, byte for byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_data: Option<UserDataIn>,
    /// cloud-init network-config, byte for byte; without it the guest asks DHCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_config: Option<UserDataIn>,
    /// OpenSSH public keys for the default user.
    #[serde(default)]
    pub ssh_keys: Vec<String>,
    /// As which cloud the guest is to know its host; takes effect when it is next started.
    #[serde(default)]
    #[schema(value_type = schema::Datasource)]
    pub datasource: Datasource,
    /// Which requests EC2's documents are given to.
    #[serde(default)]
    #[schema(value_type = schema::Imds)]
    pub imds: Imds,
}

/// The query of `PUT /vms/{name}/cloud-init`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct CloudInitQuery {
    /// Begin a new life of the guest, so that cloud-init runs everything again at the next boot. Without it cloud-init
    /// keeps what it did, and only what it looks at on every boot takes effect.
    #[serde(default)]
    pub rerun: bool,
    /// Only check the documents.
    #[serde(default)]
    pub dry_run: bool,
}

/// The documents were taken, or with `dry_run` they could be: nothing has changed then, and this tells what there is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CloudInitSaved {
    /// The VM's generation, or that of the cluster's defaults, from now on.
    #[schema(value_type = u64)]
    pub generation: Generation,
    /// What cloud-init tells this life of the guest by; none for the cluster's defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
    /// What is odd about the documents, without quoting them.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// What every guest is told beside its own: the answer of `GET /cluster/cloud-init`, and what `PUT` replaces as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CloudDefaults {
    /// User-data that each VM's own is merged over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_data: Option<UserDataIn>,
    /// Vendor-data; a VM's user may refuse it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vendor_data: Option<UserDataIn>,
}

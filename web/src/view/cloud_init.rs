//! What guests are told, for those who may read it: the one place where user-data leaves the cluster as it is.

use waifud_api::{cloud_init as wire, user_data::UserDataIn};
use waifud_model::cloud_init::{CloudDefaults, CloudInit};

/// What one guest is told.
pub(crate) fn told(told: CloudInit) -> wire::CloudInit {
    let CloudInit { user_data, network_config, ssh_keys, datasource, imds } = told;
    wire::CloudInit {
        user_data: user_data.map(UserDataIn),
        network_config: network_config.map(UserDataIn),
        ssh_keys,
        datasource,
        imds,
    }
}

/// What every guest is told.
pub(crate) fn defaults(defaults: CloudDefaults) -> wire::CloudDefaults {
    let CloudDefaults { user_data, vendor_data, .. } = defaults;
    wire::CloudDefaults { user_data: user_data.map(UserDataIn), vendor_data: vendor_data.map(UserDataIn) }
}

//! NoCloud's documents, as a stock image fetches them from the seed address in its SMBIOS serial, or finds them on a
//! `cidata` disk.
//!
//! Read by cloud-init 22.4 `cloudinit/sources/DataSourceNoCloud.py` and `cloudinit/util.py` (`read_seeded`,
//! `pathprefix2dict`). What a VM does not have is *empty*, never absent: `read_seeded` gives up without `user-data`, and
//! asks ten more times, a second apart, for `vendor-data` (and from 24.3 on for `network-config`) that is not found.

use crate::{Document, Instance, documents::Paths, phone_home};
use serde::Serialize;

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct MetaData<'a> {
    instance_id: &'a str,
    local_hostname: &'a str,
    /// `DataSource.availability_zone` (22.4 `cloudinit/sources/__init__.py`).
    availability_zone: &'a str,
    /// `normalize_pubkey_data` takes a list.
    public_keys: &'a [String],
}

/// Always all four, under the names they have on a disk too.
pub(crate) fn render(instance: &Instance, user_data: Option<&[u8]>) -> Paths {
    let meta_data = Document::json(&MetaData {
        instance_id: instance.instance_id().as_str(),
        local_hostname: &instance.fqdn(),
        availability_zone: instance.node.as_str(),
        public_keys: &instance.cloud_init.ssh_keys,
    });
    let raw = |bytes: Option<&[u8]>| Document::raw(bytes.unwrap_or_default());
    Paths::from([
        ("meta-data".to_owned(), meta_data),
        ("user-data".to_owned(), raw(user_data)),
        ("vendor-data".to_owned(), raw(phone_home::vendor_data(instance).as_deref())),
        ("network-config".to_owned(), raw(instance.cloud_init.network_config.as_ref().map(|d| d.as_bytes()))),
    ])
}

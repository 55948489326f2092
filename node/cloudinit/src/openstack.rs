//! OpenStack's documents.
//!
//! Read by cloud-init 22.4 `cloudinit/sources/DataSourceOpenStack.py` and `cloudinit/sources/helpers/openstack.py`
//! (`BaseReader.read_v2`): it takes the newest version of its own list that `/openstack` lists (2018-08-27), requires
//! `meta_data.json` with a `uuid`, which becomes the instance-id, and does without the rest where it answers 404.
//! A `random_seed` is not given: it would have to be drawn. Neither is `password`, to which guests would write.

use crate::{Document, Instance, documents::Paths, ec2::key_name, merge, phone_home};
use serde::{Serialize, Serializer, ser::SerializeMap};
use std::net::Ipv4Addr;

/// The version whose files are kept; all others have the same.
pub(crate) const LATEST: &str = "latest";

/// The versions of Nova (`nova/api/metadata/base.py`), as `/openstack` lists them.
pub(crate) const VERSIONS: [&str; 10] = [
    "2012-08-10",
    "2013-04-04",
    "2013-10-17",
    "2015-10-15",
    "2016-06-30",
    "2016-10-06",
    "2017-02-22",
    "2018-08-27",
    "2020-10-14",
    LATEST,
];

/// The one network card's name, which its network refers to. Guests name the card by its MAC.
const LINK: &str = "eth0";

#[derive(Serialize)]
struct MetaData<'a> {
    uuid: String,
    hostname: String,
    name: &'a str,
    availability_zone: &'a str,
    launch_index: u32,
    meta: Empty,
    #[serde(skip_serializing_if = "Keys::is_empty")]
    public_keys: Keys<'a>,
    devices: [(); 0],
}

/// Nova's vendor-data is a mapping; cloud-init takes its own from under `cloud-init`
/// (22.4 `cloudinit/sources/__init__.py`, `convert_vendordata`).
#[derive(Serialize)]
struct VendorData {
    #[serde(rename = "cloud-init", skip_serializing_if = "Option::is_none")]
    cloud_init: Option<String>,
}

#[derive(Serialize)]
struct Empty {}

#[derive(Serialize)]
struct NetworkData {
    links: [Link; 1],
    networks: [Network; 1],
    services: Vec<Service>,
}

#[derive(Serialize)]
struct Link {
    id: &'static str,
    vif_id: &'static str,
    r#type: &'static str,
    mtu: u16,
    ethernet_mac_address: String,
}

#[derive(Serialize)]
struct Network {
    id: &'static str,
    r#type: &'static str,
    link: &'static str,
    network_id: &'static str,
}

#[derive(Serialize)]
struct Service {
    r#type: &'static str,
    address: Ipv4Addr,
}

/// Keys by name, in order.
struct Keys<'a>(&'a [String]);

impl Keys<'_> {
    const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Keys<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(Some(self.0.len()))?;
        for (n, key) in self.0.iter().enumerate() {
            map.serialize_entry(&key_name(n), key)?;
        }
        map.end()
    }
}

/// Under `openstack/latest`, and the two listings.
pub(crate) fn render(instance: &Instance, user_data: Option<&[u8]>) -> Paths {
    let vendor_data = VendorData { cloud_init: phone_home::vendor_data(instance).as_deref().map(merge::as_text) };
    let mut files = vec![
        ("meta_data.json", Document::json(&meta_data(instance))),
        ("network_data.json", Document::json(&network_data(instance))),
        ("vendor_data.json", Document::json(&vendor_data)),
        ("vendor_data2.json", Document::json(&Empty {})),
    ];
    if let Some(user_data) = user_data {
        files.push(("user_data", Document::raw(user_data)));
    }
    files.sort_by_key(|(name, _)| *name);
    let names: Vec<_> = files.iter().map(|(name, _)| *name).collect();

    let mut paths = Paths::from([
        ("openstack".to_owned(), Document::text(VERSIONS.join("\n"))),
        (format!("openstack/{LATEST}"), Document::text(names.join("\n"))),
    ]);
    paths.extend(files.into_iter().map(|(name, file)| (format!("openstack/{LATEST}/{name}"), file)));
    paths
}

fn meta_data(instance: &Instance) -> MetaData<'_> {
    MetaData {
        uuid: instance.openstack_uuid(),
        hostname: instance.fqdn(),
        name: instance.name.as_str(),
        availability_zone: instance.node.as_str(),
        launch_index: 0,
        meta: Empty {},
        public_keys: Keys(&instance.cloud_init.ssh_keys),
        devices: [],
    }
}

/// One card, by DHCP: its answer has the routes, and is right on whatever node the VM runs.
fn network_data(instance: &Instance) -> NetworkData {
    let services = instance.dns.iter().map(|&address| Service { r#type: "dns", address });
    NetworkData {
        links: [Link {
            id: LINK,
            vif_id: LINK,
            r#type: "phy",
            mtu: instance.mtu,
            ethernet_mac_address: instance.mac.to_string(),
        }],
        networks: [Network { id: "network0", r#type: "ipv4_dhcp", link: LINK, network_id: "waifu" }],
        services: services.collect(),
    }
}

#[cfg(test)]
mod tests;

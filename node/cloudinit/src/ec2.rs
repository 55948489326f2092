//! EC2's tree of documents, one value a leaf and a listing a folder.
//!
//! Crawled by cloud-init 22.4 `cloudinit/sources/DataSourceEc2.py` and `cloudinit/sources/helpers/ec2.py`
//! (`MetadataMaterializer`): it reads `meta-data/`, follows every entry of a listing (a folder where the entry ends in a
//! slash), takes a leaf of several lines for a list, and asks for `N/openssh-key` where a listing says `N=name`.
//! With a system UUID and serial that begin with `ec2` it wants a token first and takes the instance-id from
//! `dynamic/instance-identity/document`. It works with the first version of its own list that answers: 2021-03-23.
//!
//! What EC2 has and we do not is absent: no `iam`, no signatures of the identity, no `tags`, no public addresses.

use crate::{Document, Instance, documents::Paths};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use waifud_model::{ids::VmId, node::Arch, time::Timestamp};

/// The version whose tree is kept; all others are the same tree.
pub(crate) const LATEST: &str = "latest";

/// The versions EC2 lists, of those that clients are known to ask for: cloud-init's own (2009-04-04 at least, and
/// 2016-09-02, 2018-09-24, 2021-03-23), and the first, which the tools of old images use.
pub(crate) const VERSIONS: [&str; 8] =
    ["1.0", "2009-04-04", "2016-09-02", "2018-09-24", "2019-10-01", "2020-10-27", "2021-03-23", LATEST];

/// There is one region, the cluster; its nodes are the zones.
const REGION: &str = "waifu";

/// EC2's accounts have twelve digits. We have none.
const ACCOUNT: &str = "000000000000";

/// Where every VM's root disk is: virtio.
const ROOT_DISK: &str = "/dev/vda";

/// One group, because one firewall is for all.
const SECURITY_GROUP: &str = "default";

/// The identity document (cloud-init reads `instanceId`, `availabilityZone` and `region`).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Identity<'a> {
    account_id: &'a str,
    architecture: &'a str,
    availability_zone: &'a str,
    image_id: &'a str,
    instance_id: &'a str,
    instance_type: &'a str,
    pending_time: String,
    private_ip: String,
    region: &'a str,
    version: &'a str,
}

/// Folders end in a slash; leaves do not.
pub(crate) fn render(instance: &Instance, user_data: Option<&[u8]>) -> Paths {
    let id = instance.instance_id();
    let (image, kind) = (format!("ami-{}", instance.template), instance_type(instance));
    let identity = Identity {
        account_id: ACCOUNT,
        architecture: match instance.arch {
            Arch::X86_64 => "x86_64",
            Arch::Aarch64 => "arm64",
        },
        availability_zone: instance.node.as_str(),
        image_id: &image,
        instance_id: id.as_str(),
        instance_type: &kind,
        pending_time: rfc3339(instance.created_at),
        private_ip: instance.ip.to_string(),
        region: REGION,
        version: "2017-09-30",
    };

    let mut leaves = Paths::new();
    let mut meta = |path: &str, value: &str| {
        leaves.insert(format!("{LATEST}/meta-data/{path}"), Document::text(value));
    };
    meta("ami-id", &image);
    meta("ami-launch-index", "0");
    meta("ami-manifest-path", "(unknown)");
    meta("block-device-mapping/ami", ROOT_DISK);
    meta("block-device-mapping/root", ROOT_DISK);
    meta("hostname", &instance.fqdn());
    meta("instance-action", "none");
    meta("instance-id", id.as_str());
    meta("instance-life-cycle", "on-demand");
    meta("instance-type", &kind);
    meta("local-hostname", &instance.fqdn());
    meta("local-ipv4", &instance.ip.to_string());
    meta("mac", &instance.mac.to_string());
    meta("placement/availability-zone", instance.node.as_str());
    meta("placement/region", REGION);
    meta("profile", "default-hvm");
    meta("reservation-id", &reservation(instance.id));
    meta("security-groups", SECURITY_GROUP);
    for (name, value) in card(instance) {
        meta(&format!("network/interfaces/macs/{}/{name}", instance.mac), &value);
    }
    for (n, key) in instance.cloud_init.ssh_keys.iter().enumerate() {
        meta(&format!("public-keys/{n}/openssh-key"), key);
    }
    leaves.insert(format!("{LATEST}/dynamic/instance-identity/document"), Document::json(&identity));
    if let Some(user_data) = user_data {
        leaves.insert(format!("{LATEST}/user-data"), Document::raw(user_data));
    }

    let mut tree = listings(&leaves);
    tree.insert("/".to_owned(), Document::text(VERSIONS.join("\n")));
    if !instance.cloud_init.ssh_keys.is_empty() {
        let names = (0..instance.cloud_init.ssh_keys.len()).map(|n| format!("{n}={}", key_name(n)));
        tree.insert(format!("{LATEST}/meta-data/public-keys/"), Document::text(names.collect::<Vec<_>>().join("\n")));
    }
    tree.append(&mut leaves);
    tree
}

/// Names must differ: cloud-init keeps the keys by name, and drops all but the last of one name.
pub(crate) fn key_name(n: usize) -> String {
    format!("key-{n}")
}

/// What EC2 says of a network card. With `vpc-id` cloud-init does not take the VM for one of "EC2 Classic", whose network
/// it would configure anew at each boot; with one address in `local-ipv4s` it leaves the card to DHCP.
fn card(instance: &Instance) -> Vec<(&'static str, String)> {
    let [a, b, c, d, e, f] = instance.mac.0;
    let mac = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
    let network = u64::from(u32::from(instance.subnet.network()));
    let subnet = (network << 8) | u64::from(instance.subnet.prefix_len());
    vec![
        ("device-number", "0".to_owned()),
        ("interface-id", format!("eni-{mac:017x}")),
        ("local-hostname", instance.fqdn()),
        ("local-ipv4s", instance.ip.to_string()),
        ("mac", instance.mac.to_string()),
        ("owner-id", ACCOUNT.to_owned()),
        ("security-groups", SECURITY_GROUP.to_owned()),
        ("subnet-id", format!("subnet-{subnet:017x}")),
        ("subnet-ipv4-cidr-block", instance.subnet.trunc().to_string()),
        // A cluster has one network.
        ("vpc-id", format!("vpc-{:017x}", 1)),
    ]
}

/// EC2 names sizes `family.size`; ours says what is in it.
fn instance_type(instance: &Instance) -> String {
    format!("waifu.{}cpu-{}mib", instance.cpus, instance.memory.as_kib() >> 10)
}

/// A reservation is what was created in one request: the VM, in all its lives.
fn reservation(vm: VmId) -> String {
    crate::InstanceId::of(vm, 0).as_str().replacen('i', "r", 1)
}

/// A listing of every folder: its entries in order, folders with a slash, no end of line after the last.
fn listings(leaves: &Paths) -> Paths {
    let mut folders = BTreeMap::<String, BTreeSet<String>>::new();
    for path in leaves.keys() {
        let mut start = 0;
        while let Some(slash) = path.get(start..).and_then(|rest| rest.find('/')) {
            let (folder, rest) = path.split_at(start + slash + 1);
            let entry = rest.split_inclusive('/').next().unwrap_or_default();
            folders.entry(folder.to_owned()).or_default().insert(entry.to_owned());
            start += slash + 1;
        }
    }
    let text = |entries: BTreeSet<String>| entries.into_iter().collect::<Vec<_>>().join("\n");
    folders.into_iter().map(|(folder, entries)| (folder, Document::text(text(entries)))).collect()
}

/// A moment as RFC 3339, UTC, in seconds. The date is by Howard Hinnant's `civil_from_days`
/// (<https://howardhinnant.github.io/date_algorithms.html>), for days since 1970, none of them before.
fn rfc3339(at: Timestamp) -> String {
    let (days, second) = (at.0 / 86_400_000, at.0 / 1000 % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Months from March on, so that the day that leap years add is the year's last.
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests;

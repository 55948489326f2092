//! Our mark on a domain: the element in libvirt's `<metadata>` that says whose it is. Written when a domain is defined,
//! read before anything is done with one. A domain without a mark, or with that of another cluster, is foreign.

use super::{error::Cause, live::Boot};
use quick_xml::{
    Reader,
    events::{BytesStart, Event},
};
use std::{
    fmt::{self, Write as _},
    net::Ipv4Addr,
    str::FromStr,
};
use waifud_model::{
    digest::Blake3,
    hardware::{CpuModel, Firmware},
    ids::{ClusterId, Generation, VmId},
    time::Timestamp,
};

/// The mark's XML namespace. A name, not an address: nothing is to be found there.
pub(super) const NAMESPACE: &str = "urn:waifud:domain:1";
/// The prefix that libvirt shows it with.
pub(super) const PREFIX: &str = "waifud";

/// Who a domain belongs to, and what was last done with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The cluster.
    pub cluster: ClusterId,
    /// The VM.
    pub vm: VmId,
    /// The generation of the definition.
    pub generation: Generation,
    /// Which start of the guest the definition is for. A running guest's own description keeps the mark that it was started
    /// with, so there this is what it runs with.
    pub boot: Boot,
    /// What of the definition cannot be read back from a running guest: libvirt puts in its place what came of it.
    pub firmware: Firmware,
    /// As [`Self::firmware`].
    pub cpu_model: CpuModel,
    /// The digest of the definition as libvirt gave it back, so that what somebody else changed is seen.
    pub digest: Option<Blake3>,
    /// The generation the guest was last started for. With it a guest that shut itself down while waifud was away is
    /// told from one that still has to be started.
    pub started: Option<Generation>,
    /// When we last started it, by this host's clock. With it a guest that is adopted is shown to run since then.
    pub since: Option<Timestamp>,
    /// What we last started it with.
    pub booted: Boot,
    /// The life of the VM in which its guest last told that its cloud-init is done: cloud-init tells it once in a life.
    pub cloud_init_done: Option<u32>,
    /// The guest's address.
    pub ip: Ipv4Addr,
}

impl Mark {
    /// The element, as libvirt takes it for `<metadata>`. Every value is a number, an id or a plain name: nothing needs
    /// escaping.
    #[must_use]
    pub fn to_xml(&self) -> String {
        let mut xml = format!("<{PREFIX}:domain xmlns:{PREFIX}=\"{NAMESPACE}\"");
        // Writing to a String cannot fail.
        let mut put = |name: &str, value: &dyn fmt::Display| {
            let _ = write!(xml, " {name}=\"{value}\"");
        };
        put("cluster", &self.cluster);
        put("vm", &self.vm);
        put("generation", &self.generation);
        put("reboots", &self.boot.reboots);
        put("disk-life", &self.boot.disk_life);
        put("firmware", &self.firmware);
        put("cpu", &self.cpu_model);
        if let Some(digest) = &self.digest {
            put("digest", digest);
        }
        if let Some(started) = &self.started {
            put("started", started);
        }
        if let Some(Timestamp(since)) = &self.since {
            put("since", since);
        }
        put("booted-reboots", &self.booted.reboots);
        put("booted-disk-life", &self.booted.disk_life);
        if let Some(life) = &self.cloud_init_done {
            put("cloud-init-done", life);
        }
        put("ip", &self.ip);
        xml.push_str("/>");
        xml
    }

    /// The element without its namespace: `virDomainSetMetadata` adds prefix and namespace itself.
    pub(super) fn to_bare_xml(&self) -> String {
        self.to_xml().replacen(&format!("{PREFIX}:domain xmlns:{PREFIX}=\"{NAMESPACE}\""), "domain", 1)
    }

    /// Reads the element, with or without prefix. Unknown attributes are a newer version's and do no harm.
    ///
    /// # Errors
    /// If it is not a mark, or lacks something.
    pub fn parse(xml: &str) -> Result<Self, Cause> {
        let mut reader = Reader::from_str(xml);
        loop {
            match reader.read_event().map_err(|e| Cause::new(e.to_string()))? {
                Event::Start(tag) | Event::Empty(tag) if tag.local_name().as_ref() == b"domain" => {
                    return Self::from_tag(&tag);
                }
                Event::Eof => return Err(Cause::new("there is no mark")),
                _ => {}
            }
        }
    }

    /// What older versions did not write has the value that it had to them.
    fn from_tag(tag: &BytesStart<'_>) -> Result<Self, Cause> {
        let boot = |reboots, disk_life| {
            let usual = Boot::default();
            Boot {
                reboots: attribute(tag, reboots).unwrap_or(usual.reboots),
                disk_life: attribute(tag, disk_life).unwrap_or(usual.disk_life),
            }
        };
        let uefi = attribute::<String>(tag, "firmware").is_some_and(|name| name == Firmware::Uefi.to_string());
        let need = |name: &'static str| Cause::new(format!("the mark has no valid {name}"));
        Ok(Self {
            cluster: attribute(tag, "cluster").ok_or_else(|| need("cluster"))?,
            vm: attribute(tag, "vm").ok_or_else(|| need("vm"))?,
            generation: attribute(tag, "generation").map(Generation).ok_or_else(|| need("generation"))?,
            boot: boot("reboots", "disk-life"),
            firmware: if uefi { Firmware::Uefi } else { Firmware::Bios },
            cpu_model: attribute(tag, "cpu").unwrap_or_default(),
            digest: attribute(tag, "digest"),
            started: attribute(tag, "started").map(Generation),
            since: attribute(tag, "since").map(Timestamp),
            booted: boot("booted-reboots", "booted-disk-life"),
            cloud_init_done: attribute(tag, "cloud-init-done"),
            ip: attribute(tag, "ip").ok_or_else(|| need("ip"))?,
        })
    }
}

fn attribute<T: FromStr>(tag: &BytesStart<'_>, name: &str) -> Option<T> {
    tag.try_get_attribute(name).ok()??.unescape_value().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn mark() -> Mark {
        Mark {
            cluster: ClusterId::from_random([1; 16]),
            vm: VmId::from_random([2; 16]),
            generation: Generation(3),
            boot: Boot { reboots: 5, disk_life: 2 },
            firmware: Firmware::Uefi,
            cpu_model: "Skylake-Server".parse().unwrap(),
            digest: Some(Blake3([3; 32])),
            started: Some(Generation(2)),
            since: Some(Timestamp(1_760_000_000_000)),
            booted: Boot { reboots: 4, disk_life: 1 },
            cloud_init_done: Some(2),
            ip: Ipv4Addr::new(10, 77, 2, 14),
        }
    }

    #[test]
    fn a_mark_reads_back() {
        expect![[r#"<waifud:domain xmlns:waifud="urn:waifud:domain:1" cluster="01010101-0101-4101-8101-010101010101" vm="ec220202-0202-4202-8202-020202020202" generation="3" reboots="5" disk-life="2" firmware="uefi" cpu="Skylake-Server" digest="0303030303030303030303030303030303030303030303030303030303030303" started="2" since="1760000000000" booted-reboots="4" booted-disk-life="1" cloud-init-done="2" ip="10.77.2.14"/>"#]]
        .assert_eq(&mark().to_xml());
        for mark in [mark(), Mark { digest: None, started: None, since: None, cloud_init_done: None, ..mark() }] {
            assert_eq!(Mark::parse(&mark.to_xml()), Ok(mark.clone()));
            assert!(!mark.to_bare_xml().contains(PREFIX));
            assert_eq!(Mark::parse(&mark.to_bare_xml()), Ok(mark));
        }
    }

    #[test]
    fn a_mark_of_the_first_version_still_reads() {
        let first = Mark {
            boot: Boot { reboots: 0, disk_life: 1 },
            firmware: Firmware::Bios,
            cpu_model: CpuModel::default(),
            digest: None,
            booted: Boot { reboots: 0, disk_life: 1 },
            cloud_init_done: None,
            ..mark()
        };
        let Mark { cluster, vm, ip, .. } = &first;
        let text = format!(
            "<domain cluster='{cluster}' vm='{vm}' generation='3' started='2' since='1760000000000' ip='{ip}'/>"
        );
        assert_eq!(Mark::parse(&text), Ok(first));
    }

    #[test]
    fn what_is_no_mark_is_refused() {
        for bad in [
            "",
            "<a/>",
            "<domain/>",
            "<domain cluster='x'/>",
            "<domain vm='1' cluster='2' generation='3' ip='4'/>",
            "<dom",
        ] {
            assert!(Mark::parse(bad).is_err(), "{bad}");
        }
    }
}

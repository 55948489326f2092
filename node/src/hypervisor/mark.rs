//! Our mark on a domain: the element in libvirt's `<metadata>` that says whose it is. Written when a domain is defined,
//! read before anything is done with one. A domain without a mark, or with that of another cluster, is foreign.

use super::error::Cause;
use quick_xml::{
    Reader,
    events::{BytesStart, Event},
};
use std::{fmt::Write as _, net::Ipv4Addr, str::FromStr};
use waifud_model::{
    ids::{ClusterId, Generation, VmId},
    time::Timestamp,
};

/// The mark's XML namespace. A name, not an address: nothing is to be found there.
pub(super) const NAMESPACE: &str = "urn:waifud:domain:1";
/// The prefix that libvirt shows it with.
pub(super) const PREFIX: &str = "waifud";

/// Who a domain belongs to, and what was last done with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The cluster.
    pub cluster: ClusterId,
    /// The VM.
    pub vm: VmId,
    /// The generation of the definition.
    pub generation: Generation,
    /// The generation the guest was last started for. With it a guest that shut itself down while waifud was away is
    /// told from one that still has to be started.
    pub started: Option<Generation>,
    /// When we last started it, by this host's clock. With it a guest that is adopted is shown to run since then.
    pub since: Option<Timestamp>,
    /// The guest's address.
    pub ip: Ipv4Addr,
}

impl Mark {
    /// The element, as libvirt takes it for `<metadata>`. Every value is a number or an id: nothing needs escaping.
    #[must_use]
    pub fn to_xml(&self) -> String {
        let Self { cluster, vm, generation, started, since, ip } = self;
        let mut xml = format!(
            "<{PREFIX}:domain xmlns:{PREFIX}=\"{NAMESPACE}\" cluster=\"{cluster}\" vm=\"{vm}\" generation=\"{generation}\""
        );
        if let Some(started) = started {
            // Writing to a String cannot fail.
            let _ = write!(xml, " started=\"{started}\"");
        }
        if let Some(Timestamp(since)) = since {
            let _ = write!(xml, " since=\"{since}\"");
        }
        let _ = write!(xml, " ip=\"{ip}\"/>");
        xml
    }

    /// The element without its namespace: `virDomainSetMetadata` adds prefix and namespace itself.
    pub(super) fn to_bare_xml(self) -> String {
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

    fn from_tag(tag: &BytesStart<'_>) -> Result<Self, Cause> {
        let need = |name: &'static str| Cause::new(format!("the mark has no valid {name}"));
        Ok(Self {
            cluster: attribute(tag, "cluster").ok_or_else(|| need("cluster"))?,
            vm: attribute(tag, "vm").ok_or_else(|| need("vm"))?,
            generation: attribute(tag, "generation").map(Generation).ok_or_else(|| need("generation"))?,
            started: attribute(tag, "started").map(Generation),
            since: attribute(tag, "since").map(Timestamp),
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
            started: Some(Generation(2)),
            since: Some(Timestamp(1_760_000_000_000)),
            ip: Ipv4Addr::new(10, 77, 2, 14),
        }
    }

    #[test]
    fn a_mark_reads_back() {
        expect![[r#"<waifud:domain xmlns:waifud="urn:waifud:domain:1" cluster="01010101-0101-4101-8101-010101010101" vm="ec220202-0202-4202-8202-020202020202" generation="3" started="2" since="1760000000000" ip="10.77.2.14"/>"#]]
        .assert_eq(&mark().to_xml());
        for mark in [mark(), Mark { started: None, since: None, ..mark() }] {
            assert_eq!(Mark::parse(&mark.to_xml()), Ok(mark));
            assert_eq!(Mark::parse(&mark.to_bare_xml()), Ok(mark));
            assert!(!mark.to_bare_xml().contains(PREFIX));
        }
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

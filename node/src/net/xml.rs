//! The libvirt network as XML: what we write, and what we read back of one that is there. Pure. Elements and their
//! meaning: <https://libvirt.org/formatnetwork.html>.

use super::{
    Reservation,
    dnsmasq::options,
    layout::{DOMAIN, NETWORK, NetworkLayout},
};
use askama::Template;
use serde::Deserialize;
use std::net::Ipv4Addr;

/// `mode='open'`: libvirt routes, but leaves the packet filter to us.
#[derive(Debug, Template)]
#[template(
    ext = "xml",
    source = r#"<network xmlns:dnsmasq="http://libvirt.org/schemas/network/dnsmasq/1.0">
  <name>{{ name }}</name>
{%- if let Some(uuid) = uuid %}
  <uuid>{{ uuid }}</uuid>
{%- endif %}
  <forward mode="open"/>
  <bridge name="{{ layout.bridge }}" stp="off" delay="0"/>
  <mtu size="{{ layout.mtu }}"/>
  <domain name="{{ domain }}"/>
{%- if !layout.dns.is_empty() %}
  <dns>
{%- for server in layout.dns %}
    <forwarder addr="{{ server }}"/>
{%- endfor %}
  </dns>
{%- endif %}
  <ip family="ipv4" address="{{ layout.gateway() }}" prefix="{{ layout.subnet.prefix_len() }}">
    <dhcp>
{%- for host in hosts %}
      {{ host.xml()|safe }}
{%- endfor %}
    </dhcp>
  </ip>
  <dnsmasq:options>
{%- for option in options %}
    <dnsmasq:option value="{{ option }}"/>
{%- endfor %}
  </dnsmasq:options>
</network>
"#
)]
struct NetworkXml<'a> {
    name: &'static str,
    uuid: Option<&'a str>,
    domain: &'static str,
    layout: &'a NetworkLayout,
    hosts: &'a [Reservation],
    options: Vec<String>,
}

/// One reservation, as it stands in the network and as it is added to a running one.
#[derive(Debug, Template)]
#[template(ext = "xml", source = r#"<host mac="{{ mac }}" ip="{{ ip }}"/>"#)]
struct HostXml {
    mac: waifud_model::vm::Mac,
    ip: Ipv4Addr,
}

impl Reservation {
    /// As libvirt writes it.
    pub(super) fn xml(&self) -> String {
        let Self { mac, ip } = self;
        // Rendering into memory has nothing to fail on.
        HostXml { mac: *mac, ip: *ip }.render().unwrap_or_default()
    }
}

/// The network as we want it. One that is there already keeps its `uuid` and its reservations.
pub(super) fn network(layout: &NetworkLayout, uuid: Option<&str>, hosts: &[Reservation]) -> String {
    // Rendering into memory has nothing to fail on.
    NetworkXml { name: NETWORK, uuid, domain: DOMAIN, layout, hosts, options: options(layout) }
        .render()
        .unwrap_or_default()
}

/// What libvirt says of a network, as far as we set it.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Seen {
    pub(super) uuid: Option<String>,
    forward: Mode,
    bridge: Name,
    mtu: Size,
    domain: Domain,
    dns: Dns,
    ip: Vec<Ip>,
    options: Options,
}

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Mode {
    #[serde(rename = "@mode")]
    mode: String,
}

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Name {
    #[serde(rename = "@name")]
    name: String,
}

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Domain {
    #[serde(rename = "@name")]
    name: String,
    #[serde(rename = "@localOnly")]
    local_only: Option<String>,
}

impl Domain {
    /// Ours, and dnsmasq may ask others for what is in it.
    fn is_wanted(&self) -> bool {
        self.name == DOMAIN && self.local_only.as_deref() != Some("yes")
    }
}

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Size {
    #[serde(rename = "@size")]
    size: u32,
}

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Dns {
    forwarder: Vec<Forwarder>,
}

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Forwarder {
    #[serde(rename = "@addr")]
    addr: String,
}

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Ip {
    #[serde(rename = "@address")]
    address: String,
    #[serde(rename = "@prefix")]
    prefix: Option<u8>,
    dhcp: Dhcp,
}

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Dhcp {
    host: Vec<Host>,
}

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Host {
    #[serde(rename = "@mac")]
    mac: String,
    #[serde(rename = "@ip")]
    ip: String,
}

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Options {
    option: Vec<DnsmasqOption>,
}

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct DnsmasqOption {
    #[serde(rename = "@value")]
    value: String,
}

impl Seen {
    /// Reads what libvirt wrote.
    pub(super) fn parse(xml: &str) -> Result<Self, quick_xml::DeError> {
        quick_xml::de::from_str(xml)
    }

    /// The reservations, in the order of their addresses. Entries that are none of ours (without an address or a MAC)
    /// are left out: nothing we do concerns them.
    pub(super) fn reservations(&self) -> Vec<Reservation> {
        let hosts = self.ip.iter().flat_map(|ip| &ip.dhcp.host);
        let reservation = |host: &Host| {
            let (ip, mac) = (host.ip.parse().ok()?, host.mac.parse().ok()?);
            Some(Reservation { ip, mac })
        };
        let mut found: Vec<_> = hosts.filter_map(reservation).collect();
        found.sort();
        found
    }

    /// What differs from the network we want, reservations aside. Empty means that it can be adopted as it is.
    pub(super) fn differences(&self, layout: &NetworkLayout) -> Vec<&'static str> {
        let address = |ip: &Ip| (ip.address.clone(), ip.prefix);
        let ips: Vec<_> = self.ip.iter().map(address).collect();
        let forwarders: Vec<_> = self.dns.forwarder.iter().map(|f| f.addr.clone()).collect();
        let given: Vec<_> = self.options.option.iter().map(|o| o.value.clone()).collect();
        [
            ("forward mode", self.forward.mode != "open"),
            ("bridge", self.bridge.name != layout.bridge),
            ("mtu", self.mtu.size != layout.mtu),
            ("domain", !self.domain.is_wanted()),
            ("DNS forwarders", forwarders != layout.dns.iter().map(ToString::to_string).collect::<Vec<_>>()),
            ("addresses", ips != [(layout.gateway().to_string(), Some(layout.subnet.prefix_len()))]),
            ("DNS and DHCP options", given != options(layout)),
        ]
        .into_iter()
        .filter_map(|(what, differs)| differs.then_some(what))
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::layout::example, *};
    use expect_test::expect_file;
    use std::process::Command;

    fn hosts() -> Vec<Reservation> {
        let host = |ip: &str| {
            let ip = ip.parse().unwrap();
            Reservation { ip, mac: waifud_model::vm::Mac::of(ip) }
        };
        vec![host("10.77.3.2"), host("10.77.3.3")]
    }

    const UUID: &str = "6f7a3a4e-3e4b-4b43-9a35-0d8a4e6a8a11";

    #[test]
    fn the_network_is_what_it_was_agreed_to_be() {
        expect_file!["goldens/network.xml"].assert_eq(&network(&example(), Some(UUID), &hosts()));
    }

    #[test]
    fn libvirt_takes_it_and_we_read_the_same_back() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("network.xml");
        std::fs::write(&file, network(&example(), Some(UUID), &hosts())).unwrap();
        let script = format!("net-define {file}; net-dumpxml waifud", file = file.display());
        let output = Command::new("virsh").args(["-q", "-c", "test:///default", &script]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let seen = String::from_utf8(output.stdout).unwrap();
        let seen = Seen::parse(&seen[seen.find("<network").unwrap()..]).unwrap();
        assert_eq!(seen.uuid.as_deref(), Some(UUID));
        assert_eq!(seen.reservations(), hosts());
        // The test driver does not know dnsmasq's namespace and drops it.
        assert_eq!(seen.differences(&example()), ["DNS and DHCP options"]);
    }

    #[test]
    fn our_own_network_is_the_same_as_itself_and_every_difference_is_named() {
        let seen = Seen::parse(&network(&example(), None, &hosts())).unwrap();
        assert_eq!((seen.differences(&example()), seen.uuid.as_deref()), (vec![], None));
        let other = NetworkLayout {
            bridge: "br9".to_owned(),
            mtu: 1500,
            subnet: "10.77.4.0/24".parse().unwrap(),
            dns: vec![],
            ..example()
        };
        let named = seen.differences(&other);
        assert_eq!(named, ["bridge", "mtu", "DNS forwarders", "addresses", "DNS and DHCP options"]);
        assert_eq!(
            Seen::parse("<network><forward mode='nat'/></network>").unwrap().differences(&other)[0],
            "forward mode"
        );
    }

    #[test]
    fn a_network_that_asks_another_name_server_or_none_is_not_ours() {
        let seen = |layout: &NetworkLayout| Seen::parse(&network(layout, None, &[])).unwrap();
        let elsewhere = NetworkLayout { names: "127.0.0.1:7000".parse().unwrap(), ..example() };
        assert_eq!(seen(&elsewhere).differences(&example()), ["DNS and DHCP options"]);
        let wider = NetworkLayout { cluster: "10.76.0.0/15".parse().unwrap(), ..example() };
        assert_eq!(seen(&wider).differences(&example()), ["DNS and DHCP options"]);
        let alone =
            network(&example(), None, &[]).replace("waifu.internal\"/>", "waifu.internal\" localOnly=\"yes\"/>");
        assert_eq!(Seen::parse(&alone).unwrap().differences(&example()), ["domain"]);
    }
}

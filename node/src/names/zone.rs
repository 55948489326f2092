//! What the zone says, without sockets: where a name lies, and what to answer once it is known what is there. In: a
//! question and, through [`Records`], one look-up; out: an [`Answer`].
//!
//! ```text
//!   waifu.internal                  SOA, NS
//!   ├── <vm>                        A
//!   └── node                        (a branch, or a VM of that name)
//!       └── <node>                  A, the node on the bridge of its guests
//!   <reverse of the cluster>        SOA, NS, once for each part that DNS can name (RFC 1035, 3.5)
//!   └── <octets>                    PTR
//! ```

use super::{Owner, Records, RecordsError};
use crate::net::DOMAIN;
use hickory_proto::{
    op::ResponseCode,
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, NS, PTR, SOA},
    },
};
use ipnet::Ipv4Net;
use std::net::Ipv4Addr;
use waifud_model::name::{NodeName, VmName};

/// For how long an address may be remembered, in seconds. Short, for a name that was deleted may be given again at
/// once.
pub const TTL: u32 = 5;
/// For how long it may be remembered that there is nothing, in seconds: not at all, so that a VM's name is found as
/// soon as the VM is there, also by whoever asked too early.
const NEGATIVE_TTL: u32 = 0;
/// Zones are never transferred, so that the serial and the timers of the SOA are for nobody; these are RFC 6303's
/// (section 3).
const SERIAL: u32 = 1;
const REFRESH: i32 = 3600;
const RETRY: i32 = 1200;
const EXPIRE: i32 = 604_800;

/// Below the domain, the branch that nodes are in; VMs' names have no dots, so that none can be taken for it.
const NODES: &str = "node";

/// The zones this node answers for.
#[derive(Debug, Clone)]
pub struct Zone {
    forward: Name,
    reverse: Vec<Name>,
}

/// Answer to one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) code: ResponseCode,
    pub(super) authoritative: bool,
    pub(super) answers: Vec<Record>,
    pub(super) authority: Vec<Record>,
}

impl Answer {
    pub(super) const fn error(code: ResponseCode) -> Self {
        Self { code, authoritative: false, answers: Vec::new(), authority: Vec::new() }
    }
}

/// Where in the zones a name lies.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// There can be nothing.
    Nowhere,
    /// Names lie below it, or the zone begins here.
    Branch,
    Vm(VmName),
    /// Both: a VM may be called what the branch of the nodes is called.
    VmOrBranch(VmName),
    Node(NodeName),
    Address(Ipv4Addr),
}

/// What is there.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Found {
    Nothing,
    NoData,
    Address(Ipv4Addr),
    Name(Name),
}

impl Zone {
    /// The zones of a cluster with these addresses.
    #[must_use]
    pub fn new(cluster: Ipv4Net) -> Self {
        // Names of constants and of at most four numbers: all of them parse.
        let reverse = reverse_zones(cluster).iter().filter_map(|zone| absolute(zone)).collect();
        Self { forward: absolute(DOMAIN).unwrap_or_default(), reverse }
    }

    /// Answers a question of class IN.
    pub(super) async fn answer(&self, name: &Name, kind: RecordType, records: &dyn Records) -> Answer {
        let Some((origin, place)) = self.find(name) else { return Answer::error(ResponseCode::Refused) };
        match self.look(place, records).await {
            Ok(found) => reply(origin, name, kind, found),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, %name, "a name cannot be looked up");
                Answer::error(ResponseCode::ServFail)
            }
        }
    }

    /// The zone a name is in, and where; none if others answer for it.
    fn find(&self, name: &Name) -> Option<(&Name, Place)> {
        if self.forward.zone_of(name) {
            return Some((&self.forward, self.forward_place(name)));
        }
        let origin = self.reverse.iter().find(|zone| zone.zone_of(name))?;
        Some((origin, reverse_place(name)))
    }

    fn forward_place(&self, name: &Name) -> Place {
        let labels = usize::from(name.num_labels().saturating_sub(self.forward.num_labels()));
        let Some(labels) = labels_of(name, labels) else { return Place::Nowhere };
        match labels.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            [] => Place::Branch,
            [vm] => match VmName::new(*vm) {
                Ok(name) if *vm == NODES => Place::VmOrBranch(name),
                Ok(name) => Place::Vm(name),
                Err(_) => Place::Nowhere,
            },
            [node, branch] if *branch == NODES => NodeName::new(*node).map_or(Place::Nowhere, Place::Node),
            _ => Place::Nowhere,
        }
    }

    async fn look(&self, place: Place, records: &dyn Records) -> Result<Found, RecordsError> {
        let address = |found: Option<Ipv4Addr>, or| found.map_or(or, Found::Address);
        Ok(match place {
            Place::Nowhere => Found::Nothing,
            Place::Branch => Found::NoData,
            Place::Vm(name) => address(records.vm(&name).await?, Found::Nothing),
            Place::VmOrBranch(name) => address(records.vm(&name).await?, Found::NoData),
            Place::Node(name) => address(records.node(&name).await?, Found::Nothing),
            Place::Address(ip) => {
                let owner = match records.owner(ip).await? {
                    Some(Owner::Vm(name)) => absolute(&format!("{name}.{DOMAIN}")),
                    Some(Owner::Node(name)) => absolute(&format!("{name}.{NODES}.{DOMAIN}")),
                    None => None,
                };
                owner.map_or(Found::Nothing, Found::Name)
            }
        })
    }
}

/// Says what was found, or that there is nothing of that kind (with the SOA, RFC 2308).
fn reply(origin: &Name, name: &Name, kind: RecordType, found: Found) -> Answer {
    let at_origin = origin == name;
    let code = if found == Found::Nothing && !at_origin { ResponseCode::NXDomain } else { ResponseCode::NoError };
    let data = match found {
        Found::Nothing | Found::NoData => None,
        Found::Address(ip) => Some(RData::A(A(ip))),
        Found::Name(name) => Some(RData::PTR(PTR(name))),
    };
    // The zone names itself as its server, as in RFC 6303: no other name is certain to be no VM's.
    let own = [RData::SOA(soa(origin)), RData::NS(NS(origin.clone()))];
    let own = own.into_iter().filter(|_| at_origin).map(|data| (NEGATIVE_TTL, data));
    let of_kind = |data: &RData| kind == data.record_type() || kind == RecordType::ANY;
    let answers: Vec<_> = data
        .into_iter()
        .map(|data| (TTL, data))
        .chain(own)
        .filter(|(_, data)| of_kind(data))
        // Under the name as it was asked: some resolvers compare its case to be sure who answers.
        .map(|(ttl, data)| Record::from_rdata(name.clone(), ttl, data))
        .collect();
    let authority = if answers.is_empty() {
        vec![Record::from_rdata(origin.clone(), NEGATIVE_TTL, RData::SOA(soa(origin)))]
    } else {
        Vec::new()
    };
    Answer { code, authoritative: true, answers, authority }
}

fn soa(origin: &Name) -> SOA {
    let nobody = absolute("nobody.invalid").unwrap_or_default();
    SOA::new(origin.clone(), nobody, SERIAL, REFRESH, RETRY, EXPIRE, NEGATIVE_TTL)
}

/// The first `count` labels in lower case; none if one of them is no text.
fn labels_of(name: &Name, count: usize) -> Option<Vec<String>> {
    let text = |label: &[u8]| Some(std::str::from_utf8(label).ok()?.to_ascii_lowercase());
    name.iter().take(count).map(text).collect()
}

/// An address, a part of one, or nothing. Numbers are taken in their one spelling: `01` is none.
fn reverse_place(name: &Name) -> Place {
    // Of the labels, `in-addr` and `arpa` are no numbers.
    let Some(labels) = labels_of(name, usize::from(name.num_labels().saturating_sub(2))) else { return Place::Nowhere };
    let octet = |label: &String| label.parse::<u8>().ok().filter(|octet| octet.to_string() == *label);
    let Some(octets) = labels.iter().rev().map(octet).collect::<Option<Vec<_>>>() else { return Place::Nowhere };
    match <[u8; 4]>::try_from(octets.as_slice()) {
        Ok(octets) => Place::Address(octets.into()),
        Err(_) if octets.len() < 4 => Place::Branch,
        Err(_) => Place::Nowhere,
    }
}

/// An absolute name.
fn absolute(text: &str) -> Option<Name> {
    let mut name = Name::from_ascii(text).ok()?;
    name.set_fqdn(true);
    Some(name)
}

/// The zones that addresses of `net` are looked up in, without the dot at the end. DNS divides addresses at their dots,
/// so that a network in between takes several: a /20 sixteen of a /24. At most 128.
#[must_use]
pub fn reverse_zones(net: Ipv4Net) -> Vec<String> {
    let prefix = net.prefix_len().next_multiple_of(8).clamp(8, 32);
    let Ok(parts) = net.trunc().subnets(prefix) else { return Vec::new() };
    let zone = |part: Ipv4Net| {
        let octets = part.network().octets();
        let named = octets.iter().take(usize::from(prefix / 8)).rev();
        named.map(|octet| format!("{octet}.")).collect::<String>() + "in-addr.arpa"
    };
    parts.map(zone).collect()
}

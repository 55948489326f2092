//! The kernel's routing socket, in the words of [`plan`](super::plan).
//!
//! Only links, rules and routes, and of the latter two only those with our protocol number: others are not even seen.

use std::net::{IpAddr, Ipv4Addr};

use futures::TryStreamExt;
use ipnet::Ipv4Net;
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::{Handle, IpVersion, LinkUnspec, LinkWireguard, RouteMessageBuilder};
use tokio::task::JoinHandle;

use super::HostError;
use super::plan::{By, PROTOCOL, Route, Rule, Step, TABLE};

/// The table's number where a message has only eight bits for it.
const TABLE_IN_ATTRIBUTE: u8 = 0;

/// A connection, and the task that serves it.
pub(super) struct Netlink {
    handle: Handle,
    task: JoinHandle<()>,
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What kind of interface one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LinkKind {
    Tun,
    Wireguard,
    Other,
}

/// An interface.
#[derive(Debug, Clone)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) kind: LinkKind,
    pub(super) up: bool,
    pub(super) mtu: u32,
}

/// `ENODEV`, `ESRCH`, `ENOENT`: what was to be removed, or looked for, is not there. `EEXIST`: what was to be added is.
fn code(error: &rtnetlink::Error) -> Option<i32> {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.code.map(|code| -code.get()),
        _ => None,
    }
}

fn is_absent(error: &rtnetlink::Error) -> bool {
    use nix::libc::{ENODEV, ENOENT, ESRCH};
    matches!(code(error), Some(ENODEV | ENOENT | ESRCH))
}

fn refused(what: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> HostError {
    let what = what.into();
    move |error| HostError::Refused {
        what,
        reason: match code(&error) {
            Some(code) => std::io::Error::from_raw_os_error(code).to_string(),
            None => error.to_string(),
        },
    }
}

impl Netlink {
    pub(super) fn open() -> Result<Self, HostError> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(HostError::Socket)?;
        Ok(Self { handle, task: tokio::spawn(connection) })
    }

    pub(super) async fn link(&self, name: &str) -> Result<Option<Link>, HostError> {
        let mut answer = std::pin::pin!(self.handle.link().get().match_name(name.to_owned()).execute());
        let message = match answer.try_next().await {
            Ok(Some(message)) => message,
            Ok(None) => return Ok(None),
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(refused(format!("look at the interface {name}"))(error)),
        };
        let mut link = Link {
            index: message.header.index,
            kind: LinkKind::Other,
            up: message.header.flags.contains(LinkFlags::Up),
            mtu: 0,
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::LinkInfo(infos) => {
                    for info in infos {
                        match info {
                            LinkInfo::Kind(InfoKind::Tun) => link.kind = LinkKind::Tun,
                            LinkInfo::Kind(InfoKind::Wireguard) => link.kind = LinkKind::Wireguard,
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(Some(link))
    }

    pub(super) async fn set_up(&self, name: &str, index: u32, mtu: u16) -> Result<(), HostError> {
        let message = LinkUnspec::new_with_index(index).mtu(u32::from(mtu)).up().build();
        let set = self.handle.link().set(message).execute().await;
        set.map_err(refused(format!("bring the interface {name} up")))
    }

    pub(super) async fn add_wireguard(&self, name: &str) -> Result<(), HostError> {
        let add = self.handle.link().add(LinkWireguard::new(name).build()).execute().await;
        add.map_err(refused(format!("make the WireGuard interface {name}")))
    }

    pub(super) async fn delete(&self, name: &str, index: u32) -> Result<(), HostError> {
        match self.handle.link().del(index).execute().await {
            Err(error) if !is_absent(&error) => Err(refused(format!("remove the interface {name}"))(error)),
            _ => Ok(()),
        }
    }

    pub(super) async fn rules(&self) -> Result<Vec<Rule>, HostError> {
        let all: Vec<RuleMessage> = self
            .handle
            .rule()
            .get(IpVersion::V4)
            .execute()
            .try_collect()
            .await
            .map_err(refused("list the routing rules"))?;
        Ok(all.iter().filter_map(read_rule).collect())
    }

    pub(super) async fn routes(&self, index: u32) -> Result<Vec<Route>, HostError> {
        let all: Vec<RouteMessage> = self
            .handle
            .route()
            .get(RouteMessageBuilder::<Ipv4Addr>::new().build())
            .execute()
            .try_collect()
            .await
            .map_err(refused("list the routes"))?;
        Ok(all.iter().filter_map(|message| read_route(message, index)).collect())
    }

    pub(super) async fn execute(&self, index: u32, step: &Step) -> Result<(), HostError> {
        let done = match step {
            Step::AddRule(rule) => {
                let mut add = self.handle.rule().add();
                *add.message_mut() = write_rule(rule);
                match add.execute().await {
                    Err(error) if code(&error) == Some(nix::libc::EEXIST) => Ok(()),
                    other => other,
                }
            }
            Step::RemoveRule(rule) => absent_is_fine(self.handle.rule().del(write_rule(rule)).execute().await),
            Step::SetRoute(route) => self.handle.route().add(write_route(route, index)).replace().execute().await,
            Step::RemoveRoute(to) => {
                // Whatever its scope and type: the kernel's words for "any" are these.
                let any = in_table(*to).scope(RouteScope::NoWhere).kind(RouteType::Unspec);
                let message = any.build();
                absent_is_fine(self.handle.route().del(message).execute().await)
            }
        };
        done.map_err(refused(step.to_string()))
    }
}

fn absent_is_fine(done: Result<(), rtnetlink::Error>) -> Result<(), rtnetlink::Error> {
    match done {
        Err(error) if is_absent(&error) => Ok(()),
        other => other,
    }
}

fn read_rule(message: &RuleMessage) -> Option<Rule> {
    let (mut ours, mut table) = (false, u32::from(message.header.table));
    let (mut preference, mut from_interface, mut to) = (0, None, Ipv4Addr::UNSPECIFIED);
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Protocol(protocol) => ours = *protocol == RouteProtocol::from(PROTOCOL),
            RuleAttribute::Table(number) => table = *number,
            RuleAttribute::Priority(number) => preference = *number,
            RuleAttribute::Iifname(name) => from_interface = Some(name.clone()),
            RuleAttribute::Destination(IpAddr::V4(address)) => to = *address,
            _ => {}
        }
    }
    let to = Ipv4Net::new(to, message.header.dst_len).ok()?;
    (ours && table == TABLE).then_some(Rule { preference, from_interface, to })
}

fn write_rule(rule: &Rule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = rtnetlink::packet_route::AddressFamily::Inet;
    message.header.dst_len = rule.to.prefix_len();
    message.header.table = TABLE_IN_ATTRIBUTE;
    message.header.action = RuleAction::ToTable;
    message.attributes = vec![
        RuleAttribute::Table(TABLE),
        RuleAttribute::Priority(rule.preference),
        RuleAttribute::Protocol(RouteProtocol::from(PROTOCOL)),
        RuleAttribute::Destination(rule.to.network().into()),
    ];
    if let Some(name) = &rule.from_interface {
        message.attributes.push(RuleAttribute::Iifname(name.clone()));
    }
    message
}

fn read_route(message: &RouteMessage, index: u32) -> Option<Route> {
    let mut table = u32::from(message.header.table);
    let (mut to, mut out, mut source) = (Ipv4Addr::UNSPECIFIED, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Destination(RouteAddress::Inet(address)) => to = *address,
            RouteAttribute::Oif(number) => out = Some(*number),
            RouteAttribute::PrefSource(RouteAddress::Inet(address)) => source = Some(*address),
            _ => {}
        }
    }
    if table != TABLE || message.header.protocol != RouteProtocol::from(PROTOCOL) {
        return None;
    }
    let by = match message.header.kind {
        RouteType::Throw => By::Throw,
        RouteType::Unicast if out == Some(index) => By::Mesh(source),
        _ => By::Other,
    };
    let to = Ipv4Net::new(to, message.header.destination_prefix_length).ok()?;
    Some(Route { to, by })
}

/// A route to `to` in our table, with our number, and nothing else.
fn in_table(to: Ipv4Net) -> RouteMessageBuilder<Ipv4Addr> {
    RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(to.network(), to.prefix_len())
        .table_id(TABLE)
        .protocol(RouteProtocol::from(PROTOCOL))
}

fn write_route(route: &Route, index: u32) -> RouteMessage {
    match route.by {
        By::Throw => in_table(route.to).kind(RouteType::Throw).scope(RouteScope::Universe).build(),
        By::Mesh(source) => {
            let message = in_table(route.to).output_interface(index).scope(RouteScope::Link);
            match source {
                Some(source) => message.pref_source(source).build(),
                None => message.build(),
            }
        }
        // Never wanted, so never written; the kernel refuses it.
        By::Other => in_table(route.to).build(),
    }
}

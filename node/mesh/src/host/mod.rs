//! What the host needs around the mesh's interface: the link itself, its sysctls, rules and routes. The same for the
//! kernel's WireGuard and for ours.
//!
//! Level-triggered: [`ensure`] looks at what is there and changes only what differs, so it may be called at any time and as
//! often as one likes. Everything here is ours by name (the interface), or by table and protocol number; the rest of the host
//! is never touched. The firewall is somebody else's: it has to let UDP to the mesh's port in, forward between bridge and mesh,
//! not masquerade what goes into the mesh, and clamp the MSS of TCP that is forwarded into it
//! (`oifname "waifu0" tcp flags syn tcp option maxseg size set rt mtu`, and the same for `iifname`).

mod netlink;
pub mod plan;

use std::io;
use std::path::Path;

pub use plan::{Routing, Step};

use crate::config::Kind;
use netlink::{Link, LinkKind, Netlink};

/// Why the host could not be looked at or changed.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The kernel's routing socket.
    #[error("cannot talk to the kernel about routes")]
    Socket(#[source] io::Error),
    /// The kernel refused.
    #[error("cannot {what}: {reason}")]
    Refused {
        /// What was to be done.
        what: String,
        /// What the kernel said.
        reason: String,
    },
    /// The interface is not there (yet).
    #[error("there is no interface {0}")]
    NoInterface(String),
    /// An interface of that name is there and is neither a TUN device nor WireGuard.
    #[error("the interface {0} is there already and is not ours")]
    Foreign(String),
    /// A sysctl could not be written.
    #[error("cannot set {name}")]
    Sysctl {
        /// Which.
        name: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// Brings link, sysctls, routes and rules to what is wanted, and says what it had to do. Every step is tried, also when one
/// before it failed.
///
/// # Errors
/// The first step that failed.
pub async fn ensure(routing: &Routing) -> Result<Vec<Step>, HostError> {
    let netlink = Netlink::open()?;
    let link = bring_up_by(&netlink, &routing.interface, routing.mtu).await?;
    let seen = (netlink.rules().await?, netlink.routes(link.index).await?);
    let steps = plan::plan(&plan::rules(routing), &plan::routes(routing), &seen.0, &seen.1);
    execute(&netlink, link.index, &steps).await?;
    Ok(steps)
}

/// Takes away rules, routes and the interface: the node leaves the cluster. What is gone already is no error.
///
/// # Errors
/// The first thing that could not be removed.
pub async fn remove(interface: &str) -> Result<(), HostError> {
    let netlink = Netlink::open()?;
    let link = netlink.link(interface).await?;
    let index = link.as_ref().map_or(0, |link| link.index);
    let steps = plan::plan(&[], &[], &netlink.rules().await?, &netlink.routes(index).await?);
    let done = execute(&netlink, index, &steps).await;
    match link {
        Some(link) if link.kind != LinkKind::Other => netlink.delete(interface, link.index).await?,
        _ => {}
    }
    done
}

async fn execute(netlink: &Netlink, index: u32, steps: &[Step]) -> Result<(), HostError> {
    let mut first = Ok(());
    for step in steps {
        if let Err(error) = netlink.execute(index, step).await {
            tracing::warn!(%step, %error, "not done");
            first = first.and(Err(error));
        } else {
            tracing::info!(%step, "host routing");
        }
    }
    first
}

/// The interface up, with its MTU and sysctls, without an address.
pub(crate) async fn bring_up(name: &str, mtu: u16) -> Result<(), HostError> {
    bring_up_by(&Netlink::open()?, name, mtu).await.map(|_| ())
}

async fn bring_up_by(netlink: &Netlink, name: &str, mtu: u16) -> Result<Link, HostError> {
    let link = netlink.link(name).await?.ok_or_else(|| HostError::NoInterface(name.to_owned()))?;
    // Before it is up, or it would ask for IPv6 routers by every tunnel.
    sysctls(name)?;
    if !link.up || link.mtu != u32::from(mtu) {
        netlink.set_up(name, link.index, mtu).await?;
    }
    Ok(link)
}

/// Makes room for an interface of one kind where one of the other kind, also ours, was left: a kernel module came or went.
pub(crate) async fn clear_other_kind(name: &str, wanted: Kind) -> Result<(), HostError> {
    let netlink = Netlink::open()?;
    let Some(link) = netlink.link(name).await? else {
        return Ok(());
    };
    match (link.kind, wanted) {
        (LinkKind::Tun, Kind::Userspace) | (LinkKind::Wireguard, Kind::Kernel) => Ok(()),
        (LinkKind::Tun | LinkKind::Wireguard, _) => netlink.delete(name, link.index).await,
        (LinkKind::Other, _) => Err(HostError::Foreign(name.to_owned())),
    }
}

/// Makes a WireGuard link of the kernel's, unless it is there.
pub(crate) async fn add_wireguard(name: &str) -> Result<(), HostError> {
    let netlink = Netlink::open()?;
    match netlink.link(name).await? {
        Some(_) => Ok(()),
        None => netlink.add_wireguard(name).await,
    }
}

/// Deletes an interface.
pub(crate) async fn delete_link(name: &str) -> Result<(), HostError> {
    let netlink = Netlink::open()?;
    match netlink.link(name).await? {
        Some(link) => netlink.delete(name, link.index).await,
        None => Ok(()),
    }
}

/// Settings of the interface, and why.
const SYSCTLS: [(&str, &str, &str); 5] = [
    // Answers from 169.254.169.254 come in here, and main knows another way there or none. Whether a source may come by the
    // mesh is decided by WireGuard itself, packet by packet, which is stricter.
    ("ipv4", "rp_filter", "0"),
    // Guests' packets pass through, whatever the host's default is.
    ("ipv4", "forwarding", "1"),
    // From one peer to another by way of this node is a way that somebody wanted.
    ("ipv4", "send_redirects", "0"),
    ("ipv4", "accept_redirects", "0"),
    // The mesh carries IPv4 only.
    ("ipv6", "disable_ipv6", "1"),
];

fn sysctls(interface: &str) -> Result<(), HostError> {
    for (family, setting, value) in SYSCTLS {
        let path = Path::new("/proc/sys/net").join(family).join("conf").join(interface).join(setting);
        let failed = |source| HostError::Sysctl { name: format!("net.{family}.conf.{interface}.{setting}"), source };
        match std::fs::read_to_string(&path) {
            Ok(now) if now.trim() == value => {}
            Ok(_) => std::fs::write(&path, value).map_err(failed)?,
            // A host without IPv6 has nothing to switch off.
            Err(error) if error.kind() == io::ErrorKind::NotFound && family == "ipv6" => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(())
}

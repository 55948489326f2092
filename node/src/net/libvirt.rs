//! The guests' network as a libvirt network (bridge and dnsmasq) with our packet filters around it. In: a
//! [`NetworkLayout`] and reservations; out: leases. What is there already is adopted when it is the same, and redefined
//! when it is not; a network that guests are plugged into is never taken down.

use super::{
    Attachment, GuestNetwork, Met, NetworkError, Reservation,
    calls::{CallError, Calls},
    filter, firewall,
    layout::{FILTER, MESH, NETWORK, NetworkLayout},
    leases, neighbours,
    routes::refuse_overlap,
    xml::{self, Seen},
};
use crate::reconcile::{Clock as _, SystemClock};
use async_trait::async_trait;
use std::{
    fs, io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};
use virt::{
    connect::Connect,
    error::ErrorNumber,
    network::Network,
    sys::{
        VIR_NETWORK_SECTION_IP_DHCP_HOST, VIR_NETWORK_UPDATE_AFFECT_CONFIG, VIR_NETWORK_UPDATE_AFFECT_LIVE,
        VIR_NETWORK_UPDATE_COMMAND_ADD_LAST, VIR_NETWORK_UPDATE_COMMAND_DELETE, VIR_NETWORK_XML_INACTIVE,
        virNetworkUpdateCommand,
    },
};
use waifud_model::{ids::VmId, observed::Sighting, time::Timestamp, vm::Mac};

/// The kernel's switch for routing between interfaces.
const IP_FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";
/// How long a lease is good for where the network does not say: dnsmasq's own hour.
const LEASE_S: u64 = 60 * 60;
/// Any of several `ip` elements: there is one, and libvirt finds it.
const ANY_PARENT: i32 = -1;

/// The guests' network of this node.
#[derive(Debug)]
pub struct LibvirtNetwork {
    calls: Calls,
    layout: NetworkLayout,
}

/// What setting up the network came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setup {
    /// It is as it should be.
    Ready,
    /// It runs as it was: guests are plugged into it, and changing these things would unplug them. They take effect once no
    /// guest runs on this node and waifud is restarted.
    Deferred(Vec<&'static str>),
}

impl LibvirtNetwork {
    /// Describes the network; nothing happens before [`Self::ensure`].
    #[must_use]
    pub fn new(uri: &str, layout: NetworkLayout) -> Self {
        Self { calls: Calls::new(uri), layout }
    }

    /// Sets up everything that is not as it should be: routing, the libvirt network, the packet filters. Does no harm when all
    /// is well, and so may be called again whenever someone may have changed something.
    ///
    /// # Errors
    /// If the cluster's addresses are in use on this host, or some part cannot be set up.
    pub async fn ensure(&self) -> Result<Setup, NetworkError> {
        refuse_overlap(self.layout.cluster, &[&self.layout.bridge, MESH]).await?;
        route()?;
        // Before the bridge: no guest is ever on it without the filter.
        firewall::apply(&self.layout).await?;
        let layout = self.layout.clone();
        let setup = self.calls.call("set up the guests' network", move |libvirt| set_up(libvirt, &layout)).await?;
        if let Setup::Deferred(what) = &setup {
            tracing::warn!(?what, "the guests' network cannot be changed while guests use it");
        }
        Ok(setup)
    }

    /// Takes the network and the packet filters away, for a node that leaves its cluster. Guests lose their connection.
    ///
    /// # Errors
    /// If some of it may still be there.
    pub async fn remove(&self) -> Result<(), NetworkError> {
        self.calls
            .call("remove the guests' network", |libvirt| {
                if let Some(network) = find(libvirt)? {
                    if network.is_active()? {
                        network.destroy()?;
                    }
                    network.undefine()?;
                }
                filter::remove(libvirt)
            })
            .await?;
        firewall::remove().await
    }
}

/// Lets the kernel pass packets on between interfaces.
fn route() -> Result<(), NetworkError> {
    let failed = |source| NetworkError::Forwarding { path: PathBuf::from(IP_FORWARD), source };
    if fs::read_to_string(IP_FORWARD).map_err(failed)?.trim() == "1" {
        return Ok(());
    }
    fs::write(IP_FORWARD, "1").map_err(failed)
}

fn find(libvirt: &Connect) -> Result<Option<Network>, virt::error::Error> {
    match libvirt.lookup_network_by_name(NETWORK) {
        Ok(network) => Ok(Some(network)),
        Err(e) if e.code() == ErrorNumber::NoNetwork.into() => Ok(None),
        Err(e) => Err(e),
    }
}

fn set_up(libvirt: &Connect, layout: &NetworkLayout) -> Result<Setup, CallError> {
    // Before the network: no guest is plugged in without it.
    filter::ensure(libvirt)?;
    let mut setup = Setup::Ready;
    let network = match find(libvirt)? {
        None => libvirt.define_network_xml(&xml::network(layout, None, &[]))?,
        Some(network) => {
            let seen = Seen::parse(&network.xml_desc(VIR_NETWORK_XML_INACTIVE)?)?;
            let differences = seen.differences(layout);
            if differences.is_empty() {
                network
            } else {
                tracing::info!(?differences, "redefining the guests' network");
                let xml = xml::network(layout, seen.uuid.as_deref(), &seen.reservations());
                libvirt.define_network_xml(&xml)?
            }
        }
    };
    if network.is_active()? {
        let running = Seen::parse(&network.xml_desc(0)?)?;
        let differences = running.differences(layout);
        if !differences.is_empty() {
            if has_guests(&network.bridge_name()?) {
                setup = Setup::Deferred(differences);
            } else {
                network.destroy()?;
            }
        }
    }
    if !network.is_active()? {
        network.create()?;
    }
    if !network.autostart()? {
        network.set_autostart(true)?;
    }
    Ok(setup)
}

/// Is anything plugged into the bridge? When it cannot be told, yes.
fn has_guests(bridge: &str) -> bool {
    match fs::read_dir(Path::new("/sys/class/net").join(bridge).join("brif")) {
        // Old versions of libvirt plug in an interface of their own, to keep the bridge's MAC.
        Ok(ports) => ports.flatten().any(|port| !port.file_name().to_string_lossy().ends_with("-nic")),
        Err(e) => e.kind() != io::ErrorKind::NotFound,
    }
}

fn reserved(network: &Network) -> Result<Vec<Reservation>, CallError> {
    Ok(Seen::parse(&network.xml_desc(0)?)?.reservations())
}

/// Adds or removes a reservation, for now and for the next start of the network.
fn update(network: &Network, command: virNetworkUpdateCommand, entry: &Reservation) -> Result<(), CallError> {
    let mut affect = VIR_NETWORK_UPDATE_AFFECT_CONFIG;
    if network.is_active()? {
        affect |= VIR_NETWORK_UPDATE_AFFECT_LIVE;
    }
    network.update(command, VIR_NETWORK_SECTION_IP_DHCP_HOST, ANY_PARENT, &entry.xml(), affect).map_err(CallError::from)
}

#[async_trait]
impl GuestNetwork for LibvirtNetwork {
    async fn reserve(&self, _: VmId, ip: Ipv4Addr, mac: Mac) -> Result<(), NetworkError> {
        let wanted = Reservation { ip, mac };
        self.calls
            .call("reserve an address", move |libvirt| {
                let network = libvirt.lookup_network_by_name(NETWORK)?;
                let there = reserved(&network)?;
                if there.contains(&wanted) {
                    return Ok(());
                }
                for stale in there.iter().filter(|entry| entry.collides(&wanted)) {
                    update(&network, VIR_NETWORK_UPDATE_COMMAND_DELETE, stale)?;
                }
                update(&network, VIR_NETWORK_UPDATE_COMMAND_ADD_LAST, &wanted)
            })
            .await
    }

    async fn release(&self, _: VmId, _: Ipv4Addr, mac: Mac) -> Result<(), NetworkError> {
        self.calls
            .call("release an address", move |libvirt| {
                // Without the network there is no reservation either.
                let Some(network) = find(libvirt)? else { return Ok(()) };
                for entry in reserved(&network)?.iter().filter(|entry| entry.mac == mac) {
                    update(&network, VIR_NETWORK_UPDATE_COMMAND_DELETE, entry)?;
                }
                Ok(())
            })
            .await
    }

    async fn reserved(&self) -> Result<Vec<Reservation>, NetworkError> {
        self.calls
            .call("list the reserved addresses", |libvirt| match find(libvirt)? {
                Some(network) => reserved(&network),
                None => Ok(Vec::new()),
            })
            .await
    }

    async fn met(&self) -> Result<Vec<Met>, NetworkError> {
        let leases = self.calls.call("list the leases", |libvirt| match find(libvirt)? {
            Some(network) if network.is_active()? => Ok(leases::leases(&network)?),
            _ => Ok(Vec::new()),
        });
        let leased = leases.await?.into_iter().filter_map(|lease| {
            let taken = u64::try_from(lease.ends).ok()?.saturating_sub(LEASE_S).saturating_mul(1000);
            Some(Met { ip: lease.ip?, by: Sighting::Lease, at: Timestamp(taken) })
        });
        let mut met: Vec<Met> = leased.collect();
        met.extend(neighbours::met(&self.layout.bridge, SystemClock.now()).await?);
        Ok(met)
    }

    fn attachment(&self) -> Attachment {
        Attachment { network: NETWORK.to_owned(), filter: FILTER.to_owned(), mtu: self.layout.mtu }
    }
}

#[cfg(test)]
mod tests;

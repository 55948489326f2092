//! The kernel's WireGuard by generic netlink: reading a device, changing it.
//!
//! Messages to the kernel are at most a page or so: peers and networks go in pieces.

use std::io;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::StreamExt;
use genetlink::GenetlinkHandle;
use ipnet::Ipv4Net;
use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_generic::GenlMessage;
use netlink_packet_wireguard::{
    WireguardAddressFamily, WireguardAllowedIp, WireguardAllowedIpAttr, WireguardAttribute, WireguardCmd,
    WireguardMessage, WireguardPeer, WireguardPeerAttribute,
};
use tokio::task::JoinHandle;

use super::plan::{Change, Seen};
use crate::config::{MeshConfig, PeerConfig};
use crate::error::MeshError;
use crate::key::PublicKey;

// linux/wireguard.h, `enum wgpeer_flag`.
const REMOVE_ME: u32 = 1 << 0;
const REPLACE_ALLOWED_IPS: u32 = 1 << 1;
const UPDATE_ONLY: u32 = 1 << 2;

/// Networks in one message: 32 bytes each, far below the 64 KiB that an attribute may have.
const NETWORKS_A_MESSAGE: usize = 500;

/// A connection, and the task that serves it.
pub(super) struct Wire {
    handle: GenetlinkHandle,
    task: JoinHandle<()>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A device as the kernel has it.
#[derive(Debug, Default)]
pub(super) struct Device {
    public_key: Option<[u8; 32]>,
    port: u16,
    pub(super) peers: Vec<Seen>,
}

impl Device {
    /// Whether key and port are those of `config`.
    pub(super) fn is_identity(&self, config: &MeshConfig) -> bool {
        self.public_key.as_ref() == Some(config.private_key.public().as_bytes()) && self.port == config.listen_port
    }
}

fn failed(what: &'static str) -> impl Fn(io::Error) -> MeshError {
    move |source| MeshError::Kernel { what, source }
}

impl Wire {
    pub(super) fn open() -> Result<Self, MeshError> {
        let (connection, handle, _) = genetlink::new_connection().map_err(failed("open a socket"))?;
        Ok(Self { handle, task: tokio::spawn(connection) })
    }

    pub(super) async fn device(&mut self, name: &str) -> Result<Device, MeshError> {
        let attributes = vec![WireguardAttribute::IfName(name.to_owned())];
        let answers = self
            .request(WireguardCmd::GetDevice, attributes, NLM_F_DUMP)
            .await
            .map_err(failed("show the interface"))?;
        let mut device = Device::default();
        for attribute in answers.into_iter().flatten() {
            match attribute {
                WireguardAttribute::PublicKey(key) => device.public_key = Some(key),
                WireguardAttribute::ListenPort(port) => device.port = port,
                WireguardAttribute::Peers(peers) => {
                    for peer in &peers {
                        read_peer(peer, &mut device.peers);
                    }
                }
                _ => {}
            }
        }
        Ok(device)
    }

    pub(super) async fn set_identity(&mut self, name: &str, config: &MeshConfig) -> Result<(), MeshError> {
        let attributes = vec![
            WireguardAttribute::IfName(name.to_owned()),
            WireguardAttribute::PrivateKey(config.private_key.to_bytes()),
            WireguardAttribute::ListenPort(config.listen_port),
        ];
        let set = self.request(WireguardCmd::SetDevice, attributes, NLM_F_ACK).await;
        match set {
            Ok(_) => Ok(()),
            Err(source) if source.kind() == io::ErrorKind::AddrInUse => {
                Err(MeshError::Bind { port: config.listen_port, source })
            }
            Err(source) => Err(failed("take key and port")(source)),
        }
    }

    pub(super) async fn change(&mut self, name: &str, changes: &[Change]) -> Result<(), MeshError> {
        for change in changes {
            for peer in write_peer(change) {
                let attributes =
                    vec![WireguardAttribute::IfName(name.to_owned()), WireguardAttribute::Peers(vec![peer])];
                self.request(WireguardCmd::SetDevice, attributes, NLM_F_ACK).await.map_err(failed("change a peer"))?;
            }
        }
        Ok(())
    }

    async fn request(
        &mut self,
        cmd: WireguardCmd,
        attributes: Vec<WireguardAttribute>,
        flags: u16,
    ) -> io::Result<Vec<Vec<WireguardAttribute>>> {
        let mut message = NetlinkMessage::from(GenlMessage::from_payload(WireguardMessage { cmd, attributes }));
        message.header.flags = NLM_F_REQUEST | flags;
        let mut answers = self.handle.request(message).await.map_err(io::Error::other)?;
        let mut parts = Vec::new();
        while let Some(answer) = answers.next().await {
            match answer.map_err(io::Error::other)?.payload {
                NetlinkPayload::InnerMessage(part) => parts.push(part.payload.attributes),
                NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                _ => {}
            }
        }
        Ok(parts)
    }
}

/// A peer with many networks comes in several parts, of which the later ones have only its key and more networks.
fn read_peer(attributes: &WireguardPeer, peers: &mut Vec<Seen>) {
    let key = attributes.0.iter().find_map(|attribute| match attribute {
        WireguardPeerAttribute::PublicKey(key) => Some(PublicKey::from_bytes(*key)),
        _ => None,
    });
    let Some(key) = key else { return };
    if peers.last().is_none_or(|last| last.config.public_key != key) {
        peers.push(Seen {
            config: PeerConfig { public_key: key, endpoint: None, allowed_ips: Vec::new(), keepalive: None },
            last_handshake: None,
            rx: 0,
            tx: 0,
        });
    }
    let Some(peer) = peers.last_mut() else { return };
    for attribute in &attributes.0 {
        match attribute {
            WireguardPeerAttribute::Endpoint(endpoint) => peer.config.endpoint = Some(*endpoint),
            WireguardPeerAttribute::PersistentKeepalive(0) => {}
            WireguardPeerAttribute::PersistentKeepalive(seconds) => peer.config.keepalive = Some(*seconds),
            WireguardPeerAttribute::LastHandshake(time) => {
                let at = u64::try_from(time.seconds).unwrap_or(0);
                // The kernel tells it by the wall clock, zero for never; a clock that was set back makes it "just now".
                let at = (at > 0).then(|| UNIX_EPOCH + Duration::from_secs(at));
                peer.last_handshake = at.map(|at| SystemTime::now().duration_since(at).unwrap_or_default());
            }
            WireguardPeerAttribute::RxBytes(bytes) => peer.rx = *bytes,
            WireguardPeerAttribute::TxBytes(bytes) => peer.tx = *bytes,
            WireguardPeerAttribute::AllowedIps(networks) => {
                peer.config.allowed_ips.extend(networks.iter().filter_map(read_network));
            }
            _ => {}
        }
    }
}

fn read_network(attributes: &WireguardAllowedIp) -> Option<Ipv4Net> {
    let (mut address, mut prefix) = (None, None);
    for attribute in &attributes.0 {
        match attribute {
            WireguardAllowedIpAttr::IpAddr(IpAddr::V4(ip)) => address = Some(*ip),
            WireguardAllowedIpAttr::Cidr(length) => prefix = Some(*length),
            _ => {}
        }
    }
    Ipv4Net::new(address?, prefix?).ok()
}

fn write_network(network: &Ipv4Net) -> WireguardAllowedIp {
    WireguardAllowedIp(vec![
        WireguardAllowedIpAttr::Family(WireguardAddressFamily::Ipv4),
        WireguardAllowedIpAttr::IpAddr(network.network().into()),
        WireguardAllowedIpAttr::Cidr(network.prefix_len()),
    ])
}

/// The messages of one change: all of it, and then further networks.
fn write_peer(change: &Change) -> Vec<WireguardPeer> {
    use WireguardPeerAttribute as Attribute;
    match change {
        Change::Remove(key) => {
            vec![WireguardPeer(vec![Attribute::PublicKey(*key.as_bytes()), Attribute::Flags(REMOVE_ME)])]
        }
        Change::Set { key, update, endpoint, keepalive, allowed_ips } => {
            let mut flags = if *update { UPDATE_ONLY } else { 0 };
            if allowed_ips.is_some() {
                flags |= REPLACE_ALLOWED_IPS;
            }
            let mut first = vec![Attribute::PublicKey(*key.as_bytes()), Attribute::Flags(flags)];
            first.extend(endpoint.map(Attribute::Endpoint));
            first.extend(keepalive.map(Attribute::PersistentKeepalive));
            let networks = allowed_ips.as_deref().unwrap_or_default();
            let mut pieces = networks
                .chunks(NETWORKS_A_MESSAGE)
                .map(|piece| Attribute::AllowedIps(piece.iter().map(write_network).collect()));
            first.extend(pieces.next());
            let further = pieces.map(|piece| {
                WireguardPeer(vec![Attribute::PublicKey(*key.as_bytes()), Attribute::Flags(UPDATE_ONLY), piece])
            });
            std::iter::once(WireguardPeer(first)).chain(further).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::PrivateKey;

    #[test]
    fn many_networks_go_in_pieces_and_come_together_again() {
        let key = PrivateKey::from_bytes([1; 32]).public();
        let networks: Vec<Ipv4Net> =
            (0..1200u32).map(|n| Ipv4Net::from(std::net::Ipv4Addr::from(0x0a4d_0000 + n))).collect();
        let messages = write_peer(&Change::Set {
            key,
            update: false,
            endpoint: Some(([192, 0, 2, 1], 7444).into()),
            keepalive: Some(25),
            allowed_ips: Some(networks.clone()),
        });
        assert_eq!(messages.len(), 3);
        assert!(messages[0].0.contains(&WireguardPeerAttribute::Flags(REPLACE_ALLOWED_IPS)));
        assert!(messages[1].0.contains(&WireguardPeerAttribute::Flags(UPDATE_ONLY)));
        let mut peers = Vec::new();
        for message in &messages {
            read_peer(message, &mut peers);
        }
        assert_eq!(peers.len(), 1);
        assert_eq!(peers[0].config.allowed_ips, networks);
        assert_eq!(peers[0].config.keepalive, Some(25));
        assert_eq!(peers[0].config.endpoint, Some(([192, 0, 2, 1], 7444).into()));
    }
}

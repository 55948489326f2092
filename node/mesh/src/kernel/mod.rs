//! The kernel's WireGuard behind the same trait, with the metadata peer on the loopback.
//!
//! In: the same configuration as the data plane's. Out: generic netlink messages. Level-triggered: what the kernel has is
//! compared with what is wanted and only the difference is told to it, so sessions last through every change and through a
//! restart of this process. The metadata service's end of its tunnel is in this process all the same, with keys that are made
//! anew at each start; a kernel can only speak UDP to it.

mod plan;
mod service;
mod wire;

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::config::{Interface, Kind, MeshConfig, PeerConfig, PeerStatus, metadata_network};
use crate::error::MeshError;
use crate::key::PrivateKey;
use crate::link::{self, PacketLink};
use crate::{Mesh, host};
use service::{HostEnd, Service};
use wire::Wire;

/// How often [`Mesh::failed`] looks whether the interface is still there: it only ever goes by somebody's hand.
const LOOK: Duration = Duration::from_secs(5);

/// Whether the kernel has WireGuard for us. It is asked by making an interface: a module that would be loaded then shows
/// nowhere before, and neither does a missing right.
pub async fn kernel_available() -> bool {
    static PROBES: AtomicU32 = AtomicU32::new(0);
    // At most 15 bytes; of this process and this call, so that two who ask at once do not meet.
    let number = PROBES.fetch_add(1, Ordering::Relaxed) % 1000;
    let name = format!("wgp{}-{number}", std::process::id() % 10_000_000);
    match host::add_wireguard(&name).await {
        Ok(()) => {
            if let Err(error) = host::delete_link(&name).await {
                tracing::warn!(%name, %error, "the interface that was made to ask for WireGuard is left over");
            }
            true
        }
        Err(error) => {
            tracing::debug!(%error, "the kernel has no WireGuard for us");
            false
        }
    }
}

/// The kernel's WireGuard.
#[derive(Debug)]
pub struct KernelMesh {
    name: String,
    service: Service,
    /// What was last applied: the order of the status, and the endpoints that a peer may have left since.
    applied: Mutex<Vec<PeerConfig>>,
}

impl KernelMesh {
    /// Makes the interface if it lacks, and serves `config`. The namespace is the calling thread's.
    ///
    /// # Errors
    /// The interface is somebody else's, the kernel has no WireGuard, or the rights are missing.
    pub async fn start(interface: &Interface, config: &MeshConfig) -> Result<(Self, PacketLink), MeshError> {
        config.check()?;
        host::clear_other_kind(&interface.name, Kind::Kernel).await?;
        host::add_wireguard(&interface.name).await?;
        let (near, far) = link::pair();
        let key = PrivateKey::generate().map_err(|error| MeshError::Thread(std::io::Error::other(error)))?;
        let service = Service::start(key, host_end(config), interface.mtu, far).await?;
        let mesh = Self { name: interface.name.clone(), service, applied: Mutex::default() };
        mesh.apply(config).await?;
        host::bring_up(&interface.name, interface.mtu).await?;
        Ok((mesh, near))
    }
}

fn host_end(config: &MeshConfig) -> HostEnd {
    HostEnd { key: config.private_key.public(), address: SocketAddr::from((Ipv4Addr::LOCALHOST, config.listen_port)) }
}

#[async_trait]
impl Mesh for KernelMesh {
    fn kind(&self) -> Kind {
        Kind::Kernel
    }

    async fn apply(&self, config: &MeshConfig) -> Result<(), MeshError> {
        config.check()?;
        let before = self.applied.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut wire = Wire::open()?;
        let device = wire.device(&self.name).await?;
        let mut wanted = config.peers.clone();
        // Last: the kernel gives a network to who names it last, so nobody else has the metadata address.
        wanted.push(PeerConfig {
            public_key: self.service.key(),
            endpoint: Some(self.service.address()),
            allowed_ips: vec![metadata_network()],
            keepalive: None,
        });
        if !device.is_identity(config) {
            wire.set_identity(&self.name, config).await?;
        }
        wire.change(&self.name, &plan::plan(&wanted, &device.peers, &before)).await?;
        self.service.host_is(host_end(config));
        *self.applied.lock().unwrap_or_else(PoisonError::into_inner) = config.peers.clone();
        Ok(())
    }

    async fn status(&self) -> Result<Vec<PeerStatus>, MeshError> {
        let device = Wire::open()?.device(&self.name).await?;
        let mut seen: HashMap<_, _> = device.peers.into_iter().map(|peer| (peer.config.public_key, peer)).collect();
        let applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(applied.iter().filter_map(|peer| seen.remove(&peer.public_key)).map(|peer| peer.status()).collect())
    }

    async fn failed(&self) -> MeshError {
        loop {
            tokio::select! {
                () = self.service.stopped() => return MeshError::Stopped("the metadata peer has ended".to_owned()),
                () = tokio::time::sleep(LOOK) => {
                    if let Err(error) = self.status().await {
                        return error;
                    }
                }
            }
        }
    }

    async fn stop(&self) {
        self.service.stop();
        self.service.stopped().await;
    }
}

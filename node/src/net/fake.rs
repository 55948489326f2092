//! A guests' network that exists only in memory, for simulations and the tests of whoever uses [`GuestNetwork`].

use super::{Attachment, GuestNetwork, Met, NetworkError, Reservation};
use crate::faults::{Faults, lock};
use async_trait::async_trait;
use std::{collections::BTreeSet, net::Ipv4Addr, sync::Mutex};
use waifud_model::{ids::VmId, vm::Mac};

/// The operations that can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NetworkOp {
    /// [`GuestNetwork::reserve`].
    Reserve,
    /// [`GuestNetwork::release`].
    Release,
    /// [`GuestNetwork::reserved`].
    Reserved,
    /// [`GuestNetwork::met`].
    Met,
}

/// Reservations in memory.
#[derive(Debug, Default)]
pub struct FakeNetwork {
    reservations: Mutex<BTreeSet<Reservation>>,
    /// Who was met.
    pub met: Mutex<Vec<Met>>,
    /// What goes wrong.
    pub faults: Faults<NetworkOp>,
}

impl FakeNetwork {
    async fn meet(&self, operation: NetworkOp) -> Result<(), NetworkError> {
        let refuse = |e: std::io::Error| NetworkError::Libvirt { doing: "use the network", said: e.to_string() };
        self.faults.meet(operation).await.map_err(refuse)
    }
}

#[async_trait]
impl GuestNetwork for FakeNetwork {
    async fn reserve(&self, _: VmId, ip: Ipv4Addr, mac: Mac) -> Result<(), NetworkError> {
        self.meet(NetworkOp::Reserve).await?;
        let wanted = Reservation { ip, mac };
        let mut all = lock(&self.reservations);
        all.retain(|r| !r.collides(&wanted));
        all.insert(wanted);
        Ok(())
    }

    async fn release(&self, _: VmId, _: Ipv4Addr, mac: Mac) -> Result<(), NetworkError> {
        self.meet(NetworkOp::Release).await?;
        lock(&self.reservations).retain(|r| r.mac != mac);
        Ok(())
    }

    async fn reserved(&self) -> Result<Vec<Reservation>, NetworkError> {
        self.meet(NetworkOp::Reserved).await?;
        Ok(lock(&self.reservations).iter().cloned().collect())
    }

    async fn met(&self) -> Result<Vec<Met>, NetworkError> {
        self.meet(NetworkOp::Met).await?;
        Ok(lock(&self.met).clone())
    }

    fn attachment(&self) -> Attachment {
        Attachment { network: "waifud".to_owned(), filter: "waifud-guest".to_owned(), mtu: 1420 }
    }
}

//! Whose documents a guest gets: the local replica's word for it, whatever becomes of the cluster.
//!
//! In: an address that the taps vouch for. Out: the documents of this node's VM that has it, rendered when its record or the
//! cluster's defaults changed, and kept until then. Where the replica is behind the domain that runs (its mark names a later
//! generation, or a VM that the replica does not have), the [cache](waifud_metadata::cache) is asked, and only then.
//!
//! What a guest tells is noted where it cannot be lost and is seen again: in its domain's mark, from which reconcile has it.

use super::instance;
use crate::{
    faults::lock,
    hypervisor::{Domain, Hypervisor, HypervisorError},
    reconcile::Reconciler,
};
use async_trait::async_trait;
use std::{
    collections::HashMap,
    error::Error,
    net::Ipv4Addr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{sync::watch, time::Instant};
use waifud_cloudinit::Documents;
use waifud_consensus::{Applied, Handle, ReadError};
use waifud_metadata::{
    cache::Cache,
    serve::{Guests, GuestsError},
};
use waifud_model::ids::{Generation, NodeId, VmId};

/// How long nobody is asked again about an address that nobody has.
const NOBODY_FOR: Duration = Duration::from_secs(1);

/// How long libvirt may take to say what runs here, before the replica's word is good enough.
const LIBVIRT_WITHIN: Duration = Duration::from_millis(500);

/// The guests of this node.
#[derive(Debug)]
pub(super) struct ReplicaGuests {
    me: NodeId,
    mtu: u16,
    consensus: Handle,
    applied: watch::Receiver<Applied>,
    hypervisor: Arc<dyn Hypervisor>,
    reconciler: Arc<Reconciler>,
    cache: Option<Arc<Cache>>,
    /// By address. At most as many as this node has VMs, and strangers of the last moment.
    known: Mutex<HashMap<Ipv4Addr, Known>>,
}

/// What was found for an address.
#[derive(Debug, Clone)]
enum Known {
    /// These documents, which were right at this applied index.
    Guest { index: u64, version: Version, documents: Arc<Documents> },
    /// Nothing, at this moment.
    Nobody(Instant),
}

/// What documents are made from: as long as this is the same, so are they.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    vm: VmId,
    generation: Generation,
    defaults: Generation,
}

/// What the replica says of an address.
enum Found {
    /// Nothing: no VM of this node has it.
    Nobody,
    /// What is known is still right.
    Same(Version),
    /// New documents.
    Fresh(Version, Arc<Documents>),
}

impl ReplicaGuests {
    pub(super) fn new(
        me: NodeId,
        mtu: u16,
        consensus: Handle,
        hypervisor: Arc<dyn Hypervisor>,
        reconciler: Arc<Reconciler>,
        cache: Option<Arc<Cache>>,
    ) -> Self {
        let applied = consensus.applied();
        Self { me, mtu, consensus, applied, hypervisor, reconciler, cache, known: Mutex::default() }
    }

    async fn look_up(&self, ip: Ipv4Addr) -> Result<Option<Arc<Documents>>, ReadError> {
        // Before the reading: a change while it is read makes the next request read again.
        let index = self.applied.borrow().index;
        let known = lock(&self.known).get(&ip).cloned();
        let version = match &known {
            Some(Known::Guest { index: at, documents, .. }) if *at == index => return Ok(Some(Arc::clone(documents))),
            Some(Known::Nobody(since)) if since.elapsed() < NOBODY_FOR => return Ok(None),
            Some(Known::Guest { version, .. }) => Some(*version),
            _ => None,
        };
        let found = match (self.read(ip, version).await?, known) {
            (Found::Same(version), Some(Known::Guest { documents, .. })) => Some((version, documents)),
            (Found::Fresh(version, documents), _) => match self.newest(ip, version, &documents).await {
                Some(newest) => Some(newest),
                // Not kept: Redis, or libvirtd, may know better at the next request.
                None => return Ok(Some(documents)),
            },
            _ => self.stranger(ip).await,
        };
        let mut all = lock(&self.known);
        let Some((version, documents)) = found else {
            all.retain(|_, known| !matches!(known, Known::Nobody(since) if since.elapsed() >= NOBODY_FOR));
            all.insert(ip, Known::Nobody(Instant::now()));
            return Ok(None);
        };
        all.insert(ip, Known::Guest { index, version, documents: Arc::clone(&documents) });
        Ok(Some(documents))
    }

    async fn read(&self, ip: Ipv4Addr, known: Option<Version>) -> Result<Found, ReadError> {
        let (me, mtu) = (self.me, self.mtu);
        self.consensus
            .read(move |view| {
                let Some(vm) = view.vm_by_ip(ip)?.filter(|vm| vm.node == me) else { return Ok(Found::Nobody) };
                let defaults = view.cloud_defaults()?;
                let version = Version { vm: vm.id, generation: vm.generation, defaults: defaults.generation };
                if known == Some(version) {
                    return Ok(Found::Same(version));
                }
                let Some(owner) = view.node(me)? else { return Ok(Found::Nobody) };
                let instance = instance::made(&vm, &owner, defaults, mtu);
                Ok(Found::Fresh(version, Arc::new(Documents::render(&instance))))
            })
            .await
    }

    /// The replica's documents, or those in the cache if the domain that runs was made from a later record. None if the
    /// replica's are out of date, as far as can be told, and the cache does not have later ones now.
    async fn newest(&self, ip: Ipv4Addr, version: Version, ours: &Arc<Documents>) -> Option<(Version, Arc<Documents>)> {
        if self.cache.is_none() {
            return Some((version, Arc::clone(ours)));
        }
        let domain = self.told("whether this replica is behind", self.hypervisor.find(version.vm)).await?;
        match domain.filter(|domain| domain.defined.is_some_and(|defined| defined > version.generation)) {
            Some(domain) => self.cached(ip, &domain).await,
            None => Some((version, Arc::clone(ours))),
        }
    }

    /// A guest that runs here and that the replica does not know: it is behind.
    async fn stranger(&self, ip: Ipv4Addr) -> Option<(Version, Arc<Documents>)> {
        self.cache.as_ref()?;
        let domains = self.told("who asks for metadata", self.hypervisor.list()).await?;
        let domain = domains.into_iter().find(|domain| domain.ip == ip)?;
        self.cached(ip, &domain).await
    }

    /// What the hypervisor says, if it says it soon: a guest is not to wait for a libvirtd that hangs.
    async fn told<T>(
        &self,
        what: &'static str,
        question: impl Future<Output = Result<T, HypervisorError>>,
    ) -> Option<T> {
        if !self.hypervisor.health().borrow().is_up() {
            return None;
        }
        match tokio::time::timeout(LIBVIRT_WITHIN, question).await {
            Ok(Ok(answer)) => Some(answer),
            Ok(Err(error)) => {
                tracing::debug!(%error, "{what} cannot be told");
                None
            }
            Err(_) => {
                tracing::debug!("{what} cannot be told soon");
                None
            }
        }
    }

    async fn cached(&self, ip: Ipv4Addr, domain: &Domain) -> Option<(Version, Arc<Documents>)> {
        let entry = match self.cache.as_ref()?.get_by_vm(domain.vm, domain.defined?).await {
            Ok(entry) => entry.filter(|entry| entry.ip == ip)?,
            Err(error) => {
                tracing::debug!(vm = %domain.vm, error = &error as &dyn Error, "the cache does not help");
                return None;
            }
        };
        let instance = match entry.to_instance() {
            Ok(instance) => instance,
            Err(error) => {
                tracing::warn!(vm = %domain.vm, error = &error as &dyn Error, "another release of waifud wrote the cache");
                return None;
            }
        };
        tracing::info!(vm = %domain.vm, generation = %entry.generation, "this replica is behind, and the cache is not");
        let version = Version { vm: domain.vm, generation: entry.generation, defaults: instance.defaults.generation };
        Some((version, Arc::new(Documents::render(&instance))))
    }
}

#[async_trait]
impl Guests for ReplicaGuests {
    async fn by_address(&self, address: Ipv4Addr) -> Result<Option<Arc<Documents>>, GuestsError> {
        self.look_up(address).await.map_err(|error| GuestsError(Box::new(error)))
    }

    fn asked(&self, address: Ipv4Addr) {
        self.reconciler.asked(address);
    }

    async fn cloud_init_done(&self, documents: &Documents) -> Result<(), GuestsError> {
        let (vm, life) = (documents.vm(), documents.life());
        let noted = self.hypervisor.note_cloud_init(vm, life).await;
        noted.map_err(|error| GuestsError(Box::new(error)))?;
        tracing::debug!(%vm, life, "the guest's cloud-init is done");
        Ok(())
    }
}

//! Redis as a shared cache of rendered cloud-config: off the path of everything that the replica knows.
//!
//! In: entries of VMs that this node owns, when they are created or edited; and questions about VMs whose record the replica does
//! not have yet. Out: entries that a node of this cluster wrote and that are new enough, or nothing. Redis may be absent, hang,
//! be full or lie: a question takes [`READ_WITHIN`] at the most, and a moment later no time at all; writes wait in memory.
//!
//! What is in Redis and how operators read it is in `node/docs/cache.md`; why it is believed, in [`entry`].

pub mod entry;
mod link;
#[cfg(test)]
mod tests;
mod writer;

use entry::{Entry, EntryError, FIELDS, Seal};
use link::{CallError, Link};
use std::{
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use waifud_model::ids::{ClusterId, Generation, VmId};
use writer::{Change, Queue};

pub use writer::QueueFull;

/// The longest that a question takes. A guest that waits for the answer tries again after some seconds, and so should find it.
pub const READ_WITHIN: Duration = Duration::from_millis(250);

/// Where the cache is and whose entries are in it.
#[derive(Clone)]
pub struct CacheSettings {
    /// `redis://`, `rediss://` (TLS) or `redis+unix://`, with user, password and database as Redis's clients have it.
    pub url: String,
    /// Certificates (PEM) of whoever may have signed the server's, for `rediss://`; none means the host's trust store.
    pub ca: Option<Vec<u8>>,
    /// The cluster; part of every key.
    pub cluster: ClusterId,
    /// How long an entry is good for after it was written. Its owner writes it again well before.
    pub ttl: Duration,
}

/// Without the URL, which may have a password in it.
impl std::fmt::Debug for CacheSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CacheSettings").field("cluster", &self.cluster).field("ttl", &self.ttl).finish_non_exhaustive()
    }
}

/// Why the cache gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The URL or the certificates cannot be used.
    #[error("the cache's settings cannot be used")]
    Settings(#[source] redis::RedisError),
    /// Redis is not there, or not now.
    #[error("the cache is not available: {0}")]
    Unavailable(&'static str),
    /// Redis failed, or refused the command.
    #[error("the cache failed")]
    Redis(#[source] redis::RedisError),
    /// Something is there, and it is not to be believed.
    #[error("the cache holds what cannot be used")]
    Entry(#[source] EntryError),
}

impl From<CallError> for CacheError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Open => Self::Unavailable("Redis did not work a moment ago"),
            CallError::TooSlow => Self::Unavailable("Redis took too long"),
            CallError::Failed(error) | CallError::Refused(error) => Self::Redis(error),
        }
    }
}

/// The cache. Writing stops when it is dropped.
pub struct Cache {
    seal: Seal,
    link: Arc<Link>,
    queue: Arc<Queue>,
    _writer: DropGuard,
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache").field("queue", &self.queue).finish_non_exhaustive()
    }
}

impl Cache {
    /// Starts the task that writes. Nothing is connected before there is something to say, and no server is needed for this.
    ///
    /// `secret` is the cluster's and the same on all nodes; it has to have 256 bits of randomness.
    ///
    /// # Errors
    /// If the URL or the certificates are none.
    pub fn connect(settings: &CacheSettings, secret: &[u8]) -> Result<Self, CacheError> {
        // redis takes the process's provider. If there is one already, it is as good: the workspace has only this.
        if rustls::crypto::CryptoProvider::get_default().is_none()
            && rustls::crypto::ring::default_provider().install_default().is_err()
        {
            tracing::debug!("another task chose the TLS provider first");
        }
        let client = match &settings.ca {
            Some(ca) if settings.url.starts_with("rediss:") => {
                let certificates = redis::TlsCertificates { client_tls: None, root_cert: Some(ca.clone()) };
                redis::Client::build_with_tls(settings.url.as_str(), certificates)
            }
            _ => redis::Client::open(settings.url.as_str()),
        };
        let link = Arc::new(Link::new(client.map_err(CacheError::Settings)?));
        let seal = Seal::new(settings.cluster, secret);
        let (queue, stop) = (Arc::<Queue>::default(), CancellationToken::new());
        tokio::spawn(writer::run(queue.clone(), link.clone(), seal.clone(), settings.ttl, stop.clone()));
        Ok(Self { seal, link, queue, _writer: stop.drop_guard() })
    }

    /// Has an entry written, as soon as that can be. Only the newest of a VM is.
    ///
    /// # Errors
    /// If too much waits already.
    pub fn put(&self, entry: Entry) -> Result<(), QueueFull> {
        self.queue.push(entry.vm, Change::Put(Arc::new(entry)))
    }

    /// Has a VM's entry removed: it was deleted.
    ///
    /// # Errors
    /// If too much waits already.
    pub fn forget(&self, vm: VmId, ip: Ipv4Addr) -> Result<(), QueueFull> {
        self.queue.push(vm, Change::Forget(ip))
    }

    /// Waits until all that was to be written is. For as long as Redis does not work, so give it a deadline.
    pub async fn drained(&self) {
        self.queue.drained().await;
    }

    /// Does Redis answer, and does it let us in? Asked anew, whatever was met before.
    ///
    /// # Errors
    /// Why not.
    pub async fn answers(&self) -> Result<(), CacheError> {
        let mut commands = redis::pipe();
        commands.cmd("PING");
        let (_pong,): (String,) = self.link.call(&commands, Instant::now() + READ_WITHIN).await?;
        Ok(())
    }

    /// The entry of a VM, if it is of this generation or a later one.
    ///
    /// # Errors
    /// If Redis does not answer in time, or with something that no node of this cluster wrote.
    pub async fn get_by_vm(&self, vm: VmId, at_least: Generation) -> Result<Option<Entry>, CacheError> {
        self.get(vm, at_least, Instant::now() + READ_WITHIN).await
    }

    /// The entry of whoever has this address, as far as the cache knows.
    ///
    /// An address is given to another VM after the first was deleted, and what the cache says of it may be older. Compare the
    /// entry's VM with the one that has the address on this node before anything of it is shown to a guest.
    ///
    /// # Errors
    /// As [`Self::get_by_vm`].
    pub async fn get_by_ip(&self, ip: Ipv4Addr) -> Result<Option<Entry>, CacheError> {
        let deadline = Instant::now() + READ_WITHIN;
        self.link.admit(Instant::now())?;
        let mut commands = redis::pipe();
        commands.cmd("GET").arg(self.seal.ip_key(ip));
        let (found,): (Option<Vec<u8>>,) = self.link.call(&commands, deadline).await?;
        let Some(found) = found else { return Ok(None) };
        let vm = std::str::from_utf8(&found).ok().and_then(|text| text.parse().ok());
        let vm = vm.ok_or(CacheError::Entry(EntryError::Field("vm")))?;
        let entry = self.get(vm, Generation(0), deadline).await?;
        Ok(entry.filter(|entry| entry.ip == ip))
    }

    async fn get(&self, vm: VmId, at_least: Generation, deadline: Instant) -> Result<Option<Entry>, CacheError> {
        self.link.admit(Instant::now())?;
        let mut commands = redis::pipe();
        // By name, so that what somebody else put into the hash is not even transferred.
        commands.cmd("HMGET").arg(self.seal.vm_key(vm)).arg(&FIELDS);
        let (fields,): (Vec<Option<Vec<u8>>>,) = self.link.call(&commands, deadline).await?;
        let entry = self.seal.read(&fields, seconds_now()).map_err(CacheError::Entry)?;
        // Another VM's entry is as authentic, and would be somebody else's data.
        Ok(entry.filter(|entry| entry.vm == vm && entry.generation >= at_least))
    }
}

fn seconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

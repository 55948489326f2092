//! Keeps the shared cache filled with what this node's guests are told: every VM of this node when it is created or edited, all
//! of them after a start, and all of them again before they expire. Only writes; nothing waits for it.

use super::instance;
use crate::config::CacheConfig;
use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    fs, io,
    net::Ipv4Addr,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use waifud_cloudinit::Instance;
use waifud_consensus::{
    Handle,
    state::{ReadError, View},
};
use waifud_metadata::cache::{Cache, CacheError, CacheSettings, entry::Entry};
use waifud_model::{
    ids::{Generation, NodeId, VmId},
    state::ClusterInfo,
};

/// Between two readings of the replica: a busy cluster is not read for nothing.
const PAUSE: Duration = Duration::from_millis(500);

/// Why there is no cache although one is configured.
#[derive(Debug, thiserror::Error)]
pub enum OpenCacheError {
    /// The file with the CA cannot be read.
    #[error("[cache] redis_ca: {path} cannot be read")]
    Ca {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The settings mean nothing to a Redis client.
    #[error("[cache] redis_url or redis_ca cannot be used")]
    Settings(#[from] CacheError),
}

/// The cache that the configuration names, if it names one. No server is needed for this.
///
/// # Errors
/// If the configuration cannot be used.
pub(super) fn open(config: &CacheConfig, cluster: &ClusterInfo) -> Result<Option<Arc<Cache>>, OpenCacheError> {
    let Some(url) = config.redis_url.clone() else { return Ok(None) };
    let read = |path: &PathBuf| fs::read(path).map_err(|source| OpenCacheError::Ca { path: path.clone(), source });
    let ca = config.redis_ca.as_ref().map(read).transpose()?;
    let settings = CacheSettings { url, ca, cluster: cluster.id, ttl: config.expire };
    Ok(Some(Arc::new(Cache::connect(&settings, &cluster.ca_key)?)))
}

/// What was last written of a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Written {
    generation: Generation,
    defaults: Generation,
    ip: Ipv4Addr,
}

/// Writes until `stop`.
pub(super) async fn fill(
    cache: Arc<Cache>,
    me: NodeId,
    mtu: u16,
    expire: Duration,
    consensus: Handle,
    stop: CancellationToken,
) {
    let mut applied = consensus.applied();
    let mut written: BTreeMap<VmId, Written> = BTreeMap::new();
    // Twice in the life of an entry, so that one that is lost is back before it would be missed for long.
    let mut renew_at = Instant::now() + expire / 2;
    loop {
        applied.borrow_and_update();
        if Instant::now() >= renew_at {
            written.clear();
            renew_at = Instant::now() + expire / 2;
        }
        let known = written.clone();
        match consensus.read(move |view| news(view, me, mtu, &known)).await {
            Ok(news) => write(&cache, news, &mut written),
            Err(error) => tracing::warn!(%error, "what the cache should hold cannot be read"),
        }
        let changed = async {
            tokio::select! {
                changed = applied.changed() => changed.is_ok(),
                () = tokio::time::sleep_until(renew_at) => true,
            }
        };
        if stop.run_until_cancelled(changed).await != Some(true)
            || stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_none()
        {
            return;
        }
    }
}

/// What a node's guests are told, as far as that is news.
#[derive(Debug, Default)]
struct News {
    /// All its VMs.
    there: BTreeSet<VmId>,
    /// Those of them that were not written as they are.
    changed: Vec<(Written, Instance)>,
}

fn news(view: &View<'_>, me: NodeId, mtu: u16, written: &BTreeMap<VmId, Written>) -> Result<News, ReadError> {
    let mut news = News::default();
    let Some(owner) = view.node(me)? else { return Ok(news) };
    let defaults = view.cloud_defaults()?;
    for vm in view.vms_on(me)? {
        news.there.insert(vm.id);
        let now = Written { generation: vm.generation, defaults: defaults.generation, ip: vm.ip };
        if written.get(&vm.id) != Some(&now) {
            news.changed.push((now, instance::made(&vm, &owner, defaults.clone(), mtu)));
        }
    }
    Ok(news)
}

fn write(cache: &Cache, news: News, written: &mut BTreeMap<VmId, Written>) {
    for (now, instance) in news.changed {
        let vm = instance.id;
        let put = Entry::of(&instance, now.generation).map(|entry| cache.put(entry));
        match put {
            Ok(Ok(())) => drop(written.insert(vm, now)),
            // Tried again with the next change; Redis is behind by then anyway.
            Ok(Err(error)) => tracing::debug!(%vm, %error, "the cache has no room"),
            Err(error) => tracing::warn!(%vm, error = &error as &dyn Error, "a VM cannot be cached"),
        }
    }
    written.retain(|vm, last| {
        if news.there.contains(vm) {
            return true;
        }
        let forgotten = cache.forget(*vm, last.ip);
        if let Err(error) = &forgotten {
            tracing::debug!(%vm, %error, "the cache has no room");
        }
        forgotten.is_err()
    });
}

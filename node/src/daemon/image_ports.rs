//! Puts the image store between the web, the peers and gossip: who brings an image in, who has one, who gets one.
//!
//! In: imports asked for by the web, streams of peers, observations. Out: files in the [`Store`], and the word that this
//! node holds them. An image is announced only after it is whole and verified.

use super::random;
use async_trait::async_trait;
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
    time::Duration,
};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use waifud_api::vm::Fetching;
use waifud_consensus::Handle;
use waifud_gossip::membership::Gossip;
use waifud_gossip::peers::{PeerStream, Peers, Protocol, Service};
use waifud_model::{
    digest::{Blake3, Sha256},
    ids::NodeId,
    observed::image_key,
};
use waifud_web::ports::{ImageSource, Images, ImportError, Imported};

use crate::images::{
    DownloadError, Expected, ImageError, ImagePeers, ImageStore, ImportedImage, PeerReader, PeerWriter, Progress, Store,
};

/// The other nodes, as gossip knows them.
#[derive(Debug)]
pub(super) struct GossipImagePeers {
    peers: Peers,
    gossip: Gossip,
}

impl GossipImagePeers {
    /// Over these.
    #[must_use]
    pub(super) fn new(peers: Peers, gossip: Gossip) -> Self {
        Self { peers, gossip }
    }
}

#[async_trait]
impl ImagePeers for GossipImagePeers {
    /// All that are alive and say they have it, in an order that differs from call to call, so that not everybody asks
    /// the same one first.
    async fn holders(&self, version: Blake3) -> Vec<NodeId> {
        let key = image_key(version);
        let (members, observations) = (self.gossip.members(), self.gossip.observations());
        let (members, observations) = (members.borrow().clone(), observations.borrow().clone());
        let me = self.peers.me();
        let alive = |node: &NodeId| *node != me && members.get(node).is_some_and(|m| m.alive);
        let has = |node: &NodeId| observations.get(node).is_some_and(|o| o.get(&key).is_some());
        let mut holders: Vec<NodeId> = members.keys().copied().filter(|n| alive(n) && has(n)).collect();
        if !holders.is_empty() {
            let first = u64::from_be_bytes(random::bytes()) % holders.len() as u64;
            holders.rotate_left(first as usize);
        }
        holders
    }

    async fn open(&self, node: NodeId) -> io::Result<(PeerReader, PeerWriter)> {
        let PeerStream { send, recv } = self.peers.open(node, Protocol::Image).await.map_err(io::Error::other)?;
        Ok((Box::new(recv), Box::new(send)))
    }
}

/// Gives peers the parts of images they ask for.
#[derive(Debug)]
pub(super) struct ImageBlocks(pub Arc<Store>);

#[async_trait]
impl Service for ImageBlocks {
    async fn serve(&self, from: NodeId, PeerStream { send, recv }: PeerStream) {
        if let Err(error) = self.0.serve_blocks(recv, send).await {
            tracing::debug!(%from, %error, "a peer stopped fetching an image");
        }
    }
}

/// The web's door to the store.
#[derive(Debug)]
pub(super) struct WebImages {
    store: Arc<Store>,
    gossip: Gossip,
}

impl WebImages {
    /// Over these.
    #[must_use]
    pub(super) fn new(store: Arc<Store>, gossip: Gossip) -> Self {
        Self { store, gossip }
    }
}

#[async_trait]
impl Images for WebImages {
    async fn import(&self, source: ImageSource, sha256: Option<Sha256>) -> Result<Imported, ImportError> {
        let progress = watch::Sender::new(Progress::default());
        let imported = match source {
            ImageSource::Upload(stream) => self.store.import(stream, Expected { sha256, size: None }, &progress).await,
            ImageSource::Url(url) => self.store.download(&url, sha256, &progress).await,
        };
        let ImportedImage { version, sha256, size, virtual_size, format } = imported.map_err(explain)?;
        announce(&self.gossip, version);
        Ok(Imported { version, sha256, size, virtual_size, format })
    }

    /// Somebody else may have taken in the same bytes a moment ago, and wait for the cluster to agree; this node's replica
    /// may be behind. Who waits [long enough](GRACE) need not guess.
    async fn release(&self, version: Blake3) {
        tracing::debug!(%version, "an image is of no use; it goes with the next that nobody names");
    }

    fn fetching(&self, version: Blake3) -> Option<Fetching> {
        let Progress { done, total } = self.store.fetching().borrow().get(&version).copied()?;
        Some(Fetching { done, total: total? })
    }
}

/// Says that this node holds `version`.
pub(super) fn announce(gossip: &Gossip, version: Blake3) {
    if let Err(error) = gossip.publish(image_key(version), "") {
        tracing::warn!(%version, %error, "other nodes are not told of an image");
    }
}

async fn forget(store: &Store, gossip: &Gossip, version: Blake3) {
    match store.remove_idle(version, GRACE).await {
        Ok(true) => {
            gossip.withdraw(&image_key(version));
            tracing::info!(%version, "an image that no template names any more was removed");
        }
        Ok(false) => {}
        Err(error) => tracing::warn!(%version, %error, "an image that is of no use is kept"),
    }
}

/// An image that is fetched for a VM is announced too, so that it spreads.
#[derive(Debug)]
pub(super) struct AnnouncedStore {
    store: Arc<Store>,
    gossip: Gossip,
}

impl AnnouncedStore {
    /// Over these; announces what is there already.
    pub(super) async fn new(store: Arc<Store>, gossip: Gossip) -> Result<Self, ImageError> {
        for version in store.list().await? {
            announce(&gossip, version);
        }
        Ok(Self { store, gossip })
    }
}

#[async_trait]
impl ImageStore for AnnouncedStore {
    async fn ensure(
        &self,
        version: &waifud_model::template::TemplateVersion,
    ) -> Result<std::path::PathBuf, ImageError> {
        let path = self.store.ensure(version).await?;
        announce(&self.gossip, version.version);
        Ok(path)
    }

    async fn present(&self, version: Blake3) -> bool {
        self.store.present(version).await
    }
}

/// In the web's words. What is the sender's to mend keeps its text; what is this node's stays a source.
fn explain(error: ImageError) -> ImportError {
    match error {
        ImageError::Refused(refusal) => ImportError::NotAnImage(refusal.to_string()),
        ImageError::Sha256 { expected, found } => ImportError::Checksum { expected, actual: found },
        ImageError::TooLarge { max } => ImportError::TooLarge(max),
        ImageError::NoSpace { needed, free, .. } => ImportError::NoSpace { needed, free },
        ImageError::Upload { source } => ImportError::BrokenOff(source),
        ImageError::Download(error @ (DownloadError::Url { .. } | DownloadError::Private { .. })) => {
            ImportError::Url(error.to_string())
        }
        ImageError::Download(error) => ImportError::Download(chain(&error)),
        other => ImportError::Store(other.into()),
    }
}

/// An error with its causes, as one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(": ");
        line.push_str(&error.to_string());
        cause = error.source();
    }
    line
}

/// An import is in the store before its template is in the state; what is younger than this is left alone.
const GRACE: Duration = Duration::from_secs(300);
/// How long the question may take how far the replica must be.
const CURRENT_WITHIN: Duration = Duration::from_secs(5);

/// Drops images that no template names any more, and parts of such, a while after that is so. Ends with `stop`.
pub(super) async fn collect_garbage(store: Arc<Store>, gossip: Gossip, consensus: Handle, stop: CancellationToken) {
    let mut unnamed = BTreeMap::new();
    loop {
        if stop.run_until_cancelled(tokio::time::sleep(GRACE / 5)).await.is_none() {
            return;
        }
        match doomed(&store, &consensus, &mut unnamed).await {
            Ok(doomed) => {
                for version in doomed {
                    forget(&store, &gossip, version).await;
                }
            }
            Err(error) => tracing::debug!(error, "which images are of no use cannot be told now"),
        }
    }
}

/// What nobody has named for long enough; `unnamed` remembers since when.
async fn doomed(
    store: &Store,
    consensus: &Handle,
    unnamed: &mut BTreeMap<Blake3, Instant>,
) -> Result<Vec<Blake3>, String> {
    let mut held: BTreeSet<Blake3> = store.list().await.map_err(|e| chain(&e))?.into_iter().collect();
    held.extend(store.unfinished().await.map_err(|e| chain(&e))?);
    let templates = || consensus.read(|view| Ok((view.cluster()?.is_some(), view.templates()?)));
    let mut idle = Vec::new();
    let (founded, named) = templates().await.map_err(|e| chain(&e))?;
    if founded {
        let named = named.into_iter().map(|t| t.version).collect();
        idle = unnamed_for_long(unnamed, &held, &named, Instant::now());
    }
    if !idle.is_empty() {
        // A replica that is behind, or being filled, does not know the newest templates.
        consensus.linearize(CURRENT_WITHIN).await.map_err(|e| chain(&e))?;
        let (_, named) = templates().await.map_err(|e| chain(&e))?;
        idle.retain(|version| named.iter().all(|template| template.version != *version));
    }
    Ok(idle)
}

fn unnamed_for_long(
    unnamed: &mut BTreeMap<Blake3, Instant>,
    held: &BTreeSet<Blake3>,
    named: &BTreeSet<Blake3>,
    now: Instant,
) -> Vec<Blake3> {
    unnamed.retain(|version, _| held.contains(version) && !named.contains(version));
    for version in held.difference(named) {
        unnamed.entry(*version).or_insert(now);
    }
    unnamed.iter().filter(|(_, since)| now.duration_since(**since) >= GRACE).map(|(version, _)| *version).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_what_nobody_names_for_long_goes() {
        let [a, b] = [Blake3::of(b"a"), Blake3::of(b"b")];
        let (held, mut unnamed) = (BTreeSet::from([a, b]), BTreeMap::new());
        let named = |versions: &[Blake3]| versions.iter().copied().collect::<BTreeSet<_>>();
        let start = Instant::now();
        let mut look = |held: &BTreeSet<_>, names: &[Blake3], after| {
            unnamed_for_long(&mut unnamed, held, &named(names), start + after)
        };
        assert_eq!(look(&held, &[a], Duration::ZERO), []);
        assert_eq!(look(&held, &[a], GRACE - Duration::from_secs(1)), []);
        assert_eq!(look(&held, &[a], GRACE), [b]);
        // It was named in between, so the time begins anew.
        assert_eq!(look(&held, &[a, b], GRACE), []);
        assert_eq!(look(&held, &[a], GRACE + Duration::from_secs(1)), []);
        assert_eq!(look(&held, &[a], GRACE * 2 + Duration::from_secs(1)), [b]);
        assert_eq!(look(&BTreeSet::from([a]), &[a], GRACE * 3), [], "it is gone");
    }
}

//! Puts the image store between the web, the peers and gossip: who brings an image in, who has one, who gets one.
//!
//! In: imports asked for by the web, streams of peers, observations. Out: files in the [`Store`], and the word that this
//! node holds them. An image is announced only after it is whole and verified.

use super::random;
use async_trait::async_trait;
use std::{io, sync::Arc};
use tokio::sync::watch;
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
    consensus: Handle,
}

impl WebImages {
    /// Over these.
    #[must_use]
    pub(super) fn new(store: Arc<Store>, gossip: Gossip, consensus: Handle) -> Self {
        Self { store, gossip, consensus }
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

    async fn release(&self, version: Blake3) {
        let used = self.consensus.read(move |view| Ok(view.templates()?.iter().any(|t| t.version == version))).await;
        match used {
            Ok(true) => {}
            Ok(false) => forget(&self.store, &self.gossip, version).await,
            Err(error) => tracing::warn!(%version, %error, "an image that is of no use is kept"),
        }
    }
}

/// Says that this node holds `version`.
pub(super) fn announce(gossip: &Gossip, version: Blake3) {
    if let Err(error) = gossip.publish(image_key(version), "") {
        tracing::warn!(%version, %error, "other nodes are not told of an image");
    }
}

async fn forget(store: &Store, gossip: &Gossip, version: Blake3) {
    gossip.withdraw(&image_key(version));
    if let Err(error) = store.remove(version).await {
        tracing::warn!(%version, %error, "an image that is of no use is kept");
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

/// Drops images that no template names any more, whenever the replicated state changes. Ends with `stop`.
pub(super) async fn collect_garbage(
    store: Arc<Store>,
    gossip: Gossip,
    consensus: Handle,
    stop: tokio_util::sync::CancellationToken,
) {
    /// An import is in the store before its template is in the state; what is younger than this is left alone.
    const GRACE: std::time::Duration = std::time::Duration::from_secs(300);
    let mut unnamed: std::collections::BTreeMap<Blake3, tokio::time::Instant> = std::collections::BTreeMap::new();
    loop {
        if stop.run_until_cancelled(tokio::time::sleep(GRACE / 5)).await.is_none() {
            return;
        }
        let named = consensus.read(|view| {
            let cluster = view.cluster()?;
            let versions = view.templates()?.into_iter().map(|t| t.version).collect::<std::collections::BTreeSet<_>>();
            Ok(cluster.map(|_| versions))
        });
        let (Ok(Some(named)), Ok(held)) = (named.await, store.list().await) else { continue };
        unnamed.retain(|version, _| held.contains(version) && !named.contains(version));
        for version in held.into_iter().filter(|version| !named.contains(version)) {
            let since = *unnamed.entry(version).or_insert_with(tokio::time::Instant::now);
            if since.elapsed() >= GRACE {
                tracing::info!(%version, "an image that no template names any more is removed");
                forget(&store, &gossip, version).await;
            }
        }
    }
}

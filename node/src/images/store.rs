//! The images of this node: [`ImageStore`] on a directory, and the doors by which images come in and go out. In: uploads,
//! addresses, peers; out: read-only files. Puts the parts of this room together; each of them is a file of its own.

use super::{
    ImageError, ImageStore,
    download::{DownloadSettings, Downloader},
    fetch::{self, FetchError, Patience},
    import::{self, Expected, ImportedImage, Limits, blocking},
    inspect::inspect,
    layout::Layout,
    peers::ImagePeers,
    progress::Progress,
    qemu_img::QemuImg,
    refusal::Refusal,
    serve,
    tree::Tree,
};
use async_trait::async_trait;
use bytes::Bytes;
use futures::Stream;
use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
    time::Instant,
};
use waifud_model::{
    digest::{Blake3, Sha256},
    size::ByteSize,
    template::TemplateVersion,
};

/// What a store is made with.
#[derive(Debug, Clone)]
pub struct StoreSettings {
    /// Where the images are; made if it is not there.
    pub dir: PathBuf,
    /// What is taken in.
    pub limits: Limits,
    /// What may be downloaded, and how long that may take.
    pub download: DownloadSettings,
    /// How long peers may take.
    pub patience: Patience,
}

/// The images of this node.
#[derive(Debug)]
pub struct Store {
    layout: Layout,
    limits: Limits,
    downloader: Downloader,
    patience: Patience,
    peers: Arc<dyn ImagePeers>,
    tool: QemuImg,
    /// One lock for each version that is being fetched now: who comes second waits, and then finds it.
    fetching: Mutex<BTreeMap<Blake3, Weak<tokio::sync::Mutex<()>>>>,
    /// When versions were taken in. Whoever does that records them in the cluster a little later; until then they look as
    /// if nobody wanted them.
    taken_in: tokio::sync::Mutex<BTreeMap<Blake3, Instant>>,
    progress: watch::Sender<BTreeMap<Blake3, Progress>>,
}

impl Store {
    /// Opens the directory, and removes what interrupted imports left in it.
    ///
    /// # Errors
    /// If the directory cannot be used.
    pub fn open(settings: StoreSettings, peers: Arc<dyn ImagePeers>) -> Result<Self, ImageError> {
        Ok(Self {
            layout: Layout::open(settings.dir)?,
            limits: settings.limits,
            downloader: Downloader::new(settings.download),
            patience: settings.patience,
            peers,
            tool: QemuImg::default(),
            fetching: Mutex::default(),
            taken_in: tokio::sync::Mutex::default(),
            progress: watch::Sender::default(),
        })
    }

    /// Takes in an image from a stream of bytes. `progress` follows it.
    ///
    /// # Errors
    /// If the bytes are not what was expected or not an image that may be used, if there is no room, or if the stream
    /// fails. Nothing is left behind then, nor when the future is dropped.
    pub async fn import<S>(
        &self,
        stream: S,
        expected: Expected,
        progress: &watch::Sender<Progress>,
    ) -> Result<ImportedImage, ImageError>
    where
        S: Stream<Item = io::Result<Bytes>> + Send,
    {
        use futures::TryStreamExt;
        let stream = stream.map_err(|source| ImageError::Upload { source });
        let imported = import::import(&self.layout, &self.tool, self.limits, stream, expected, progress).await?;
        self.taken_in(imported).await
    }

    /// Takes in an image from an address.
    ///
    /// # Errors
    /// As [`Self::import`]; and if the address is not one to download from, or the server does not serve.
    pub async fn download(
        &self,
        url: &str,
        expected: Option<Sha256>,
        progress: &watch::Sender<Progress>,
    ) -> Result<ImportedImage, ImageError> {
        let body = self.downloader.get(url, expected.is_some()).await?;
        let expected = Expected { sha256: expected, size: body.size };
        let imported = import::import(&self.layout, &self.tool, self.limits, body.stream, expected, progress).await?;
        self.taken_in(imported).await
    }

    /// Notes that a version was taken in. It may have been here already, and removed as unwanted since it was found.
    async fn taken_in(&self, imported: ImportedImage) -> Result<ImportedImage, ImageError> {
        let mut taken_in = self.taken_in.lock().await;
        if self.find(imported.version).await?.is_none() {
            let path = self.layout.image(imported.version, imported.format);
            return Err(ImageError::Io { doing: "keep", path, source: io::ErrorKind::NotFound.into() });
        }
        taken_in.insert(imported.version, Instant::now());
        Ok(imported)
    }

    /// Answers a peer's questions for parts of images until it ends the stream.
    ///
    /// # Errors
    /// If the stream breaks, or the peer speaks something else.
    pub async fn serve_blocks(
        &self,
        mut reader: impl AsyncRead + Unpin + Send,
        mut writer: impl AsyncWrite + Unpin + Send,
    ) -> io::Result<()> {
        serve::serve(&self.layout, &mut reader, &mut writer).await
    }

    /// How far the versions are that are being fetched now.
    #[must_use]
    pub fn fetching(&self) -> watch::Receiver<BTreeMap<Blake3, Progress>> {
        self.progress.subscribe()
    }

    /// All versions that are here, in order.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub async fn list(&self) -> Result<Vec<Blake3>, ImageError> {
        let layout = self.layout.clone();
        blocking(move || layout.list()).await
    }

    /// Versions of which a part was fetched and that are not whole: their parts are kept to go on from, until
    /// [`Self::remove`].
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub async fn unfinished(&self) -> Result<Vec<Blake3>, ImageError> {
        let layout = self.layout.clone();
        blocking(move || layout.parts()).await
    }

    /// Removes a version as [`Self::remove`] does, unless it was taken in less than `idle` ago. False: it was.
    ///
    /// # Errors
    /// If some of it may still be there.
    pub async fn remove_idle(&self, version: Blake3, idle: Duration) -> Result<bool, ImageError> {
        let mut taken_in = self.taken_in.lock().await;
        taken_in.retain(|_, at| at.elapsed() < idle);
        if taken_in.contains_key(&version) {
            return Ok(false);
        }
        self.remove(version).await?;
        Ok(true)
    }

    /// Removes a version and every part of it; nothing happens if there is none. Disks that stand on it break: the
    /// caller knows that there are none.
    ///
    /// # Errors
    /// If some of it may still be there.
    pub async fn remove(&self, version: Blake3) -> Result<(), ImageError> {
        let turn = self.turn(version);
        let _turn = turn.lock().await;
        let layout = self.layout.clone();
        blocking(move || layout.remove(version)).await
    }

    /// The lock of a version. Entries that nobody holds any more are swept out on the way.
    fn turn(&self, version: Blake3) -> Arc<tokio::sync::Mutex<()>> {
        let mut fetching = self.fetching.lock().unwrap_or_else(PoisonError::into_inner);
        fetching.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = fetching.get(&version).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::default();
        fetching.insert(version, Arc::downgrade(&turn));
        turn
    }

    /// Where a version is, if it is here.
    async fn find(&self, version: Blake3) -> Result<Option<PathBuf>, ImageError> {
        let layout = self.layout.clone();
        blocking(move || Ok(layout.find(version).map(|(path, _)| path))).await
    }

    async fn fetch(&self, wanted: &TemplateVersion) -> Result<PathBuf, ImageError> {
        let (version, len) = (wanted.version, wanted.size.as_bytes());
        let (part, part_tree) = self.layout.part(version);
        let (tree, missing) = {
            let (layout, part, part_tree) = (self.layout.clone(), part.clone(), part_tree.clone());
            blocking(move || {
                let failed = |e| layout.write_error(&part, ByteSize::bytes(len), e);
                let tree = Tree::part(version, len, &part, &part_tree).map_err(failed)?;
                let missing = tree.missing().map_err(failed)?;
                layout.require(ByteSize::bytes(missing.iter().map(|range| range.end - range.start).sum()))?;
                Ok((tree, missing))
            })
            .await?
        };
        let absent: u64 = missing.iter().map(|range| range.end - range.start).sum();
        let _shown = Shown::new(
            &self.progress,
            version,
            Progress { done: ByteSize::bytes(len - absent), total: Some(wanted.size) },
        );
        let arrived = |bytes| {
            self.progress.send_modify(|all| {
                if let Some(progress) = all.get_mut(&version) {
                    progress.done = (progress.done + ByteSize::bytes(bytes)).min(wanted.size);
                }
            });
        };
        match fetch::fetch(version, tree, missing, &*self.peers, self.patience, &arrived).await {
            Ok(_) => {}
            Err(FetchError::Store { source, .. }) => return Err(self.layout.write_error(&part, wanted.size, source)),
            Err(other) => return Err(other.into()),
        }
        let seen = inspect(&self.tool, &part, self.limits.max_virtual_size).await?;
        if seen.format != wanted.format || seen.virtual_size != wanted.virtual_size {
            return Err(Refusal::OtherThanRecorded {
                found: format!("{:?} with a disk of {}", seen.format, seen.virtual_size),
                recorded: format!("{:?} with {}", wanted.format, wanted.virtual_size),
            }
            .into());
        }
        let layout = self.layout.clone();
        blocking(move || layout.publish(version, seen.format, &part, &part_tree)).await
    }
}

/// A line of progress that disappears with whoever makes it, also when that is cancelled.
struct Shown<'a> {
    all: &'a watch::Sender<BTreeMap<Blake3, Progress>>,
    version: Blake3,
}

impl<'a> Shown<'a> {
    fn new(all: &'a watch::Sender<BTreeMap<Blake3, Progress>>, version: Blake3, progress: Progress) -> Self {
        all.send_modify(|all| {
            all.insert(version, progress);
        });
        Self { all, version }
    }
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        self.all.send_modify(|all| {
            all.remove(&self.version);
        });
    }
}

#[async_trait]
impl ImageStore for Store {
    async fn ensure(&self, version: &TemplateVersion) -> Result<PathBuf, ImageError> {
        if let Some(path) = self.find(version.version).await? {
            return Ok(path);
        }
        let turn = self.turn(version.version);
        let _turn = turn.lock().await;
        match self.find(version.version).await? {
            Some(path) => Ok(path),
            None => self.fetch(version).await,
        }
    }

    async fn present(&self, version: Blake3) -> bool {
        matches!(self.find(version).await, Ok(Some(_)))
    }
}

#[cfg(test)]
mod tests;

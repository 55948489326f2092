//! The ports of the web, as small as they can be.

use super::NOW;
use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};
use tokio::sync::watch;
use waifud_api::vm::LastError;
use waifud_model::{
    digest::{Blake3, Sha256},
    ids::{TokenId, VmId},
    size::ByteSize,
    state::ClusterInfo,
    template::ImageFormat,
    time::Timestamp,
};
use waifud_web::ports::{
    Clock, ImageSource, Images, ImportError, Imported, JoinTokens, MintError, MintedToken, Observed, Observer, Random,
    Tasks,
};

#[derive(Debug)]
pub(crate) struct FakeObserver(watch::Receiver<Arc<Observed>>);

impl FakeObserver {
    pub(crate) fn new(observed: watch::Receiver<Arc<Observed>>) -> Self {
        Self(observed)
    }
}

impl Observer for FakeObserver {
    fn observed(&self) -> watch::Receiver<Arc<Observed>> {
        self.0.clone()
    }
}

/// Takes anything whose first byte is not `!`; a "disk" is ten times its bytes.
#[derive(Debug, Default)]
pub(crate) struct FakeImages {
    pub(crate) held: Mutex<BTreeSet<Blake3>>,
}

#[async_trait]
impl Images for FakeImages {
    async fn import(&self, source: ImageSource, expected: Option<Sha256>) -> Result<Imported, ImportError> {
        let bytes: Vec<u8> = match source {
            ImageSource::Upload(stream) => {
                let chunks: Vec<Bytes> = stream.try_collect().await.map_err(ImportError::BrokenOff)?;
                chunks.concat()
            }
            ImageSource::Url(url) => match url.strip_prefix("https://images.test/") {
                Some(path) => path.as_bytes().to_vec(),
                None => return Err(ImportError::Url(format!("{url} leads into the nodes' own networks"))),
            },
        };
        let sha256 = Sha256(*Blake3::of(&bytes).0.first_chunk().unwrap());
        if let Some(expected) = expected.filter(|expected| *expected != sha256) {
            return Err(ImportError::Checksum { expected, actual: sha256 });
        }
        if bytes.first().is_none_or(|first| *first == b'!') {
            return Err(ImportError::NotAnImage("it is empty or truncated".to_owned()));
        }
        let version = Blake3::of(&bytes);
        self.held.lock().unwrap().insert(version);
        let size = ByteSize::bytes(bytes.len() as u64);
        Ok(Imported { version, sha256, size, virtual_size: ByteSize::gib(2), format: ImageFormat::Raw })
    }

    async fn release(&self, version: Blake3) {
        self.held.lock().unwrap().remove(&version);
    }
}

#[derive(Debug, Default)]
pub(crate) struct FakeTasks {
    pub(crate) errors: Mutex<BTreeMap<VmId, LastError>>,
    pub(crate) broken: AtomicBool,
}

impl Tasks for FakeTasks {
    fn last_error(&self, vm: VmId) -> Option<LastError> {
        assert!(!self.broken.load(Ordering::SeqCst), "a fault of the program");
        self.errors.lock().unwrap().get(&vm).cloned()
    }
}

#[derive(Debug)]
pub(crate) struct FakeJoinTokens;

impl JoinTokens for FakeJoinTokens {
    fn mint(&self, id: TokenId, cluster: &ClusterInfo, addresses: &[SocketAddr]) -> Result<MintedToken, MintError> {
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        Ok(MintedToken { text: format!("{}/{id}/{}", cluster.id, addresses.join(",")), key: [3; 32] })
    }
}

#[derive(Debug)]
pub(crate) struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        NOW
    }
}

/// Counts instead of drawing, so that goldens hold.
#[derive(Debug)]
pub(crate) struct Counter(AtomicU64);

impl From<u64> for Counter {
    fn from(first: u64) -> Self {
        Self(AtomicU64::new(first))
    }
}

impl Random for Counter {
    fn fill(&self, bytes: &mut [u8]) {
        let count = self.0.fetch_add(1, Ordering::SeqCst);
        for (n, byte) in bytes.iter_mut().enumerate() {
            *byte = count.to_be_bytes()[n % 8];
        }
    }
}

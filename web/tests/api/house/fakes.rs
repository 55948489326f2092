//! The ports of the web, as small as they can be.

use super::NOW;
use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{mpsc, watch},
};
use waifud_api::{
    console::{FromConsole, LogsQuery, Seat},
    doctor::{Check, Finding},
    vm::Fetching,
};
use waifud_model::{
    digest::{Blake3, Sha256},
    ids::{TokenId, VmId},
    size::ByteSize,
    state::ClusterInfo,
    template::ImageFormat,
    time::Timestamp,
    vm::{Desired, Vm},
};
use waifud_web::console::{Attached, ConsoleError, Consoles, Heard, Line, Log, Said, Viewer};
use waifud_web::ports::{
    Clock, Doctor, ImageSource, Images, ImportError, Imported, JoinTokens, Known, MintError, MintedToken, Observed,
    Observer, PowerError, Random, Tasks,
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
    pub(crate) fetching: Mutex<BTreeMap<Blake3, Fetching>>,
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

    fn fetching(&self, version: Blake3) -> Option<Fetching> {
        self.fetching.lock().unwrap().get(&version).copied()
    }
}

#[derive(Debug, Default)]
pub(crate) struct FakeTasks {
    pub(crate) known: Mutex<BTreeMap<VmId, Known>>,
    /// What was done without the cluster.
    pub(crate) alone: Mutex<Vec<(VmId, Desired, Option<u32>)>>,
    pub(crate) broken: AtomicBool,
}

#[async_trait]
impl Tasks for FakeTasks {
    fn known(&self, vm: VmId) -> Option<Known> {
        assert!(!self.broken.load(Ordering::SeqCst), "a fault of the program");
        self.known.lock().unwrap().get(&vm).cloned()
    }

    async fn power(&self, vm: &Vm, desired: Desired, grace: Option<u32>) -> Result<(), PowerError> {
        let mut alone = self.alone.lock().unwrap();
        if desired == Desired::Paused && vm.desired == Desired::Stopped {
            let started = alone.iter().any(|(id, done, _)| (*id, *done) == (vm.id, Desired::Running));
            return Err(if started { PowerError::NotYet } else { PowerError::NotRunning });
        }
        alone.push((vm.id, desired, grace));
        Ok(())
    }
}

/// What a fake console does when it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Answers {
    #[default]
    Opens,
    Off,
    /// Not at all.
    Hangs,
}

/// Consoles that say who looks and give back what is typed, in capitals; screens that greet; a log that never changes.
#[derive(Debug, Default)]
pub(crate) struct FakeConsoles {
    pub(crate) answers: Mutex<Answers>,
    /// Sessions that have not ended.
    pub(crate) open: Arc<AtomicU64>,
}

/// What a fake guest wrote.
pub(crate) const LOG: &str = "boot\nlogin: ";

impl FakeConsoles {
    async fn answer(&self) -> Result<(), ConsoleError> {
        let answers = *self.answers.lock().unwrap();
        match answers {
            Answers::Opens => Ok(()),
            Answers::Off => Err(ConsoleError::Off),
            Answers::Hangs => std::future::pending().await,
        }
    }
}

#[async_trait]
impl Consoles for FakeConsoles {
    async fn attach(&self, _: VmId, viewer: Viewer) -> Result<Attached, ConsoleError> {
        self.answer().await?;
        let (say, output) = mpsc::channel(8);
        let (input, mut heard) = mpsc::channel(8);
        let open = Arc::clone(&self.open);
        open.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(async move {
            let Viewer { vm, who, .. } = viewer;
            let hello = FromConsole::Hello { vm, node: "owner".parse().unwrap(), seat: Seat::Taken { by: who } };
            say.send(Said::Told(hello)).await.unwrap();
            while let Some(heard) = heard.recv().await {
                let said = match heard {
                    Heard::Bytes(bytes) if &bytes[..] == b"end" => break,
                    Heard::Bytes(bytes) => Said::Bytes(bytes.to_ascii_uppercase().into()),
                    Heard::Told(told) => Said::Bytes(format!("{told:?}").into()),
                };
                if say.send(said).await.is_err() {
                    break;
                }
            }
            open.fetch_sub(1, Ordering::SeqCst);
        });
        Ok(Attached { output, input })
    }

    async fn screen(&self, _: VmId) -> Result<Box<dyn Line>, ConsoleError> {
        self.answer().await?;
        let (ours, mut guests) = tokio::io::duplex(64);
        tokio::spawn(async move {
            guests.write_all(b"RFB 003.008\n").await.unwrap();
            let mut version = [0; 12];
            guests.read_exact(&mut version).await.unwrap();
            guests.write_all(&version).await.unwrap();
        });
        Ok(Box::new(ours))
    }

    async fn log(&self, _: VmId, part: LogsQuery) -> Result<Log, ConsoleError> {
        self.answer().await?;
        let from = usize::try_from(part.from.unwrap_or(0)).unwrap();
        let bytes = Bytes::from_static(&LOG.as_bytes()[from..]);
        let bytes = stream::iter([Ok(bytes)]);
        // Nothing more is ever written.
        let bytes = if part.follow { bytes.chain(stream::pending()).boxed() } else { bytes.boxed() };
        Ok(Log { offset: from as u64, bytes })
    }
}

#[derive(Debug)]
pub(crate) struct FakeDoctor;

#[async_trait]
impl Doctor for FakeDoctor {
    async fn examine(&self) -> Vec<Finding> {
        vec![
            Finding::well(Check::Clock, "0.010 s ahead of the cluster's"),
            Finding::wrong(Check::Disk, "0 B of 100 GiB free", "guests are paused", "make room"),
        ]
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

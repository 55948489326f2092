//! Power without quorum: what this node was told to do with its own VMs while the cluster could not agree on it.
//!
//! In: wishes, each given on top of a generation of the VM's record. Out: records with the wishes laid over, for reconcile.
//! They are kept in a file, so that a restart does not bring a guest back that was stopped. Nothing here talks to the
//! cluster: [`reconcile with it`](super::override_keeper) is another's affair.
//!
//! ```text
//!   told here ──> kept, synced ──> laid over the record ──> agreed ──> let go when the guest is as wished
//!                                                     └───> somebody else decided meanwhile ──> dropped, and said
//! ```

use crate::{faults::lock, reconcile::Wanted};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};
use tempfile::NamedTempFile;
use tokio::sync::watch;
use waifud_consensus::Storage;
use waifud_model::{
    ids::{Generation, VmId},
    time::Timestamp,
    vm::{Desired, Vm},
};
use waifud_web::ports::PowerError;

/// A wish that was given here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Override {
    /// What is wanted.
    pub desired: Desired,
    /// How long its guest may take to go off, in seconds.
    pub grace: Option<u32>,
    /// The generation it was given on top of: with another one, somebody decided after it or without it.
    pub base: Generation,
    /// When, by this host's clock. A guest that was started before does not serve it.
    pub at: Timestamp,
}

/// The wishes of one node.
#[derive(Debug)]
pub struct Overrides {
    path: PathBuf,
    storage: Storage,
    /// What is in the file, too.
    kept: Mutex<BTreeMap<VmId, Override>>,
    /// One writer at a time; what it writes is what is kept when it begins.
    writing: tokio::sync::Mutex<()>,
    changed: watch::Sender<u64>,
}

/// Why the wishes cannot be kept.
#[derive(Debug, thiserror::Error)]
#[error("{path} cannot be used", path = path.display())]
pub struct OverridesError {
    path: PathBuf,
    source: io::Error,
}

impl Overrides {
    /// Reads what was kept in `path`, where `storage` writes.
    ///
    /// # Errors
    /// If there is a file that cannot be read: what people asked for is not to be forgotten in silence.
    pub fn open(path: PathBuf, storage: Storage) -> Result<Arc<Self>, OverridesError> {
        let kept = match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(io::Error::other),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(error) => Err(error),
        };
        let kept = kept.map_err(|source| OverridesError { path: path.clone(), source })?;
        let (kept, writing) = (Mutex::new(kept), tokio::sync::Mutex::default());
        Ok(Arc::new(Self { path, storage, kept, writing, changed: watch::Sender::new(0) }))
    }

    /// Keeps a wish, in place of an earlier one. When this returns it outlives a power cut.
    ///
    /// # Errors
    /// If it cannot be written; then it does not count.
    pub async fn give(&self, vm: VmId, wish: Override) -> Result<(), OverridesError> {
        self.write(|kept| {
            kept.insert(vm, wish);
        })
        .await
    }

    /// Lets a wish go, if it is still this one.
    ///
    /// # Errors
    /// If that cannot be written; then it still counts.
    pub(super) async fn let_go(&self, vm: VmId, wish: &Override) -> Result<(), OverridesError> {
        self.write(|kept| {
            if kept.get(&vm) == Some(wish) {
                kept.remove(&vm);
            }
        })
        .await
    }

    async fn write(&self, change: impl FnOnce(&mut BTreeMap<VmId, Override>)) -> Result<(), OverridesError> {
        let _turn = self.writing.lock().await;
        let mut next = lock(&self.kept).clone();
        change(&mut next);
        let (path, content) = (self.path.clone(), next.clone());
        let written = match self.storage {
            Storage::Threads => tokio::task::spawn_blocking(move || save(&path, &content, true)).await,
            Storage::Inline { durable } => Ok(save(&path, &content, durable)),
        };
        written
            .unwrap_or_else(|died| Err(io::Error::other(died)))
            .map_err(|source| OverridesError { path: self.path.clone(), source })?;
        *lock(&self.kept) = next;
        self.changed.send_modify(|count| *count += 1);
        Ok(())
    }

    /// Moves whenever a wish comes or goes.
    pub(super) fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The wish for a VM.
    pub(super) fn of(&self, vm: VmId) -> Option<Override> {
        lock(&self.kept).get(&vm).copied()
    }

    /// All wishes.
    #[must_use]
    pub fn all(&self) -> BTreeMap<VmId, Override> {
        lock(&self.kept).clone()
    }

    /// What is wanted of a VM, here and now.
    pub(super) fn wanted(&self, mut wanted: Wanted) -> Wanted {
        if let Some(wish) = self.of(wanted.vm.id).filter(|wish| wish.base == wanted.vm.generation) {
            (wanted.vm.desired, wanted.vm.grace) = (wish.desired, wish.grace);
            wanted.wished_at = Some(wish.at);
        }
        wanted
    }

    /// May this be wished for without the cluster? Only what the cluster will agree to, if nobody changes the VM meanwhile.
    ///
    /// # Errors
    /// If not.
    pub fn fits(&self, vm: &Vm, desired: Desired) -> Result<(), PowerError> {
        match (desired, self.desired(vm), vm.desired) {
            (Desired::Paused, Desired::Stopped, _) => Err(PowerError::NotRunning),
            // It knows of no start that the guest could be paused after.
            (Desired::Paused, _, Desired::Stopped) => Err(PowerError::NotYet),
            _ => Ok(()),
        }
    }

    /// What the owner is to do with a VM: its record's word, or the wish on top of it.
    #[must_use]
    fn desired(&self, vm: &Vm) -> Desired {
        self.of(vm.id).filter(|wish| wish.base == vm.generation).map_or(vm.desired, |wish| wish.desired)
    }
}

/// Under another name first: a power cut leaves the old file or the new one.
fn save(path: &Path, kept: &BTreeMap<VmId, Override>, durable: bool) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    let mut file = NamedTempFile::new_in(dir)?;
    file.write_all(&serde_json::to_vec_pretty(kept).map_err(io::Error::other)?)?;
    if !durable {
        return file.persist(path).map(drop).map_err(|error| error.error);
    }
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::samples;

    const WISH: Override =
        Override { desired: Desired::Stopped, grace: Some(5), base: Generation(3), at: Timestamp(1_000) };

    fn open(path: PathBuf) -> Result<Arc<Overrides>, OverridesError> {
        Overrides::open(path, Storage::Threads)
    }

    #[tokio::test]
    async fn wishes_outlive_a_restart_and_go_only_as_themselves() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("overrides.json");
        let vm = VmId::from_random([1; 16]);
        let overrides = open(path.clone()).unwrap();
        overrides.give(vm, WISH).await.unwrap();
        let again = open(path.clone()).unwrap();
        assert_eq!(again.of(vm), Some(WISH));
        // A newer wish is not let go with the one before it.
        let newer = Override { desired: Desired::Running, at: Timestamp(2_000), ..WISH };
        again.give(vm, newer).await.unwrap();
        again.let_go(vm, &WISH).await.unwrap();
        assert_eq!(open(path.clone()).unwrap().of(vm), Some(newer));
        again.let_go(vm, &newer).await.unwrap();
        assert_eq!(open(path).unwrap().all(), BTreeMap::new());
    }

    #[tokio::test]
    async fn a_wish_that_cannot_be_written_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let overrides = open(dir.path().join("overrides.json")).unwrap();
        let vm = VmId::from_random([1; 16]);
        dir.close().unwrap();
        let error = overrides.give(vm, WISH).await.unwrap_err();
        assert!(error.to_string().ends_with("overrides.json cannot be used"), "{error}");
        assert_eq!(overrides.of(vm), None);
    }

    #[test]
    fn a_file_that_does_not_read_is_not_taken_for_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("overrides.json");
        fs::write(&path, "{").unwrap();
        assert!(open(path).is_err());
    }

    #[tokio::test]
    async fn only_what_the_cluster_will_agree_to_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let overrides = open(dir.path().join("overrides.json")).unwrap();
        let off = Vm { desired: Desired::Stopped, ..samples::vm(1) };
        assert!(matches!(overrides.fits(&off, Desired::Paused), Err(PowerError::NotRunning)));
        overrides.fits(&off, Desired::Running).unwrap();
        let started = Override { desired: Desired::Running, base: off.generation, ..WISH };
        overrides.give(off.id, started).await.unwrap();
        let early = overrides.fits(&off, Desired::Paused);
        assert!(matches!(early, Err(PowerError::NotYet)), "the record knows of no start: {early:?}");
        overrides.fits(&off, Desired::Stopped).unwrap();
        let on = Vm { desired: Desired::Running, ..off };
        overrides.fits(&on, Desired::Paused).unwrap();
    }

    #[tokio::test]
    async fn a_wish_is_laid_over_the_generation_it_was_given_on_only() {
        let dir = tempfile::tempdir().unwrap();
        let overrides = open(dir.path().join("overrides.json")).unwrap();
        let record = samples::vm(1);
        let wanted =
            |generation| Wanted { vm: Vm { generation, ..record.clone() }, image: None, cd: None, wished_at: None };
        overrides.give(record.id, WISH).await.unwrap();
        let over = overrides.wanted(wanted(Generation(3)));
        assert_eq!((over.vm.desired, over.vm.grace, over.wished_at), (Desired::Stopped, Some(5), Some(WISH.at)));
        assert_eq!(over.vm.generation, Generation(3));
        for other in [Generation(2), Generation(4)] {
            assert_eq!(overrides.wanted(wanted(other)), wanted(other));
        }
    }
}

//! The log and the state machine together: openraft's own suite, and what it does not ask.

use super::*;
use crate::{config::Storage, database::Halted, log::LogStore};
use openraft::{
    StorageError,
    testing::log::{StoreBuilder, Suite},
};
use std::path::Path;
use tempfile::TempDir;

fn open(dir: &Path, storage: Storage) -> (LogStore, StateMachine) {
    let halted = Halted::default();
    let log = LogStore::open(dir, storage, halted.clone()).unwrap();
    let state = AppliedState::open(dir, storage, halted).unwrap();
    let snapshots = Snapshots::open(dir.join("snapshots"), storage).unwrap();
    (log, StateMachine::new(state, snapshots))
}

struct Builder(Storage);

impl StoreBuilder<Types, LogStore, StateMachine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, StateMachine), StorageError<Types>> {
        let dir = tempfile::tempdir().unwrap();
        let (log, machine) = open(dir.path(), self.0);
        Ok((dir, log, machine))
    }
}

#[tokio::test]
async fn openraft_finds_nothing_wrong_with_the_storage() {
    Suite::test_all(Builder(Storage::Threads)).await.unwrap();
}

#[tokio::test]
async fn openraft_finds_nothing_wrong_with_inline_storage() {
    Suite::test_all(Builder(Storage::Inline { durable: false })).await.unwrap();
}

//! The log and the state machine together: openraft's own suite, and what it does not ask.

use super::*;
use crate::raft::types::{LeaderId, Logged};
use crate::{config::Storage, database::Halted, log::LogStore};
use openraft::{EntryPayload, vote::RaftLeaderId};
use openraft::{
    StorageError,
    testing::log::{StoreBuilder, Suite},
};
use std::path::Path;
use tempfile::TempDir;
use waifud_model::ids::NodeId;

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

fn entry(index: u64, payload: EntryPayload<Logged, NodeId, ()>) -> Entry {
    Entry { log_id: LogId::new(LeaderId::new(1, NodeId::from_random(1)), index), payload }
}

#[tokio::test]
async fn a_command_that_does_not_read_stops_the_node_and_is_not_skipped() {
    for storage in [Storage::Threads, Storage::Inline { durable: false }] {
        let dir = tempfile::tempdir().unwrap();
        let halted = Halted::default();
        let state = AppliedState::open(dir.path(), storage, halted.clone()).unwrap();
        state.apply(vec![entry(0, EntryPayload::Blank)]).await.unwrap();
        let before = state.progress();
        let unknown = EntryPayload::Normal(Logged::from(b"from the future".to_vec()));
        let batch = vec![entry(1, EntryPayload::Blank), entry(2, unknown), entry(3, EntryPayload::Blank)];
        let error = state.apply(batch).await.unwrap_err();
        assert!(matches!(*error, DatabaseError::Apply { index: 2, .. }), "{error:?}");
        assert!(halted.get().unwrap().starts_with("the entry at index 2 cannot be applied"), "{halted:?}");
        assert_eq!(state.progress(), before, "nothing of the batch is applied");
        let error = state.apply(vec![entry(3, EntryPayload::Blank)]).await.unwrap_err();
        assert!(matches!(*error, DatabaseError::Stopped { .. }), "{error:?}");
        state.close().await;
        drop(state);
        let state = AppliedState::open(dir.path(), storage, Halted::default()).unwrap();
        assert_eq!(state.progress(), before, "nor after a restart");
    }
}

//! The state machine as openraft sees it: apply, build a snapshot, install one.

use super::{
    applied::AppliedState,
    types::{Entry, LogId, SnapshotMeta, StoredMembership, Types},
};
use crate::{
    database::{DatabaseError, chain},
    snapshot::{SnapshotFile, Snapshots},
};
use futures::{Stream, StreamExt};
use openraft::{
    OptionalSend, RaftSnapshotBuilder, Snapshot,
    storage::{EntryResponder, RaftStateMachine},
};
use std::{io, sync::Arc};

/// At most so many entries are applied in one transaction: those who wait for the first must not wait for thousands.
const BATCH: usize = 256;

/// The applied state and its snapshots.
#[derive(Debug, Clone)]
pub(crate) struct StateMachine {
    state: AppliedState,
    snapshots: Snapshots,
}

impl StateMachine {
    pub(crate) const fn new(state: AppliedState, snapshots: Snapshots) -> Self {
        Self { state, snapshots }
    }
}

impl RaftStateMachine<Types> for StateMachine {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let progress = self.state.progress();
        Ok((progress.last, progress.membership))
    }

    async fn apply<S>(&mut self, entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        let mut batches = entries.ready_chunks(BATCH);
        while let Some(batch) = batches.next().await {
            let batch = batch.into_iter().collect::<io::Result<Vec<_>>>()?;
            let (entries, responders): (Vec<Entry>, Vec<_>) = batch.into_iter().unzip();
            let outcomes = self.state.apply(entries).await.map_err(io_error)?;
            for (responder, outcome) in responders.into_iter().zip(outcomes) {
                if let Some(responder) = responder {
                    responder.send(outcome);
                }
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(&mut self, _: &SnapshotMeta, snapshot: SnapshotFile) -> io::Result<()> {
        self.state.install(self.snapshots.clone(), snapshot).await.map_err(io_error)
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot<LeaderOf, NodeOf, (), SnapshotFile>>> {
        Ok(self.snapshots.current().map(|snapshot| Snapshot { meta: snapshot.meta().clone(), snapshot }))
    }
}

type LeaderOf = super::types::LeaderId;
type NodeOf = waifud_model::ids::NodeId;

impl RaftSnapshotBuilder<Types> for StateMachine {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot<LeaderOf, NodeOf, (), SnapshotFile>> {
        let (path, snapshots) = (self.state.path().to_owned(), self.snapshots.clone());
        let snapshot =
            self.state.readers().run(move |db| -> Result<_, DatabaseError> { snapshots.build(db, &path) }).await?;
        Ok(Snapshot { meta: snapshot.meta().clone(), snapshot })
    }
}

fn io_error(error: Arc<DatabaseError>) -> io::Error {
    io::Error::other(chain(&*error))
}

#[cfg(test)]
mod tests;

//! openraft's network on top of the [`Transport`]: encode, call, decode, and say what kind of failure it was.

use super::{
    patience,
    types::{LeaderId, SnapshotMeta, Types, Vote},
    wire::{self, Answered, Message, SnapshotAnswer},
};
use crate::{
    liveness::Liveness,
    snapshot::{SnapshotFile, SnapshotHeader},
    transport::{RpcKind, Transport},
};
use openraft::{
    OptionalSend, RaftNetworkFactory, Snapshot,
    errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable},
    network::{Backoff, RPCOption, v2::RaftNetworkV2},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse,
        VoteRequest, VoteResponse,
    },
};
use std::{future::Future, io, sync::Arc, time::Duration};
use tokio::sync::watch;
use waifud_model::ids::NodeId;

type Failed = RPCError<Types>;

/// Makes clients.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    transport: Arc<dyn Transport>,
    liveness: watch::Receiver<Liveness>,
}

impl Network {
    pub(crate) fn new(transport: Arc<dyn Transport>, liveness: watch::Receiver<Liveness>) -> Self {
        Self { transport, liveness }
    }
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Client;

    async fn new_client(&mut self, target: NodeId, (): &()) -> Client {
        Client { target, transport: self.transport.clone(), liveness: self.liveness.clone() }
    }
}

/// Talks to one node.
#[derive(Debug)]
pub(crate) struct Client {
    target: NodeId,
    transport: Arc<dyn Transport>,
    liveness: watch::Receiver<Liveness>,
}

impl Client {
    async fn call<M: Message>(&self, kind: RpcKind, message: &M, timeout: Duration) -> Result<M::Answer, Failed> {
        let body = wire::pack(message).map_err(|error| NetworkError::new(&error))?;
        // Whatever keeps the answer away, the peer is not there for now: openraft must back off, not hurry.
        let answer = tokio::time::timeout(timeout, self.transport.call(self.target, kind, body, timeout))
            .await
            .map_err(|late| Unreachable::new(&late))?
            .map_err(|error| Unreachable::new(&error))?;
        let answer: Answered<M::Answer> = wire::unpack(&answer).map_err(|error| NetworkError::new(&error))?;
        answer.map_err(|why| Unreachable::new(&io::Error::other(why)).into())
    }

    async fn send(
        &self,
        vote: Vote,
        snapshot: &SnapshotFile,
        meta: SnapshotMeta,
    ) -> Result<SnapshotResponse<Types>, Failed> {
        let header = SnapshotHeader { vote, meta, bytes: snapshot.bytes(), digest: snapshot.digest() };
        let header = wire::pack(&header).map_err(|error| NetworkError::new(&error))?;
        let answer = self
            .transport
            .send_snapshot(self.target, header, snapshot.path().to_owned())
            .await
            .map_err(|error| Unreachable::new(&error))?;
        let answer: SnapshotAnswer = wire::unpack(&answer).map_err(|error| NetworkError::new(&error))?;
        answer.map_err(|why| Unreachable::new(&io::Error::other(why)).into())
    }
}

impl RaftNetworkV2<Types> for Client {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, Failed> {
        self.call(RpcKind::AppendEntries, &request, option.hard_ttl()).await
    }

    async fn vote(&mut self, request: VoteRequest<Types>, option: RPCOption) -> Result<VoteResponse<Types>, Failed> {
        self.call(RpcKind::Vote, &request, option.hard_ttl()).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, Failed> {
        self.call(RpcKind::PreVote, &request, option.hard_ttl()).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot<LeaderId, NodeId, (), SnapshotFile>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let Snapshot { meta, snapshot } = snapshot;
        let send = async {
            patience::heard(self.target, self.liveness.clone()).await;
            tokio::time::timeout(option.hard_ttl(), self.send(vote, &snapshot, meta)).await
        };
        tokio::select! {
            biased;
            closed = cancel => Err(closed.into()),
            sent = send => match sent {
                Ok(sent) => sent.map_err(StreamingError::from),
                Err(late) => Err(Unreachable::new(&late).into()),
            },
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, Failed> {
        self.call(RpcKind::TransferLeader, &request, option.hard_ttl()).await
    }

    fn backoff(&self) -> Option<Backoff> {
        Some(patience::pauses(self.target, self.liveness.clone()))
    }
}

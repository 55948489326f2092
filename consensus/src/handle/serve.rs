//! Answering other nodes. The transport has told who asks; here it is checked that they speak for themselves.

use super::{Handle, ServeError};
use crate::{
    raft::{
        types::{Types, Vote},
        wire::{self, Answered, Proposal, ProposalAnswer, SnapshotAnswer, WireError},
    },
    snapshot::SnapshotHeader,
    transport::RpcKind,
};
use bytes::Bytes;
use openraft::{
    Snapshot,
    raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, VoteRequest},
};
use std::fmt::Display;
use tokio::{io::AsyncRead, time::timeout};
use waifud_model::{command::Actor, ids::NodeId};

impl From<WireError> for ServeError {
    fn from(error: WireError) -> Self {
        Self::Message(error.into())
    }
}

impl Handle {
    /// Answers a [`Transport::call`](crate::Transport::call) of `from`.
    ///
    /// # Errors
    /// If the request does not read, or `from` speaks for somebody else. The caller closes the stream.
    pub async fn serve_call(&self, from: NodeId, kind: RpcKind, body: Bytes) -> Result<Bytes, ServeError> {
        let raft = &self.inner.raft;
        let answer = match kind {
            RpcKind::AppendEntries => {
                let request: AppendEntriesRequest<Types> = wire::unpack(&body)?;
                own_vote(from, &request.vote)?;
                wire::pack(&self.answered(raft.append_entries(request).await))
            }
            RpcKind::Vote => {
                let request: VoteRequest<Types> = wire::unpack(&body)?;
                own_vote(from, &request.vote)?;
                wire::pack(&self.answered(raft.vote(request).await))
            }
            RpcKind::PreVote => {
                let request: VoteRequest<Types> = wire::unpack(&body)?;
                own_vote(from, &request.vote)?;
                wire::pack(&self.answered(raft.pre_vote(request).await))
            }
            RpcKind::TransferLeader => {
                let request: TransferLeaderRequest<Types> = wire::unpack(&body)?;
                own_vote(from, request.from_leader())?;
                wire::pack(&self.answered(raft.handle_transfer_leader(request).await))
            }
            RpcKind::Propose => {
                let proposal: Proposal = wire::unpack_named(&body)?;
                own_account(from, &proposal.actor)?;
                let id = proposal.request_id.clone();
                let answer = self.serve_proposal(proposal).await;
                if let Some(id) = id {
                    tracing::debug!(%id, %from, index = answer.index(), "a proposal of another node was answered");
                }
                wire::pack_named(&answer)
            }
            RpcKind::ReadIndex => wire::pack_named(&self.read_index().await),
        };
        Ok(answer?)
    }

    /// Answers a [`Transport::send_snapshot`](crate::Transport::send_snapshot) of `from`: takes the file, then installs it.
    ///
    /// # Errors
    /// If the header does not read, or `from` speaks for somebody else. A file that cannot be taken is an answer, not an error.
    pub async fn serve_snapshot(
        &self,
        from: NodeId,
        header: Bytes,
        reader: impl AsyncRead + Unpin + Send,
    ) -> Result<Bytes, ServeError> {
        let header: SnapshotHeader = wire::unpack(&header)?;
        own_vote(from, &header.vote)?;
        let answer: SnapshotAnswer = match self.inner.snapshots.receive(&header, reader).await {
            Ok(snapshot) => match self.without_snapshot(&header).await {
                Some(answer) => Ok(answer),
                None => {
                    let snapshot = Snapshot { meta: header.meta, snapshot };
                    self.answered(self.inner.raft.install_full_snapshot(header.vote, snapshot).await)
                }
            },
            Err(error) => {
                tracing::warn!(%from, error = crate::database::chain(&error), "a snapshot was not taken");
                Err(error.to_string())
            }
        };
        Ok(wire::pack(&answer)?)
    }

    /// As the leader. The one who asks gives up after the same time.
    async fn serve_proposal(&self, proposal: Proposal) -> ProposalAnswer {
        let lead = self.lead(proposal);
        timeout(self.inner.config.timing.answer_within, lead).await.unwrap_or(ProposalAnswer::Unknown)
    }

    /// The answer to a snapshot that ends where this node's log already goes on: what it would bring is here, entry by entry
    /// (Raft's log matching property), so the log's word is enough and nothing is replaced.
    ///
    /// Such a snapshot is one that was overtaken on its way, or sent again because its answer was lost. openraft would take
    /// its position for the newest one submitted, and that position must not go back.
    async fn without_snapshot(&self, header: &SnapshotHeader) -> Option<SnapshotResponse<Types>> {
        let last = header.meta.last_log_id?;
        let probe = AppendEntriesRequest {
            vote: header.vote,
            prev_log_id: Some(last),
            entries: Vec::new(),
            // What is in a snapshot was committed.
            leader_commit: Some(last),
        };
        match self.inner.raft.append_entries(probe).await {
            Ok(AppendEntriesResponse::Success) => Some(SnapshotResponse::new(header.vote)),
            Ok(AppendEntriesResponse::HigherVote(vote)) => Some(SnapshotResponse::new(vote)),
            // The log does not reach so far, or disagrees; or Raft has ended, which the installation will say.
            Ok(AppendEntriesResponse::PartialSuccess(_) | AppendEntriesResponse::Conflict) | Err(_) => None,
        }
    }

    fn answered<T, E: Display>(&self, result: Result<T, E>) -> Answered<T> {
        result.map_err(|error| self.why(&error))
    }
}

/// Votes are for oneself.
fn own_vote(from: NodeId, vote: &Vote) -> Result<(), ServeError> {
    own(from, vote.leader_id.node_id)
}

/// A node proposes on its own account only for itself. People's requests may have come through several nodes.
fn own_account(from: NodeId, actor: &Actor) -> Result<(), ServeError> {
    match actor {
        Actor::Node(claimed) => own(from, *claimed),
        Actor::Local { .. } | Actor::Token(_) => Ok(()),
    }
}

fn own(from: NodeId, claimed: NodeId) -> Result<(), ServeError> {
    if from == claimed { Ok(()) } else { Err(ServeError::Impostor { from, claimed }) }
}

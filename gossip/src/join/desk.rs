//! The member's side of a join.
//!
//! This module checks proofs and signs; what a token is worth, which id a machine gets, and the commit itself are the
//! node's business, behind [`JoinDesk`].

use super::{
    proof::{self, Direction, ProofError},
    wire::{Answer, Facts, REQUEST_MAX, Request, Welcome},
};
use crate::{
    identity::{Ca, NodePublicKey},
    table::PeerTable,
};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::{
    net::SocketAddr,
    time::{Duration, SystemTime},
};
use tokio::time::timeout;
use waifud_model::{
    digest::Fingerprint,
    ids::{NodeId, TokenId},
    name::NodeName,
    node::Capacity,
};

/// How long the whole of a join may take here; most of it is the commit.
const JOIN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the request may take to arrive: until then it could be anybody.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the joiner may take to fetch the answer.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// Who wants to join, as far as it has been checked: it holds the private half of the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applicant {
    /// The name it wants.
    pub name: NodeName,
    /// Where peers are to reach it. If it did not know its own address, this is where it was seen.
    pub advertise: SocketAddr,
    /// What it can give.
    pub capacity: Capacity,
    /// Its key.
    pub fingerprint: Fingerprint,
}

/// What is needed to sign.
#[derive(Debug)]
pub struct Prepared {
    /// The id the applicant is to have.
    pub node: NodeId,
    /// The cluster's CA, out of the replicated state.
    pub ca: Ca,
}

/// What a new member is told.
#[derive(Debug, Clone)]
pub struct Admission {
    /// The id it has.
    pub node: NodeId,
    /// All members, itself included.
    pub peers: PeerTable,
    /// Whatever else the node wants to hand over; opaque here.
    pub extra: Vec<u8>,
}

/// Why a machine is not let in. Goes over the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum JoinRefusal {
    /// No such token, or it was revoked. A member whose replica is behind says this too.
    #[error("the join token is unknown here, or was revoked")]
    UnknownToken,
    /// Past its time.
    #[error("the join token has expired; make a new one with `waifuctl cluster token create`")]
    Expired,
    /// All its uses are taken.
    #[error("the join token is used up; make a new one with `waifuctl cluster token create`")]
    UsedUp,
    /// The secret is not the token's.
    #[error("the join token's secret is wrong")]
    WrongSecret,
    /// The request does not read.
    #[error("the request to join cannot be used: {0}")]
    BadRequest(String),
    /// The name, the address or the like is taken.
    #[error("{0}")]
    Conflict(String),
    /// The cluster cannot let anyone in at this moment.
    #[error("the cluster cannot take a new node now: {0}")]
    Unavailable(String),
}

impl JoinRefusal {
    /// True if another member would say the same, so that asking it is of no use.
    #[must_use]
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::UnknownToken | Self::Unavailable(_))
    }
}

/// Decides who becomes a member. Implemented by the node, over the replicated state.
///
/// The three are called in order, for each request anew. Requests may repeat and may come to two members at once.
#[async_trait]
pub trait JoinDesk: Send + Sync + 'static {
    /// The key of `token`, also when it has expired or is used up: that only counts against machines that are not
    /// members yet, which [`prepare`](Self::prepare) can tell and this cannot.
    async fn token_key(&self, token: TokenId) -> Result<[u8; 32], JoinRefusal>;

    /// Chooses the applicant's id: that of the member who has its key already, otherwise, if `token` is good for
    /// another node, a fresh one. Changes nothing.
    async fn prepare(&self, token: TokenId, applicant: &Applicant) -> Result<Prepared, JoinRefusal>;

    /// Makes the applicant a member and answers after the commit. If there is a member with its key already, possibly
    /// by another id, it answers with that one and commits nothing.
    async fn admit(&self, token: TokenId, node: NodeId, applicant: &Applicant) -> Result<Admission, JoinRefusal>;
}

/// Serves one connection of a machine that wants to join.
pub(crate) async fn serve(connection: &quinn::Connection, desk: &dyn JoinDesk) {
    let remote = connection.remote_address();
    match timeout(JOIN_TIMEOUT, exchange(connection, desk)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::info!(%remote, %error, "a join broke off"),
        Err(_) => tracing::info!(%remote, "a join took too long"),
    }
}

/// Why there is nobody left to answer.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("no request came")]
    Silent(#[from] tokio::time::error::Elapsed),
    #[error("the connection ended")]
    Connection(#[from] quinn::ConnectionError),
    #[error("the request did not arrive")]
    Read(#[from] quinn::ReadToEndError),
    #[error("the answer could not be sent")]
    Write(#[from] quinn::WriteError),
    #[error("the answer could not be finished")]
    Closed(#[from] quinn::ClosedStream),
    #[error("the answer could not be encoded")]
    Encode(#[from] postcard::Error),
}

async fn exchange(connection: &quinn::Connection, desk: &dyn JoinDesk) -> Result<(), Broken> {
    let (mut send, request) = timeout(REQUEST_TIMEOUT, request(connection)).await??;
    let answer = match decide(connection, desk, &request).await {
        Ok(admitted) => admitted,
        Err(refusal) => {
            tracing::warn!(remote = %connection.remote_address(), %refusal, "a join was refused");
            Answer::Refused(refusal)
        }
    };
    send.write_all(&postcard::to_stdvec(&answer)?).await?;
    send.finish()?;
    // The connection is closed after this returns: not before the answer is there, or it would be lost.
    let _ = timeout(FETCH_TIMEOUT, send.stopped()).await;
    Ok(())
}

async fn request(connection: &quinn::Connection) -> Result<(quinn::SendStream, Vec<u8>), Broken> {
    let (send, mut recv) = connection.accept_bi().await?;
    Ok((send, recv.read_to_end(REQUEST_MAX).await?))
}

async fn decide(connection: &quinn::Connection, desk: &dyn JoinDesk, request: &[u8]) -> Result<Answer, JoinRefusal> {
    let bad = |what: &str| JoinRefusal::BadRequest(what.to_owned());
    let request: Request = postcard::from_bytes(request).map_err(|_| bad("it does not read"))?;
    let key = desk.token_key(request.token).await?;
    proof::check(connection, Direction::Request, &key, &request.facts, &request.proof).map_err(|e| match e {
        ProofError::Wrong => JoinRefusal::WrongSecret,
        ProofError::Session => JoinRefusal::Unavailable(e.to_string()),
    })?;

    let facts: Facts = postcard::from_bytes(&request.facts).map_err(|_| bad("its facts do not read"))?;
    let public = NodePublicKey::from_signing_request(&facts.signing_request).map_err(|e| bad(&e.to_string()))?;
    let applicant = Applicant {
        name: facts.name,
        advertise: known_address(facts.advertise, connection.remote_address()),
        capacity: facts.capacity,
        fingerprint: public.fingerprint(),
    };
    let sign =
        |ca: &Ca, node| ca.sign(&public, node, SystemTime::now()).map_err(|e| JoinRefusal::Unavailable(e.to_string()));

    let Prepared { node, ca } = desk.prepare(request.token, &applicant).await?;
    let mut certificate = sign(&ca, node)?;
    let Admission { node: admitted, peers, extra } = desk.admit(request.token, node, &applicant).await?;
    if admitted != node {
        // The same machine was let in through another member at the same moment.
        certificate = sign(&ca, admitted)?;
    }
    let welcome = Welcome { node: admitted, certificate, ca: ca.certificate().to_vec(), peers, extra };
    let unavailable = |e: &dyn std::fmt::Display| JoinRefusal::Unavailable(e.to_string());
    let welcome = postcard::to_stdvec(&welcome).map_err(|e| unavailable(&e))?;
    let proof = proof::prove(connection, Direction::Welcome, &key, &welcome).map_err(|e| unavailable(&e))?;
    tracing::info!(node = %admitted, name = %applicant.name, address = %applicant.advertise, "a node joined");
    Ok(Answer::Admitted { proof, welcome })
}

/// A machine that does not know its own address says the unspecified one, and its port.
fn known_address(claimed: SocketAddr, seen: SocketAddr) -> SocketAddr {
    if claimed.ip().is_unspecified() { SocketAddr::new(seen.ip().to_canonical(), claimed.port()) } else { claimed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_unknown_address_is_filled_in() {
        let seen: SocketAddr = "[::ffff:10.0.0.7]:50000".parse().unwrap();
        let filled = known_address("0.0.0.0:7400".parse().unwrap(), seen);
        assert_eq!(filled, "10.0.0.7:7400".parse().unwrap());
        assert_eq!(known_address("[::]:7400".parse().unwrap(), seen), filled);
        let claimed = "192.168.1.2:7400".parse().unwrap();
        assert_eq!(known_address(claimed, seen), claimed);
    }

    #[test]
    fn another_member_is_asked_only_where_it_may_know_better() {
        assert!(!JoinRefusal::UnknownToken.is_final());
        assert!(!JoinRefusal::Unavailable("no quorum".into()).is_final());
        assert!(JoinRefusal::WrongSecret.is_final());
        assert!(JoinRefusal::Expired.is_final());
    }
}

//! Lets machines join: decides what a token is worth and makes its bearer a member, by the replicated state.
//!
//! In: requests that gossip has checked the proof of. Out: a committed [`AddNode`], and what the new member has to know.
//! Any node does this, also one that did not issue the token.

use super::{membership, random};
use async_trait::async_trait;
use waifud_consensus::{Handle, Proposal, ProposeError};
use waifud_gossip::{
    identity::Ca,
    join::{Admission, Applicant, JoinDesk, JoinRefusal, JoinToken, Prepared, SECRET_LEN},
};
use waifud_model::{
    command::{Actor, AddNode, Command, NewNode, Origin, Reply, RequestKey},
    digest::{Blake3, Fingerprint},
    ids::{NodeId, TokenId},
    reject::Reject,
    state::ClusterInfo,
    time::Timestamp,
};
use waifud_web::ports::{JoinTokens, MintError, MintedToken};

/// The desk of one node.
pub(super) struct Desk {
    me: NodeId,
    consensus: Handle,
    now: fn() -> Timestamp,
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk").field("me", &self.me).finish_non_exhaustive()
    }
}

impl Desk {
    /// At `me`, over its replica; `now` is the wall clock.
    #[must_use]
    pub(super) fn new(me: NodeId, consensus: Handle, now: fn() -> Timestamp) -> Self {
        Self { me, consensus, now }
    }

    async fn member_with(&self, fingerprint: Fingerprint) -> Result<Option<NodeId>, JoinRefusal> {
        let nodes = self.consensus.read(|view| view.nodes()).await.map_err(|e| unavailable(&e))?;
        Ok(nodes.iter().find(|node| node.fingerprint == fingerprint).map(|node| node.id))
    }

    async fn admission(&self, node: NodeId) -> Result<Admission, JoinRefusal> {
        let peers = membership::replicated_table(&self.consensus).await.map_err(|e| unavailable(&e))?;
        if !peers.contains_key(&node) {
            return Err(JoinRefusal::Unavailable("this member's copy of the state is behind".to_owned()));
        }
        Ok(Admission { node, peers, extra: Vec::new() })
    }
}

fn unavailable(error: &dyn std::fmt::Display) -> JoinRefusal {
    JoinRefusal::Unavailable(error.to_string())
}

#[async_trait]
impl JoinDesk for Desk {
    async fn token_key(&self, token: TokenId) -> Result<[u8; 32], JoinRefusal> {
        let tokens = self.consensus.read(|view| view.join_tokens()).await.map_err(|e| unavailable(&e))?;
        tokens.into_iter().find(|t| t.id == token).map(|t| t.key).ok_or(JoinRefusal::UnknownToken)
    }

    async fn prepare(&self, token: TokenId, applicant: &Applicant) -> Result<Prepared, JoinRefusal> {
        let (cluster, tokens) = self
            .consensus
            .read(|view| Ok((view.cluster()?, view.join_tokens()?)))
            .await
            .map_err(|e| unavailable(&e))?;
        let cluster = cluster.ok_or_else(|| unavailable(&"this member knows no cluster yet"))?;
        let node = match self.member_with(applicant.fingerprint).await? {
            Some(member) => member,
            None => {
                let token = tokens.into_iter().find(|t| t.id == token).ok_or(JoinRefusal::UnknownToken)?;
                if (self.now)() >= token.expires_at {
                    return Err(JoinRefusal::Expired);
                }
                if token.uses_left == 0 {
                    return Err(JoinRefusal::UsedUp);
                }
                NodeId::from_random(u64::from_be_bytes(random::bytes()))
            }
        };
        let ca = Ca::from_der(&cluster.ca_cert, &cluster.ca_key).map_err(|e| unavailable(&e))?;
        Ok(Prepared { node, ca })
    }

    async fn admit(&self, token: TokenId, node: NodeId, applicant: &Applicant) -> Result<Admission, JoinRefusal> {
        if let Some(member) = self.member_with(applicant.fingerprint).await? {
            return self.admission(member).await;
        }
        let new = NewNode {
            id: node,
            name: applicant.name.clone(),
            advertise: applicant.advertise,
            fingerprint: applicant.fingerprint,
            capacity: applicant.capacity.clone(),
        };
        let command = Command::AddNode(Box::new(AddNode { node: new, token }));
        let request = RequestKey {
            key: format!("join {}", hex::encode(random::bytes::<16>())),
            body: Blake3::of(&applicant.fingerprint.0),
            origin: Origin::Internal,
        };
        let proposal = Proposal { request, actor: Actor::Node(self.me), command, request_id: None };
        match self.consensus.propose(proposal).await {
            Ok(committed) => match committed.reply {
                Reply::Node(node) => self.admission(node.id).await,
                other => Err(unavailable(&format!("an unexpected reply to AddNode: {other:?}"))),
            },
            Err(ProposeError::Rejected { reject, .. }) => Err(refusal(&reject)),
            Err(error) => Err(unavailable(&error)),
        }
    }
}

fn refusal(reject: &Reject) -> JoinRefusal {
    match reject {
        Reject::BadJoinToken { why, .. } if why == "expired" => JoinRefusal::Expired,
        Reject::BadJoinToken { why, .. } if why == "used up" => JoinRefusal::UsedUp,
        Reject::BadJoinToken { .. } => JoinRefusal::UnknownToken,
        Reject::NodeNameTaken { name, .. } => {
            JoinRefusal::Conflict(format!("a node named {name} is in the cluster already; join with another --name"))
        }
        Reject::NodeTaken { what, .. } if what == "address" => JoinRefusal::Conflict(
            "another node has this address already; give this one its own with --advertise, or remove the other"
                .to_owned(),
        ),
        other => JoinRefusal::Conflict(other.to_string()),
    }
}

/// Makes the text of join tokens.
#[derive(Debug, Clone, Copy)]
pub(super) struct TokenMint;

impl JoinTokens for TokenMint {
    fn mint(
        &self,
        id: TokenId,
        cluster: &ClusterInfo,
        addresses: &[std::net::SocketAddr],
    ) -> Result<MintedToken, MintError> {
        let failed = |error: Box<dyn std::error::Error + Send + Sync>| MintError(error);
        let ca = Ca::from_der(&cluster.ca_cert, &cluster.ca_key).map_err(|e| failed(e.into()))?;
        let secret: [u8; SECRET_LEN] = random::bytes();
        let token =
            JoinToken::new(cluster.id, ca.pin(), id, secret, addresses.to_vec()).map_err(|e| failed(e.into()))?;
        Ok(MintedToken { text: token.to_text(), key: token.key() })
    }
}

//! The joiner's side of a join: the addresses of the token in turn, until one lets this machine in.

use super::{
    desk::JoinRefusal,
    pinned,
    proof::{self, Direction},
    token::JoinToken,
    wire::{ANSWER_MAX, Answer, Facts, Request, Welcome},
};
use crate::{
    identity::{Identity, IdentityError, KeyError, NodeKey, pin},
    table::PeerTable,
};
use std::{
    fmt, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};
use tokio::time::timeout;
use waifud_model::{name::NodeName, node::Capacity};

/// How long one address may take to answer at all. A person waits, and there are at most five.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the cluster may take to decide; the member itself gives up earlier.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// How long the farewell may take.
const FAREWELL: Duration = Duration::from_millis(200);
/// The name that is sent as SNI; members do not look at it.
const SERVER_NAME: &str = "join.waifud.internal";

/// What a machine says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Newcomer {
    /// The name it wants; unique in the cluster.
    pub name: NodeName,
    /// Where peers are to reach it. With an unspecified IP (`0.0.0.0`), the member fills in where it sees this machine.
    pub advertise: SocketAddr,
    /// What it can give.
    pub capacity: Capacity,
}

/// What a machine has become.
#[derive(Debug, Clone)]
pub struct Joined {
    /// Who it is. Keep it before anything else is done.
    pub identity: Identity,
    /// All members, itself included.
    pub peers: PeerTable,
    /// What the member's node handed over.
    pub extra: Vec<u8>,
}

/// Why one address did not help.
#[derive(Debug, thiserror::Error)]
pub enum AttemptError {
    /// Nobody there, or not reachable.
    #[error("no answer")]
    NoAnswer,
    /// Something is there, and it is not this cluster.
    #[error("what answers is not accepted as a member of the token's cluster: {0}")]
    NotTheCluster(String),
    /// The connection ended.
    #[error("the connection ended: {0}")]
    Ended(String),
    /// The answer does not read.
    #[error("its answer cannot be used: {0}")]
    BadAnswer(String),
    /// It does not know the token, although it said yes: an impostor with the cluster's CA key.
    #[error("it could not prove that it knows the token")]
    Unproven,
    /// It said no, for now.
    #[error(transparent)]
    Refused(JoinRefusal),
}

/// Why this machine did not join. Nothing is left of the try; it can be repeated.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The cluster said no, and would say it again.
    #[error("{addr} refused: {refusal}")]
    Refused {
        /// Who said it.
        addr: SocketAddr,
        /// What.
        refusal: JoinRefusal,
    },
    /// No address of the token helped.
    #[error("no member could be joined{}", Attempts(.0))]
    Nobody(Vec<(SocketAddr, AttemptError)>),
    /// The key cannot be used.
    #[error("this machine's key cannot be used")]
    Key(#[from] KeyError),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
    /// No socket.
    #[error("no UDP socket could be opened")]
    Socket(#[from] io::Error),
    /// The request cannot be encoded.
    #[error("the request to join cannot be encoded")]
    Encode(#[from] postcard::Error),
}

/// One line an address.
struct Attempts<'a>(&'a [(SocketAddr, AttemptError)]);

impl fmt::Display for Attempts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(addr, error)| write!(f, "\n  {addr}: {error}"))
    }
}

/// Joins with `token`. Call it again with the same `key` after any failure: if an earlier try did succeed without this
/// machine hearing of it, it becomes that node.
///
/// # Errors
/// The cluster refuses for good, or no address of the token helps; each with its reason.
pub async fn redeem(token: &JoinToken, newcomer: &Newcomer, key: &NodeKey) -> Result<Joined, JoinError> {
    let facts = Facts {
        name: newcomer.name.clone(),
        advertise: newcomer.advertise,
        capacity: newcomer.capacity.clone(),
        signing_request: key.signing_request()?,
    };
    let facts = postcard::to_stdvec(&facts)?;
    let config = pinned::client_config(token.ca_pin(), token.cluster())?;
    let mut attempts = Vec::new();
    for addr in token.addresses() {
        let local: SocketAddr =
            if addr.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
        let mut endpoint = quinn::Endpoint::client(local)?;
        endpoint.set_default_client_config(config.clone());
        let outcome = attempt(&endpoint, *addr, token, &facts, key).await;
        endpoint.close(quinn::VarInt::from_u32(0), b"");
        let _ = timeout(FAREWELL, endpoint.wait_idle()).await;
        match outcome {
            Ok(joined) => return Ok(joined),
            Err(AttemptError::Refused(refusal)) if refusal.is_final() => {
                return Err(JoinError::Refused { addr: *addr, refusal });
            }
            Err(error) => attempts.push((*addr, error)),
        }
    }
    Err(JoinError::Nobody(attempts))
}

async fn attempt(
    endpoint: &quinn::Endpoint,
    addr: SocketAddr,
    token: &JoinToken,
    facts: &[u8],
    key: &NodeKey,
) -> Result<Joined, AttemptError> {
    let connecting = endpoint.connect(addr, SERVER_NAME).map_err(|e| AttemptError::Ended(e.to_string()))?;
    let connection = match timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(quinn::ConnectionError::TransportError(e))) => return Err(AttemptError::NotTheCluster(e.reason)),
        Ok(Err(quinn::ConnectionError::TimedOut)) | Err(_) => return Err(AttemptError::NoAnswer),
        Ok(Err(e)) => return Err(AttemptError::Ended(e.to_string())),
    };
    let proof = proof::prove(&connection, Direction::Request, &token.key(), facts)
        .map_err(|e| AttemptError::Ended(e.to_string()))?;
    let request = Request { token: token.id(), proof, facts: facts.to_vec() };
    let request = postcard::to_stdvec(&request).map_err(|e| AttemptError::Ended(e.to_string()))?;
    let answer = match timeout(ANSWER_TIMEOUT, ask(&connection, &request)).await {
        Ok(Some(answer)) => answer,
        Ok(None) => return Err(AttemptError::Ended(close_reason(&connection))),
        Err(_) => return Err(AttemptError::NoAnswer),
    };
    match postcard::from_bytes(&answer).map_err(|_| AttemptError::BadAnswer("it does not read".into()))? {
        Answer::Refused(refusal) => Err(AttemptError::Refused(refusal)),
        Answer::Admitted { proof, welcome } => {
            proof::check(&connection, Direction::Welcome, &token.key(), &welcome, &proof)
                .map_err(|_| AttemptError::Unproven)?;
            let welcome: Welcome = postcard::from_bytes(&welcome)
                .map_err(|_| AttemptError::BadAnswer("its welcome does not read".into()))?;
            become_member(token, key, welcome)
        }
    }
}

/// Sends the request and reads the answer; none if the connection ended.
async fn ask(connection: &quinn::Connection, request: &[u8]) -> Option<Vec<u8>> {
    let (mut send, mut recv) = connection.open_bi().await.ok()?;
    send.write_all(request).await.ok()?;
    send.finish().ok()?;
    recv.read_to_end(ANSWER_MAX).await.ok()
}

/// Checks what the member gave: it may only be this machine's key, in the token's cluster, under the pinned CA.
fn become_member(token: &JoinToken, key: &NodeKey, welcome: Welcome) -> Result<Joined, AttemptError> {
    let bad = |what: &str| AttemptError::BadAnswer(what.to_owned());
    if pin(&welcome.ca) != token.ca_pin() {
        return Err(bad("it names another CA"));
    }
    let identity = Identity::new(key.clone(), &welcome.certificate, &welcome.ca)
        .map_err(|e: IdentityError| AttemptError::BadAnswer(e.to_string()))?;
    if identity.subject().cluster != token.cluster() || identity.node() != welcome.node {
        return Err(bad("its certificate is for another node"));
    }
    if welcome.peers.get(&welcome.node).is_none_or(|peer| peer.fingerprint != identity.fingerprint()) {
        return Err(bad("this machine is not among the members"));
    }
    Ok(Joined { identity, peers: welcome.peers, extra: welcome.extra })
}

fn close_reason(connection: &quinn::Connection) -> String {
    match connection.close_reason() {
        Some(quinn::ConnectionError::ApplicationClosed(close)) => String::from_utf8_lossy(&close.reason).into_owned(),
        Some(error) => error.to_string(),
        None => "the answer was broken off".into(),
    }
}

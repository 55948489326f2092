//! What a node does for itself: tells the cluster when its own facts change, and renews its certificate in time.
//!
//! In: what this machine can give now, the replicated record of it. Out: an [`UpdateNode`](Command::UpdateNode) where they
//! differ; a new certificate for the same key, which no other node has to be told of.

use super::{clock, observer::APPLIED, random, reconcile_ports::NodeProposer};
use crate::{
    facts::Facts,
    reconcile::{ProposeFailure, Proposer as _},
};
use std::{net::SocketAddr, sync::Arc, time::Duration, time::SystemTime};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use waifud_consensus::{Handle, ReadError};
use waifud_gossip::{
    identity::{Ca, CertificateError, DirError, Identity, IdentityDir, IdentityError},
    membership::Gossip,
};
use waifud_model::{command::Command, ids::NodeId, node::Node, reject::Reject};

/// After a try that failed, and between looks at the certificate.
const AGAIN: Duration = Duration::from_secs(5);
/// Progress is for people; gossip carries little.
const TELL: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_secs(60 * 60);

/// Sees to it that the replicated record of `me` says what `facts` and `advertise` say. Ends when it does, when the cluster
/// refuses it, or with `stop`.
pub(super) async fn tell_facts(
    me: NodeId,
    consensus: Handle,
    facts: Facts,
    advertise: Option<SocketAddr>,
    stop: CancellationToken,
) {
    let lacks = |known: &Node| {
        let advertise = advertise.unwrap_or(known.advertise);
        let differs = known.capacity != facts.capacity || known.advertise != advertise;
        differs.then(|| Command::UpdateNode { node: me, advertise, capacity: facts.capacity.clone() })
    };
    match stop.run_until_cancelled(see_to_record(me, &consensus, "facts", lacks)).await {
        None | Some(Ok(false)) => {}
        Some(Ok(true)) => {
            tracing::info!(capacity = ?facts.capacity, "the cluster knows what this node gives now");
        }
        Some(Err(reject)) => {
            tracing::error!(%reject, "the cluster refuses what this node gives; mend its configuration");
        }
    }
}

/// Proposes what the record of `me` `lacks` until it lacks nothing; true if anything was proposed.
///
/// # Errors
/// If the cluster refuses it. Every try is an entry in everybody's log, and the same command is refused again until a person
/// acts.
pub(super) async fn see_to_record(
    me: NodeId,
    consensus: &Handle,
    what: &'static str,
    lacks: impl Fn(&Node) -> Option<Command>,
) -> Result<bool, Reject> {
    let proposer = NodeProposer::new(me, consensus.clone());
    loop {
        match consensus.read(move |view| view.node(me)).await {
            Ok(Some(known)) => {
                let Some(command) = lacks(&known) else { return Ok(false) };
                let key = format!("{what} {}", hex::encode(random::bytes::<16>()));
                match proposer.propose(&key, command).await {
                    Ok(()) => return Ok(true),
                    Err(ProposeFailure::Refused(reject)) => return Err(reject),
                    Err(error) => tracing::info!(what, %error, "the cluster cannot be told now"),
                }
            }
            Ok(None) => {}
            Err(error) => tracing::error!(%error, "this node's own record cannot be read"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Tells the other nodes how far this one has applied the log, in steps of [`TELL`]. Ends with `stop`.
pub(super) async fn tell_progress(consensus: Handle, gossip: Gossip, stop: CancellationToken) {
    let mut applied = consensus.applied();
    loop {
        let index = applied.borrow_and_update().index;
        if let Err(error) = gossip.publish(APPLIED, index.to_string()) {
            tracing::warn!(%error, "other nodes are not told how far this one is");
        }
        let next = async {
            tokio::time::sleep(TELL).await;
            applied.changed().await
        };
        if !matches!(stop.run_until_cancelled(next).await, Some(Ok(()))) {
            return;
        }
    }
}

/// Renews the certificate at two thirds of its life. Ends with `stop`.
pub(super) async fn renew_certificate(
    consensus: Handle,
    dir: IdentityDir,
    identity: watch::Sender<Arc<Identity>>,
    stop: CancellationToken,
) {
    loop {
        let current = identity.borrow().clone();
        let now = SystemTime::now();
        if current.needs_renewal(now) {
            match renew(&consensus, &dir, &current, now).await {
                Ok(Some(fresh)) => {
                    tracing::info!("this node's certificate was renewed");
                    identity.send_replace(Arc::new(fresh));
                }
                Ok(None) => {}
                Err(error) => tracing::error!(
                    error = &error as &dyn std::error::Error,
                    expires = clock::since_epoch(current.expires_at()).0,
                    "this node's certificate cannot be renewed"
                ),
            }
        }
        if stop.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_none() {
            return;
        }
    }
}

/// Why a certificate could not be renewed. It is tried again; the one in use is good for a third of its life.
#[derive(Debug, thiserror::Error)]
enum RenewError {
    #[error("the cluster's CA cannot be read from the state")]
    State(#[from] ReadError),
    #[error("the cluster's CA does not read")]
    Ca(#[from] CertificateError),
    #[error("the CA did not sign")]
    Sign(#[from] IdentityError),
    #[error("the new certificate could not be kept")]
    Keep(#[from] DirError),
}

/// None while the replica holds no cluster.
async fn renew(
    consensus: &Handle,
    dir: &IdentityDir,
    current: &Identity,
    now: SystemTime,
) -> Result<Option<Identity>, RenewError> {
    let Some(cluster) = consensus.read(|view| view.cluster()).await? else { return Ok(None) };
    let ca = Ca::from_der(&cluster.ca_cert, &cluster.ca_key)?;
    let fresh = current.renew(&ca, now)?;
    dir.save(&fresh)?;
    Ok(Some(fresh))
}

//! Machines that are no nodes and may reach the guests: let in, and shut out again.

use super::propose::{self, Author, Done};
use crate::{app::App, conditional::IfRevision, problem::Failure, view};
use waifud_api::net as wire;
use waifud_model::{
    command::{Command, Reply},
    name::PeerName,
};

/// Lets a machine in; the cluster gives it an address.
pub(crate) async fn add(
    app: &App,
    author: &Author,
    request: wire::NetPeerCreate,
) -> Result<Done<wire::NetPeer>, Failure> {
    let wire::NetPeerCreate { name, key } = request;
    let committed = author.propose(&app.consensus, Command::AddNetPeer { name, key }).await?;
    propose::expect(committed, |reply| match reply {
        Reply::NetPeer(peer) => Some(wire::NetPeer::from(*peer)),
        _ => None,
    })
}

/// Shuts a machine out.
pub(crate) async fn remove(
    app: &App,
    author: &Author,
    name: PeerName,
    expect: IfRevision,
) -> Result<Done<()>, Failure> {
    expect.settle(&app.consensus).await?;
    let found = view::net_peer(&app.consensus, name).await;
    let seen = found.and_then(|peer| expect.check(&view::net_peer_revision(&peer)?).map(|()| peer));
    let committed = match seen {
        Ok(peer) => author.propose(&app.consensus, Command::RemoveNetPeer(peer.name)).await?,
        Err(failure) => author.replay_or(&app.consensus, failure).await?,
    };
    Ok(Done { index: committed.index, replayed: committed.replayed, value: () })
}

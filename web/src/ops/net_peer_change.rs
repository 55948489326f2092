//! Machines that are no nodes and may reach the guests: let in, and shut out again.

use super::propose::{self, Author, Done};
use crate::{app::App, problem::Failure, view};
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
pub(crate) async fn remove(app: &App, author: &Author, name: PeerName) -> Result<Done<()>, Failure> {
    let committed = match app.consensus.read(move |view| view::find_net_peer(view, &name)).await? {
        Ok(peer) => author.propose(&app.consensus, Command::RemoveNetPeer(peer.name)).await?,
        Err(missing) => author.replay_or(&app.consensus, Failure::Missing(missing)).await?,
    };
    Ok(Done { index: committed.index, replayed: committed.replayed, value: () })
}

//! Cordoning and labelling nodes, and taking them out of the cluster.

use super::propose::{self, Author, Done};
use crate::{app::App, problem::Failure, view};
use waifud_api::node as wire;
use waifud_model::{
    command::{Command, Reply},
    ids::NodeId,
    name::NodeName,
};

/// Lets new VMs on a node, or keeps them off it.
pub(crate) async fn cordon(
    app: &App,
    author: &Author,
    name: NodeName,
    cordoned: bool,
) -> Result<Done<wire::Node>, Failure> {
    let node = id(app, name.clone()).await?;
    let committed = author.propose(&app.consensus, Command::SetCordon { node, cordoned }).await?;
    let done = propose::expect(committed, |reply| matches!(reply, Reply::Node(_)).then_some(()))?;
    let shown = view::node(&app.consensus, &app.observed(), name).await?;
    Ok(done.map(|()| shown))
}

/// Changes what people say of a node.
pub(crate) async fn update(
    app: &App,
    author: &Author,
    name: NodeName,
    update: wire::NodeUpdate,
) -> Result<Done<wire::Node>, Failure> {
    let wire::NodeUpdate { labels } = update;
    let node = id(app, name.clone()).await?;
    let committed = author.propose(&app.consensus, Command::SetNodeLabels { node, labels }).await?;
    let done = propose::expect(committed, |reply| matches!(reply, Reply::Node(_)).then_some(()))?;
    let shown = view::node(&app.consensus, &app.observed(), name).await?;
    Ok(done.map(|()| shown))
}

/// Takes a node out of the cluster for good; its certificate is worth nothing from then on.
pub(crate) async fn remove(app: &App, author: &Author, name: NodeName, force: bool) -> Result<Done<()>, Failure> {
    let committed = match id(app, name).await {
        Ok(node) => author.propose(&app.consensus, Command::RemoveNode { node, force }).await?,
        Err(failure) => author.replay_or(&app.consensus, failure).await?,
    };
    Ok(Done { index: committed.index, replayed: committed.replayed, value: () })
}

async fn id(app: &App, name: NodeName) -> Result<NodeId, Failure> {
    let node = app.consensus.read(move |view| view::find_node(view, &name)).await?.map_err(Failure::Missing)?;
    Ok(node.id)
}

//! Cordoning and labelling nodes, and taking them out of the cluster.

use super::propose::{self, Author, Done};
use crate::{
    app::App,
    conditional::{IfRevision, Revision},
    problem::Failure,
    view,
};
use waifud_api::node as wire;
use waifud_model::{
    command::{Command, Reply},
    ids::NodeId,
    name::NodeName,
    scope::Scope,
};

/// Lets new VMs on a node, or keeps them off it.
pub(crate) async fn cordon(
    app: &App,
    author: &Author,
    name: NodeName,
    cordoned: bool,
    expect: IfRevision,
) -> Result<Done<(wire::Node, Revision)>, Failure> {
    let committed = match id(app, name.clone(), expect).await {
        Ok(node) => author.propose(&app.consensus, Command::SetCordon { node, cordoned }).await?,
        Err(failure) => author.replay_or(&app.consensus, failure).await?,
    };
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
    expect: IfRevision,
) -> Result<Done<(wire::Node, Revision)>, Failure> {
    let wire::NodeUpdate { labels } = update;
    let committed = match id(app, name.clone(), expect).await {
        Ok(node) => author.propose(&app.consensus, Command::SetNodeLabels { node, labels }).await?,
        Err(failure) => author.replay_or(&app.consensus, failure).await?,
    };
    let done = propose::expect(committed, |reply| matches!(reply, Reply::Node(_)).then_some(()))?;
    let shown = view::node(&app.consensus, &app.observed(), name).await?;
    Ok(done.map(|()| shown))
}

/// Takes a node out of the cluster for good; its certificate is worth nothing from then on.
pub(crate) async fn remove(
    app: &App,
    author: &Author,
    name: NodeName,
    force: bool,
    expect: IfRevision,
) -> Result<Done<()>, Failure> {
    let committed = match id(app, name, expect).await {
        Ok(node) => author.propose(&app.consensus, Command::RemoveNode { node, force }).await?,
        Err(failure) => author.replay_or(&app.consensus, failure).await?,
    };
    Ok(Done { index: committed.index, replayed: committed.replayed, value: () })
}

/// Only says whether [`remove`] would.
pub(crate) async fn preview_remove(app: &App, name: NodeName, force: bool, expect: IfRevision) -> Result<(), Failure> {
    let node = id(app, name, expect).await?;
    match app.consensus.read(move |view| view.try_remove_node(node, force)).await? {
        Ok(_) => Ok(()),
        // Nobody with a scope may ask.
        Err(reject) => Err(propose::rejected(&app.consensus, &Scope::default(), reject).await),
    }
}

/// The node, if it is the one that was seen.
async fn id(app: &App, name: NodeName, expect: IfRevision) -> Result<NodeId, Failure> {
    expect.settle(&app.consensus).await?;
    let node = app.consensus.read(move |view| view::find_node(view, &name)).await?.map_err(Failure::Missing)?;
    expect.check(&view::node_revision(&node)?)?;
    Ok(node.id)
}

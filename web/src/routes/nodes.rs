//! `/nodes`.

use super::answer::{changed, gone, part, tagged};
use crate::{
    app::App,
    caller::{Admin, Viewer},
    conditional::{IfRevision, Revision},
    extract::{Path, Query},
    idempotency::{Keyed, KeyedJson},
    ops::{Author, Done, node_change},
    problem::Failure,
    view,
};
use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use waifud_api::{
    node::{Node, NodeRemoveQuery, NodeUpdate},
    page::{Page, PageQuery},
    problem::Problem,
};
use waifud_model::name::NodeName;

/// All nodes, by name.
#[utoipa::path(get, path = "/api/v1/nodes", tag = "nodes", params(PageQuery::<NodeName>),
    responses((status = 200, body = Vec<Node>), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn list(
    _: Viewer,
    State(app): State<App>,
    Query(query): Query<PageQuery<NodeName>>,
) -> Result<Response, Failure> {
    Ok(part(Page::of(view::nodes(&app.consensus, &app.observed()).await?, &query)))
}

/// One node.
#[utoipa::path(get, path = "/api/v1/nodes/{name}", tag = "nodes", params(("name" = String, Path)),
    responses((status = 200, body = Node), (status = 404, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn show(_: Viewer, State(app): State<App>, Path(name): Path<NodeName>) -> Result<Response, Failure> {
    let (node, revision) = view::node(&app.consensus, &app.observed(), name).await?;
    Ok(tagged(revision, Json(node).into_response()))
}

fn node_changed(done: Done<(Node, Revision)>) -> Response {
    let revision = done.value.1.clone();
    tagged(revision, changed(StatusCode::OK, done.map(|(node, _)| node)))
}

/// Takes a node out of the cluster for good. With `force` also one that VMs are placed on: they are lost with it. With `dry_run`
/// it only says whether it could.
#[utoipa::path(delete, path = "/api/v1/nodes/{name}", tag = "nodes", params(("name" = String, Path), NodeRemoveQuery),
    responses((status = 204), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn remove(
    Admin(caller): Admin,
    State(app): State<App>,
    Path(name): Path<NodeName>,
    Query(query): Query<NodeRemoveQuery>,
    expect: IfRevision,
    Keyed(key): Keyed,
) -> Result<Response, Failure> {
    if query.dry_run {
        node_change::preview_remove(&app, name, query.force, expect).await?;
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    node_change::remove(&app, &Author::new(caller, key), name, query.force, expect).await.map(gone)
}

/// Changes the labels of a node: those named, and no others.
#[utoipa::path(patch, path = "/api/v1/nodes/{name}", tag = "nodes", params(("name" = String, Path)),
    request_body(content((NodeUpdate = "application/json"), (NodeUpdate = "application/merge-patch+json"))),
    responses((status = 200, body = Node), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn update(
    Admin(caller): Admin,
    State(app): State<App>,
    Path(name): Path<NodeName>,
    expect: IfRevision,
    KeyedJson { key, body }: KeyedJson<NodeUpdate>,
) -> Result<Response, Failure> {
    let done = node_change::update(&app, &Author::new(caller, key), name, body, expect).await?;
    Ok(node_changed(done))
}

/// Keeps new VMs off a node; what runs there runs on.
#[utoipa::path(post, path = "/api/v1/nodes/{name}/cordon", tag = "nodes", params(("name" = String, Path)),
    responses((status = 200, body = Node), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn cordon(
    Admin(caller): Admin,
    State(app): State<App>,
    Path(name): Path<NodeName>,
    expect: IfRevision,
    Keyed(key): Keyed,
) -> Result<Response, Failure> {
    let done = node_change::cordon(&app, &Author::new(caller, key), name, true, expect).await?;
    Ok(node_changed(done))
}

/// Lets new VMs on a node again.
#[utoipa::path(post, path = "/api/v1/nodes/{name}/uncordon", tag = "nodes", params(("name" = String, Path)),
    responses((status = 200, body = Node), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn uncordon(
    Admin(caller): Admin,
    State(app): State<App>,
    Path(name): Path<NodeName>,
    expect: IfRevision,
    Keyed(key): Keyed,
) -> Result<Response, Failure> {
    let done = node_change::cordon(&app, &Author::new(caller, key), name, false, expect).await?;
    Ok(node_changed(done))
}

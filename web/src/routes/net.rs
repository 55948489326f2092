//! `/net`: subnets and the mesh, and the machines that may reach the guests from outside.

use super::answer::{changed, gone, located, part, tagged};
use crate::{
    app::App,
    caller::{Admin, Viewer},
    conditional::IfRevision,
    extract::{Path, Query},
    idempotency::{Keyed, KeyedJson},
    ops::{Author, net_peer_change},
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
    net::{Net, NetPeer, NetPeerCreate},
    page::{Page, PageQuery},
    paths,
    problem::Problem,
};
use waifud_model::name::PeerName;

/// Subnets and the mesh between the nodes.
#[utoipa::path(get, path = "/api/v1/net", tag = "net", responses((status = 200, body = Net)))]
pub(super) async fn show(_: Viewer, State(app): State<App>) -> Result<Json<Net>, Failure> {
    view::net(&app.consensus).await.map(Json)
}

/// All machines that are no nodes and may reach the guests, by name.
#[utoipa::path(get, path = "/api/v1/net/peers", tag = "net", params(PageQuery::<PeerName>),
    responses((status = 200, body = Vec<NetPeer>), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn list_peers(
    _: Viewer,
    State(app): State<App>,
    Query(query): Query<PageQuery<PeerName>>,
) -> Result<Response, Failure> {
    Ok(part(Page::of(view::net_peers(&app.consensus).await?, &query)))
}

/// Lets a machine reach the guests. Its private key stays where it was made.
#[utoipa::path(post, path = "/api/v1/net/peers", tag = "net", request_body = NetPeerCreate,
    responses((status = 201, body = NetPeer), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn add_peer(
    Admin(caller): Admin,
    State(app): State<App>,
    KeyedJson { key, body }: KeyedJson<NetPeerCreate>,
) -> Result<Response, Failure> {
    let done = net_peer_change::add(&app, &Author::new(caller, key), body).await?;
    let path = paths::net_peer(paths::NET_PEER, &done.value.name);
    let revision = view::net_peer_revision(&done.value)?;
    Ok(tagged(revision, located(&path, changed(StatusCode::CREATED, done))))
}

/// One such machine.
#[utoipa::path(get, path = "/api/v1/net/peers/{name}", tag = "net", params(("name" = String, Path)),
    responses((status = 200, body = NetPeer), (status = 404, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn show_peer(
    _: Viewer,
    State(app): State<App>,
    Path(name): Path<PeerName>,
) -> Result<Response, Failure> {
    let peer = view::net_peer(&app.consensus, name).await?;
    Ok(tagged(view::net_peer_revision(&peer)?, Json(peer).into_response()))
}

/// Shuts a machine out.
#[utoipa::path(delete, path = "/api/v1/net/peers/{name}", tag = "net", params(("name" = String, Path)),
    responses((status = 204), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn remove_peer(
    Admin(caller): Admin,
    State(app): State<App>,
    Path(name): Path<PeerName>,
    expect: IfRevision,
    Keyed(key): Keyed,
) -> Result<Response, Failure> {
    net_peer_change::remove(&app, &Author::new(caller, key), name, expect).await.map(gone)
}

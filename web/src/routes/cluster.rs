//! `/cluster`, and the tokens with which machines join it.

use super::answer::{changed, gone, part};
use crate::{
    app::App,
    caller::{Admin, Viewer},
    extract::{Path, Query},
    idempotency::{Keyed, KeyedJson},
    ops::{Author, join_token_create, token_change},
    problem::Failure,
    view,
};
use axum::{Json, extract::State, response::Response};
use http::StatusCode;
use waifud_api::{
    cluster::ClusterStatus,
    page::{Page, PageQuery},
    problem::Problem,
    token::{JoinToken, JoinTokenCreate, JoinTokenCreated},
};
use waifud_model::ids::TokenId;

/// How the cluster is, as this node sees it.
#[utoipa::path(get, path = "/api/v1/cluster", tag = "cluster", responses((status = 200, body = ClusterStatus)))]
pub(super) async fn status(_: Viewer, State(app): State<App>) -> Result<Json<ClusterStatus>, Failure> {
    view::cluster_status(&app.consensus, &app.digests, &app.observed(), app.clock.now()).await.map(Json)
}

/// All join tokens.
#[utoipa::path(get, path = "/api/v1/cluster/join-tokens", tag = "cluster", params(PageQuery::<TokenId>),
    responses((status = 200, body = Vec<JoinToken>), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn list_join_tokens(
    _: Admin,
    State(app): State<App>,
    Query(query): Query<PageQuery<TokenId>>,
) -> Result<Response, Failure> {
    Ok(part(Page::of(view::join_tokens(&app.consensus).await?, &query)))
}

/// Makes a token with which machines join. Its text is in this answer and never shown again.
#[utoipa::path(post, path = "/api/v1/cluster/join-tokens", tag = "cluster", request_body = JoinTokenCreate,
    responses((status = 201, body = JoinTokenCreated), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn create_join_token(
    Admin(caller): Admin,
    State(app): State<App>,
    KeyedJson { key, body }: KeyedJson<JoinTokenCreate>,
) -> Result<Response, Failure> {
    let done = join_token_create::run(&app, &Author::new(caller, key), body).await?;
    Ok(changed(StatusCode::CREATED, done))
}

/// Revokes a join token.
#[utoipa::path(delete, path = "/api/v1/cluster/join-tokens/{id}", tag = "cluster", params(("id" = String, Path)),
    responses((status = 204), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn revoke_join_token(
    Admin(caller): Admin,
    State(app): State<App>,
    Path(id): Path<TokenId>,
    Keyed(key): Keyed,
) -> Result<Response, Failure> {
    token_change::revoke_join(&app, &Author::new(caller, key), id).await.map(gone)
}

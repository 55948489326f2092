//! `/tokens`: the API's own.

use super::answer::{changed, gone, part};
use crate::{
    app::App,
    caller::Admin,
    extract::{Path, Query},
    idempotency::{Keyed, KeyedJson},
    ops::{Author, token_change},
    problem::Failure,
    view,
};
use axum::{extract::State, response::Response};
use http::StatusCode;
use waifud_api::{
    page::{Page, PageQuery},
    problem::Problem,
    token::{ApiToken, ApiTokenCreate, ApiTokenCreated},
};
use waifud_model::ids::TokenId;

/// All API tokens, without their secrets, which nobody keeps.
#[utoipa::path(get, path = "/api/v1/tokens", tag = "tokens", params(PageQuery::<TokenId>),
    responses((status = 200, body = Vec<ApiToken>), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn list(
    _: Admin,
    State(app): State<App>,
    Query(query): Query<PageQuery<TokenId>>,
) -> Result<Response, Failure> {
    Ok(part(Page::of(view::api_tokens(&app.consensus).await?, &query)))
}

/// Makes an API token. Its text is in this answer and never shown again.
#[utoipa::path(post, path = "/api/v1/tokens", tag = "tokens", request_body = ApiTokenCreate,
    responses((status = 201, body = ApiTokenCreated), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn create(
    Admin(caller): Admin,
    State(app): State<App>,
    KeyedJson { key, body }: KeyedJson<ApiTokenCreate>,
) -> Result<Response, Failure> {
    let done = token_change::create(&app, &Author::new(caller, key), body).await?;
    Ok(changed(StatusCode::CREATED, done))
}

/// Revokes an API token, on all nodes.
#[utoipa::path(delete, path = "/api/v1/tokens/{id}", tag = "tokens", params(("id" = String, Path)),
    responses((status = 204), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn revoke(
    Admin(caller): Admin,
    State(app): State<App>,
    Path(id): Path<TokenId>,
    Keyed(key): Keyed,
) -> Result<Response, Failure> {
    token_change::revoke(&app, &Author::new(caller, key), id).await.map(gone)
}

//! `/vms/{name}/cloud-init` and `/cluster/cloud-init`: what guests are told, in full. Operators only, and no cache keeps it.

use super::answer::{changed, tagged, uncached};
use crate::{
    app::App,
    caller::{Admin, Operator, VmOperator},
    conditional::IfMatch,
    extract::{Path, Query},
    idempotency::KeyedJson,
    ops::{Author, cloud_init_set},
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
    cloud_init::{CloudDefaults, CloudInit, CloudInitQuery, CloudInitSaved},
    problem::Problem,
};
use waifud_model::name::VmName;

/// What a VM's guest is told, user-data included.
#[utoipa::path(get, path = "/api/v1/vms/{name}/cloud-init", tag = "vms", params(("name" = String, Path)),
    responses((status = 200, body = CloudInit), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn show(
    VmOperator(caller): VmOperator,
    State(app): State<App>,
    Path(name): Path<VmName>,
) -> Result<Response, Failure> {
    let found = app.consensus.read(move |view| view::find_vm(view, &caller.scope, &name)).await?;
    let (vm, _) = found.map_err(Failure::Missing)?;
    let told = Json(view::cloud_init(vm.spec.cloud_init)).into_response();
    Ok(uncached(tagged(vm.generation, told)))
}

/// Replaces what a VM's guest is told. With `rerun` cloud-init runs everything again at the next boot; with `dry_run` the
/// documents are only checked.
#[utoipa::path(put, path = "/api/v1/vms/{name}/cloud-init", tag = "vms", params(("name" = String, Path), CloudInitQuery),
    request_body = CloudInit,
    responses((status = 200, body = CloudInitSaved), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn replace(
    VmOperator(caller): VmOperator,
    State(app): State<App>,
    Path(name): Path<VmName>,
    Query(query): Query<CloudInitQuery>,
    expect: IfMatch,
    KeyedJson { key, body }: KeyedJson<CloudInit>,
) -> Result<Response, Failure> {
    if query.dry_run {
        let checked = cloud_init_set::preview(&app, &caller.scope, name, body, expect).await?;
        return Ok(tagged(checked.generation, Json(checked).into_response()));
    }
    let author = Author::new(caller, key);
    let done = cloud_init_set::set(&app, &author, name, body, query.rerun, expect).await?;
    Ok(tagged(done.value.generation, changed(StatusCode::OK, done)))
}

/// What every guest is told beside its own.
#[utoipa::path(get, path = "/api/v1/cluster/cloud-init", tag = "cluster",
    responses((status = 200, body = CloudDefaults), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn show_defaults(_: Operator, State(app): State<App>) -> Result<Response, Failure> {
    let defaults = app.consensus.read(|view| view.cloud_defaults()).await?;
    let generation = defaults.generation;
    Ok(uncached(tagged(generation, Json(view::cloud_defaults(defaults)).into_response())))
}

/// Replaces what every guest is told beside its own.
#[utoipa::path(put, path = "/api/v1/cluster/cloud-init", tag = "cluster", request_body = CloudDefaults,
    responses((status = 200, body = CloudInitSaved), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn replace_defaults(
    Admin(caller): Admin,
    State(app): State<App>,
    expect: IfMatch,
    KeyedJson { key, body }: KeyedJson<CloudDefaults>,
) -> Result<Response, Failure> {
    let done = cloud_init_set::set_defaults(&app, &Author::new(caller, key), body, expect).await?;
    Ok(tagged(done.value.generation, changed(StatusCode::OK, done)))
}

//! `/vms`: the list, one more, and one of them.

use super::answer::{changed, located, part, tagged};
use crate::{
    app::App,
    caller::{Viewer, VmOperator},
    conditional,
    extract::{Path, Query},
    idempotency::KeyedJson,
    ops::{Author, vm_create},
    owner,
    problem::Failure,
    view::{self, VmList},
};
use axum::{
    Extension, Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode, header};
use std::sync::Arc;
use waifud_api::{
    filter::Filter,
    page::PageQuery,
    paths,
    problem::Problem,
    vm::{PlacementPreview, Vm, VmCreate, VmCreateQuery, VmCreated, VmListQuery},
};
use waifud_model::name::VmName;

/// All VMs of the cluster, by name; with a token that is for some VMs only, those.
#[utoipa::path(get, path = "/api/v1/vms", tag = "vms", params(VmListQuery),
    responses((status = 200, body = Vec<Vm>), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn list(
    Viewer(caller): Viewer,
    State(app): State<App>,
    Extension(list): Extension<Arc<VmList>>,
    Query(query): Query<VmListQuery>,
) -> Result<Response, Failure> {
    let filter: Filter = match query.filter {
        Some(text) => text.parse().map_err(|error| Failure::Query(format!("filter: {error}")))?,
        None => Filter::default(),
    };
    let page = PageQuery { limit: query.limit, after: query.after };
    if filter.is_empty() && page.is_all() && caller.scope.is_whole() {
        let (json, tag) = list.json(&app.consensus, app.observed()).await?;
        let mut response = ([(header::CONTENT_TYPE, "application/json")], json).into_response();
        conditional::tag_whole(response.headers_mut(), &tag);
        return Ok(response);
    }
    Ok(part(list.matching(&app.consensus, &app.observed(), &caller.scope, &filter, &page).await?))
}

/// Makes a VM, or with `dry_run` only says where it would go.
#[utoipa::path(post, path = "/api/v1/vms", tag = "vms", params(VmCreateQuery), request_body = VmCreate,
    responses((status = 201, body = VmCreated), (status = 200, body = PlacementPreview),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
        (status = 503, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn create(
    VmOperator(caller): VmOperator,
    State(app): State<App>,
    Query(query): Query<VmCreateQuery>,
    KeyedJson { key, body }: KeyedJson<VmCreate>,
) -> Result<Response, Failure> {
    if query.dry_run {
        return Ok(Json(vm_create::preview(&app, &caller.scope, body).await?).into_response());
    }
    let done = vm_create::run(&app, &Author::new(caller, key), body).await?;
    let (path, generation) = (paths::vm(paths::VM, &done.value.vm.name), done.value.vm.generation);
    Ok(tagged(generation, located(&path, changed(StatusCode::CREATED, done))))
}

/// One VM, with its last error as its owner knows it.
#[utoipa::path(get, path = "/api/v1/vms/{name}", tag = "vms", params(("name" = String, Path)),
    responses((status = 200, body = Vm), (status = 404, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn show(
    Viewer(caller): Viewer,
    State(app): State<App>,
    Path(name): Path<VmName>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let scope = caller.scope.clone();
    let found = app.consensus.read(move |view| view::find_vm(view, &scope, &name)).await?;
    let (vm, node) = found.map_err(Failure::Missing)?;
    let mut shown = view::vm(&vm, node, &app.observed());
    owner::complete(&app, &caller, &headers, &vm, &mut shown).await;
    Ok(tagged(shown.generation, Json(shown).into_response()))
}

//! `/vms/{name}/…`: what is done to a VM that is there.

use super::answer::{tagged, vm_changed, warned};
use crate::{
    app::App,
    caller::VmOperator,
    conditional::IfMatch,
    extract::{Path, Query},
    idempotency::{Keyed, KeyedJson},
    ops::{
        Author, vm_change,
        vm_power::{self, Powered, Wish},
    },
    problem::Failure,
};
use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode};
use waifud_api::{
    problem::Problem,
    vm::Vm,
    vm_change::{DryRunQuery, GraceQuery, ReinitQuery, VmRename, VmUpdate, VmUpdateAnswer, VmUpdatePreview},
};
use waifud_model::{name::VmName, vm::Desired};

/// Changes what a VM is made of (JSON merge patch); with `dry_run` only says what that would come to. What the running guest
/// cannot take up is shown as waiting for its next start.
#[utoipa::path(patch, path = "/api/v1/vms/{name}", tag = "vms", params(("name" = String, Path), DryRunQuery),
    request_body(content((VmUpdate = "application/json"), (VmUpdate = "application/merge-patch+json"))),
    responses((status = 200, body = VmUpdateAnswer),
        (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn update(
    VmOperator(caller): VmOperator,
    State(app): State<App>,
    Path(name): Path<VmName>,
    Query(query): Query<DryRunQuery>,
    expect: IfMatch,
    KeyedJson { key, body }: KeyedJson<VmUpdate>,
) -> Result<Response, Failure> {
    if query.dry_run {
        let preview: VmUpdatePreview = vm_change::preview_update(&app, &caller.scope, name, body, expect).await?;
        return Ok(tagged(preview.vm.generation, Json(preview).into_response()));
    }
    let done = vm_change::update(&app, &Author::new(caller, key), name, body, expect).await?;
    Ok(vm_changed(StatusCode::OK, done))
}

/// Deletes a VM, disk included. Its owner does the work; the VM is shown in phase *deleting* until it is gone.
#[utoipa::path(delete, path = "/api/v1/vms/{name}", tag = "vms", params(("name" = String, Path), DryRunQuery),
    responses((status = 202, body = Vm), (status = 200, body = Vm, description = "With `dry_run`: it could be deleted"),
        (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn delete(
    VmOperator(caller): VmOperator,
    State(app): State<App>,
    Path(name): Path<VmName>,
    Query(query): Query<DryRunQuery>,
    expect: IfMatch,
    Keyed(key): Keyed,
) -> Result<Response, Failure> {
    if query.dry_run {
        let vm = vm_change::preview_delete(&app, &caller.scope, name, expect).await?;
        return Ok(tagged(vm.generation, Json(vm).into_response()));
    }
    let done = vm_change::delete(&app, &Author::new(caller, key), name, expect).await?;
    Ok(vm_changed(StatusCode::ACCEPTED, done))
}

/// Starts a VM; one that is held still goes on.
#[utoipa::path(post, path = "/api/v1/vms/{name}/start", tag = "vms", params(("name" = String, Path)),
    responses((status = 200, body = Vm), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn start(
    operator: VmOperator,
    app: State<App>,
    name: Path<VmName>,
    headers: HeaderMap,
    expect: IfMatch,
    key: Keyed,
) -> Result<Response, Failure> {
    power(operator, app, name, headers, expect, key, Wish { desired: Desired::Running, grace: None }).await
}

/// Stops a VM; disk and address are kept. Its guest is asked first, as by a power button.
#[utoipa::path(post, path = "/api/v1/vms/{name}/stop", tag = "vms", params(("name" = String, Path), GraceQuery),
    responses((status = 200, body = Vm), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn stop(
    operator: VmOperator,
    app: State<App>,
    name: Path<VmName>,
    Query(query): Query<GraceQuery>,
    headers: HeaderMap,
    expect: IfMatch,
    key: Keyed,
) -> Result<Response, Failure> {
    power(operator, app, name, headers, expect, key, Wish { desired: Desired::Stopped, grace: query.grace }).await
}

/// Holds a VM still: no instruction of its guest is run until it is resumed. Its memory is kept.
#[utoipa::path(post, path = "/api/v1/vms/{name}/pause", tag = "vms", params(("name" = String, Path)),
    responses((status = 200, body = Vm), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn pause(
    operator: VmOperator,
    app: State<App>,
    name: Path<VmName>,
    headers: HeaderMap,
    expect: IfMatch,
    key: Keyed,
) -> Result<Response, Failure> {
    power(operator, app, name, headers, expect, key, Wish { desired: Desired::Paused, grace: None }).await
}

/// Lets a VM that is held still go on.
#[utoipa::path(post, path = "/api/v1/vms/{name}/resume", tag = "vms", params(("name" = String, Path)),
    responses((status = 200, body = Vm), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn resume(
    operator: VmOperator,
    app: State<App>,
    name: Path<VmName>,
    headers: HeaderMap,
    expect: IfMatch,
    key: Keyed,
) -> Result<Response, Failure> {
    power(operator, app, name, headers, expect, key, Wish { desired: Desired::Running, grace: None }).await
}

/// Where the cluster cannot agree now, the VM's node does it alone; the header `waifu-warning` then says so.
async fn power(
    VmOperator(caller): VmOperator,
    State(app): State<App>,
    Path(name): Path<VmName>,
    headers: HeaderMap,
    expect: IfMatch,
    Keyed(key): Keyed,
    wish: Wish,
) -> Result<Response, Failure> {
    let author = Author::new(caller.clone(), key);
    Ok(match vm_power::power(&app, &author, &caller, &headers, name, wish, expect).await? {
        Powered::Agreed(done) => vm_changed(StatusCode::OK, *done),
        Powered::Alone(vm) => warned(vm_power::ALONE, tagged(vm.generation, Json(vm).into_response())),
        Powered::Passed(answer) => answer,
    })
}

/// Off and on again with a VM, which takes up what waits for its next start.
#[utoipa::path(post, path = "/api/v1/vms/{name}/reboot", tag = "vms", params(("name" = String, Path), GraceQuery),
    responses((status = 200, body = Vm), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn reboot(
    VmOperator(caller): VmOperator,
    State(app): State<App>,
    Path(name): Path<VmName>,
    Query(query): Query<GraceQuery>,
    expect: IfMatch,
    Keyed(key): Keyed,
) -> Result<Response, Failure> {
    let done = vm_change::reboot(&app, &Author::new(caller, key), name, query.grace, expect).await?;
    Ok(vm_changed(StatusCode::OK, done))
}

/// Gives a VM another name; its guest learns it at its next start.
#[utoipa::path(post, path = "/api/v1/vms/{name}/rename", tag = "vms", params(("name" = String, Path)),
    request_body = VmRename,
    responses((status = 200, body = Vm), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn rename(
    VmOperator(caller): VmOperator,
    State(app): State<App>,
    Path(name): Path<VmName>,
    expect: IfMatch,
    KeyedJson { key, body }: KeyedJson<VmRename>,
) -> Result<Response, Failure> {
    let done = vm_change::rename(&app, &Author::new(caller, key), name, body.name, expect).await?;
    Ok(vm_changed(StatusCode::OK, done))
}

/// Makes a VM anew: a fresh root disk from its template, and a new life of its guest. What was on the root disk is lost; name,
/// address and further disks stay.
#[utoipa::path(post, path = "/api/v1/vms/{name}/reinit", tag = "vms", params(("name" = String, Path), ReinitQuery),
    responses((status = 200, body = Vm), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn reinit(
    VmOperator(caller): VmOperator,
    State(app): State<App>,
    Path(name): Path<VmName>,
    Query(query): Query<ReinitQuery>,
    expect: IfMatch,
    Keyed(key): Keyed,
) -> Result<Response, Failure> {
    if query.dry_run {
        let vm = vm_change::preview_reinit(&app, &caller.scope, name, query.template, expect).await?;
        return Ok(tagged(vm.generation, Json(vm).into_response()));
    }
    let author = Author::new(caller, key);
    Ok(vm_changed(StatusCode::OK, vm_change::reinit(&app, &author, name, query.template, expect).await?))
}

//! The paths of the API: each handler says who may, reads the request, calls one operation or view, and writes the answer.
//!
//! In: HTTP. Out: HTTP. No handler decides anything; the role is an argument type, so none can forget to ask for it.

mod answer;
mod cloud_init;
mod cluster;
mod console;
mod describe;
mod doctor;
mod events;
mod health;
mod net;
mod nodes;
mod openapi;
mod schema;
mod templates;
mod tokens;
mod vm_verbs;
mod vms;

use crate::{app::App, conditional, freshness, layers, view::VmList};
use axum::{Router, extract::DefaultBodyLimit, middleware::from_fn, middleware::from_fn_with_state};
use std::sync::Arc;
use utoipa::OpenApi as _;
use utoipa_axum::{router::OpenApiRouter, routes};
use waifud_api::paths;

/// All of the API, and its description.
fn api(app: &App) -> OpenApiRouter<App> {
    let quick = OpenApiRouter::default()
        .routes(routes!(vms::list, vms::create))
        .routes(routes!(vms::show, vm_verbs::update, vm_verbs::delete))
        .routes(routes!(vm_verbs::start))
        .routes(routes!(vm_verbs::stop))
        .routes(routes!(vm_verbs::reboot))
        .routes(routes!(vm_verbs::pause))
        .routes(routes!(vm_verbs::resume))
        .routes(routes!(vm_verbs::rename))
        .routes(routes!(vm_verbs::reinit))
        .routes(routes!(cloud_init::show, cloud_init::replace))
        .routes(routes!(templates::list))
        .routes(routes!(templates::show, templates::delete))
        .routes(routes!(nodes::list))
        .routes(routes!(nodes::show, nodes::update, nodes::remove))
        .routes(routes!(nodes::cordon))
        .routes(routes!(nodes::uncordon))
        .routes(routes!(cluster::status))
        .routes(routes!(cloud_init::show_defaults, cloud_init::replace_defaults))
        .routes(routes!(cluster::list_join_tokens, cluster::create_join_token))
        .routes(routes!(cluster::revoke_join_token))
        .routes(routes!(net::show))
        .routes(routes!(net::list_peers, net::add_peer))
        .routes(routes!(net::show_peer, net::remove_peer))
        .routes(routes!(tokens::list, tokens::create))
        .routes(routes!(tokens::revoke))
        .routes(routes!(events::history))
        .routes(routes!(events::audit))
        .routes(routes!(schema::apply))
        .routes(routes!(health::numbers))
        .layer(from_fn(conditional::layer))
        .layer(DefaultBodyLimit::max(crate::BODY_LIMIT_BYTES))
        .layer(from_fn_with_state(app.clone(), freshness::layer))
        .layer(from_fn(layers::deadline));
    // Transfers and streams take as long as they take.
    let lasting = OpenApiRouter::default()
        .routes(routes!(events::events))
        .layer(from_fn(conditional::layer))
        .routes(routes!(templates::add_version))
        .routes(routes!(console::console))
        .routes(routes!(console::vnc))
        .routes(routes!(console::logs))
        .routes(routes!(doctor::report))
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn_with_state(app.clone(), freshness::layer));
    let public = OpenApiRouter::default().routes(routes!(health::healthz)).routes(routes!(health::readyz));
    OpenApiRouter::with_openapi(openapi::Document::openapi()).merge(quick).merge(lasting).merge(public)
}

/// The whole router: the API, its description, and the panel for everything else.
pub(crate) fn router(app: App) -> Router {
    let (router, document) = api(&app).split_for_parts();
    router
        .route(paths::OPENAPI, axum::routing::get(openapi::serve))
        .layer(axum::Extension(openapi::Rendered::of(&document)))
        .layer(axum::Extension(schema::Apply::default()))
        .layer(axum::Extension(Arc::new(VmList::default())))
        .fallback(crate::panel::serve)
        .layer(from_fn_with_state(app.clone(), layers::observed))
        .with_state(app)
}

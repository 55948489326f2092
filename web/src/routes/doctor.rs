//! `/nodes/{name}/doctor`: a node looks at itself. Any node takes the question; the one that it is about answers it.

use crate::{app::App, caller::Viewer, extract::Path, owner::HOPS, problem::Failure, view};
use axum::{
    Json,
    body::Body,
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, Request};
use std::time::Duration;
use waifud_api::{doctor::NodeReport, paths, problem::Problem};
use waifud_model::name::NodeName;

/// How long the other node may take: it waits for libvirt, Redis and names, all at the same time, for two seconds at the most.
const PATIENCE: Duration = Duration::from_secs(4);

/// What a node finds when it looks at itself.
#[utoipa::path(get, path = "/api/v1/nodes/{name}/doctor", tag = "nodes", params(("name" = String, Path)),
    responses((status = 200, body = NodeReport), (status = "4XX", body = Problem, content_type = "application/problem+json"),
        (status = 503, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn report(
    Viewer(caller): Viewer,
    State(app): State<App>,
    Path(name): Path<NodeName>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let record = app.consensus.read(move |view| view::find_node(view, &name)).await?.map_err(Failure::Missing)?;
    if record.id == app.node {
        let findings = app.doctor.examine().await;
        let version = app.version.to_owned();
        return Ok(
            Json(NodeReport { node: record.name, at: app.clock.now().into(), version, findings }).into_response()
        );
    }
    let silent = |why: String| Failure::Silent { node: record.name.clone(), why };
    if headers.contains_key(HOPS) {
        return Err(silent("two nodes disagree about who it is".to_owned()));
    }
    let request = Request::get(paths::node(paths::NODE_DOCTOR, &record.name))
        .header(HOPS, "1")
        .body(Body::empty())
        .map_err(|_| Failure::Internal("a path that is none"))?;
    match tokio::time::timeout(PATIENCE, app.forward(record.id, &caller, request)).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(error)) => Err(silent(error.source.to_string())),
        Err(_) => Err(silent(format!("no answer in {} s", PATIENCE.as_secs()))),
    }
}

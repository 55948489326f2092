//! For monitoring: is the process up, can it take changes, and numbers.

use crate::{
    app::App,
    caller::Viewer,
    cluster_metrics,
    extract::Query,
    metrics,
    problem::Failure,
    standing,
    view::{self, VmList},
};
use axum::{Extension, extract::State, response::IntoResponse};
use http::header;
use std::sync::Arc;
use waifud_api::{metrics::MetricsQuery, problem::Problem};
use waifud_consensus::ProposeError;

/// The process is up.
#[utoipa::path(get, path = "/healthz", tag = "health", responses((status = 200, body = String)))]
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// The node can take changes: it is in a cluster, in touch with a leader, and a majority of the voters is heard.
#[utoipa::path(get, path = "/readyz", tag = "health",
    responses((status = 200, body = String), (status = 503, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn readyz(State(app): State<App>) -> Result<&'static str, Failure> {
    let status = app.consensus.status().borrow().clone();
    if let Some(why) = status.halted {
        return Err(Failure::Propose(ProposeError::Halted(why)));
    }
    if app.consensus.read(|view| view.cluster()).await?.is_none() {
        return Err(Failure::NotInitialised);
    }
    let standing = standing::of(&status, &app.observed(), app.clock.now());
    if !standing.quorum {
        let (alive, voters) = (standing.alive, standing.voters);
        return Err(Failure::Propose(ProposeError::NoQuorum { alive, voters }));
    }
    if status.leader.is_none() {
        return Err(Failure::Propose(ProposeError::NoLeaderYet));
    }
    Ok("ready\n")
}

/// Numbers in the OpenMetrics text format: of this node, or with `?cluster=true` of all of them, each sample with the label
/// `node`, and `waifud_up` of each.
#[utoipa::path(get, path = "/metrics", tag = "health", params(MetricsQuery),
    responses((status = 200, body = String, content_type = "application/openmetrics-text")))]
pub(super) async fn numbers(
    Viewer(caller): Viewer,
    State(app): State<App>,
    Extension(list): Extension<Arc<VmList>>,
    Query(query): Query<MetricsQuery>,
) -> Result<impl IntoResponse, Failure> {
    let gauges = view::gauges(&app, &list).await?;
    let mut text =
        metrics::render(&app.metrics, &gauges).map_err(|_| Failure::Internal("the metrics could not be written"))?;
    if query.cluster {
        let nodes = app.consensus.read(|view| view.nodes()).await?;
        let members: Vec<_> = nodes.into_iter().map(|node| (node.id, node.name)).collect();
        text = cluster_metrics::gather(&app, &caller, &members, text).await;
    }
    Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text))
}

//! For monitoring: is the process up, can it take changes, and numbers.

use crate::{
    app::App,
    caller::Viewer,
    cluster_metrics,
    extract::Query,
    metrics,
    problem::{self, Failure},
    standing,
    view::{self, VmList},
};
use axum::{
    Extension,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{StatusCode, header};
use std::sync::Arc;
use waifud_api::{metrics::MetricsQuery, problem::Problem};
use waifud_consensus::ProposeError;

/// How many entries a node that is ready may be behind its leader: what a busy cluster agrees on between two rounds of gossip.
const BEHIND: u64 = 1000;

/// The process is up; nothing is said of what it can do.
#[utoipa::path(get, path = "/healthz", tag = "health", responses((status = 200, body = String)))]
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// The node can take changes: its copy of the state works and has caught up, a majority of the voters is heard, and there is a
/// leader. For load balancers: without it 503, the most pressing reason as the problem, and all of them under `errors` by the
/// names `state`, `cluster`, `quorum`, `leader`, `caught_up`. Its guests' troubles are no reason: any node answers for them all.
#[utoipa::path(get, path = "/readyz", tag = "health",
    responses((status = 200, body = String), (status = 503, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn readyz(State(app): State<App>) -> Response {
    let missing = missing(&app).await;
    let Some((_, first)) = missing.first() else { return "ready\n".into_response() };
    let mut told = Problem { status: StatusCode::SERVICE_UNAVAILABLE.as_u16(), ..first.problem() };
    for (check, failure) in &missing {
        told = told.with_field(*check, failure.problem().detail);
    }
    // Not logged: whoever asks every second would fill the log with what the node says elsewhere.
    problem::respond(told)
}

/// What keeps the node from taking changes, the most pressing first.
async fn missing(app: &App) -> Vec<(&'static str, Failure)> {
    let status = app.consensus.status().borrow().clone();
    let mut missing = Vec::new();
    if let Some(why) = &status.halted {
        missing.push(("state", Failure::Propose(ProposeError::Halted(why.clone()))));
    }
    match app.consensus.read(|view| view.cluster()).await {
        Ok(Some(_)) => {}
        // Nothing else can be said of a node that is in no cluster.
        Ok(None) => return vec![("cluster", Failure::NotInitialised)],
        Err(error) => missing.push(("state", error.into())),
    }
    let observed = app.observed();
    let standing = standing::of(&status, &observed, app.clock.now());
    if !standing.quorum {
        let (alive, voters) = (standing.alive, standing.voters);
        missing.push(("quorum", Failure::Propose(ProposeError::NoQuorum { alive, voters })));
    }
    match status.leader {
        None => missing.push(("leader", Failure::Propose(ProposeError::NoLeaderYet))),
        // What the leader was last heard to have applied is some moments old, so this never asks too much.
        Some(leader) => {
            let wanted = observed.seen(leader).and_then(|leader| leader.applied).unwrap_or(0);
            if wanted > status.applied.saturating_add(BEHIND) {
                missing.push(("caught_up", Failure::Behind { wanted, applied: status.applied }));
            }
        }
    }
    missing
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

//! `/events`: as a list, or live; `/history` and `/audit`.

use crate::{
    app::App,
    caller::{Admin, Caller, Viewer},
    extract::{ObjectPath, Query},
    problem::{Failure, Missing},
    sse,
    view::{self, EventNames},
};
use axum::{
    Json,
    extract::State,
    response::{
        IntoResponse, Response,
        sse::{KeepAlive, Sse},
    },
};
use http::{HeaderMap, HeaderValue, header};
use std::time::Duration;
use waifud_api::{
    event::{Event, EventId, EventsQuery},
    headers::{EVENT_STREAM, LAST_EVENT_ID},
    history::{AuditEntry, AuditQuery, History, HistoryQuery},
    problem::Problem,
    schema,
};

/// A comment this often keeps proxies and sleeping laptops from taking the stream for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// What happened, oldest first; with `Accept: text/event-stream` live, after `Last-Event-ID` or `since`.
#[utoipa::path(get, path = "/api/v1/events", tag = "events", params(EventsQuery),
    responses((status = 200, content((Vec<Event> = "application/json"), (String = "text/event-stream"))),
        (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn events(
    Viewer(caller): Viewer,
    State(app): State<App>,
    Query(query): Query<EventsQuery>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let live = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).is_some_and(|v| v.contains(EVENT_STREAM));
    if live { stream(&app, caller, query, &headers).await } else { list(&app, caller, query).await }
}

async fn list(app: &App, caller: Caller, query: EventsQuery) -> Result<Response, Failure> {
    let limit = limited(query.limit)?;
    let read = app.consensus.read(move |view| {
        let query = view::event_query(view, caller.scope, query, limit)?;
        Ok((view.events(&query)?, EventNames::read(view)?))
    });
    let (events, names) = read.await?;
    let shown: Vec<Event> = events.into_iter().map(|event| view::event(event, &names)).collect();
    Ok(Json(shown).into_response())
}

fn limited(limit: Option<u32>) -> Result<u32, Failure> {
    let limit = limit.unwrap_or(EventsQuery::DEFAULT_LIMIT);
    if (1..=EventsQuery::MAX_LIMIT).contains(&limit) {
        return Ok(limit);
    }
    Err(Failure::Field { field: "limit", why: format!("1 to {}", EventsQuery::MAX_LIMIT) })
}

async fn stream(app: &App, caller: Caller, query: EventsQuery, headers: &HeaderMap) -> Result<Response, Failure> {
    if query.before.is_some() || query.limit.is_some() {
        return Err(Failure::Query("a stream has no end: before and limit are for lists".to_owned()));
    }
    let resumed = last_event_id(headers)?;
    // The filter of a stream; where it begins is told apart.
    let Caller { actor, scope, .. } = caller;
    let (filter, newest) = app
        .consensus
        .read(move |view| Ok((view::event_query(view, scope, query, EventsQuery::MAX_LIMIT)?, view.newest_event()?)))
        .await?;
    // A browser that connects again sends both; where it was is what it wants.
    let begin = match (resumed, filter.after) {
        (Some(id), _) => sse::Begin::Resume(id.into()),
        (None, Some(after)) => sse::Begin::At(after),
        (None, None) => sse::Begin::At(newest.unwrap_or(EventId::START.into())),
    };
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE).text("keep-alive");
    let mut response = Sse::new(sse::feed(app, actor, begin, filter)).keep_alive(keep_alive).into_response();
    // Proxies must pass the events on one by one.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<EventId>, Failure> {
    let Some(value) = headers.get(LAST_EVENT_ID) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    text.parse().map(Some).map_err(|error: waifud_api::event::SinceError| Failure::Header {
        name: "Last-Event-ID",
        why: error.to_string(),
    })
}

/// What became of a name: of each object that has or had it, gone ones too.
#[utoipa::path(get, path = "/api/v1/history/{kind}/{name}", tag = "events",
    params(("kind" = inline(schema::SubjectKind), Path), ("name" = String, Path), HistoryQuery),
    responses((status = 200, body = History),
        (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn history(
    Viewer(caller): Viewer,
    State(app): State<App>,
    ObjectPath(object): ObjectPath,
    Query(query): Query<HistoryQuery>,
) -> Result<Json<History>, Failure> {
    let limit = limited(query.limit)?;
    let wanted = object.clone();
    let found =
        app.consensus.read(move |view| view::history(view, &caller.scope, &wanted, query.before, limit)).await?;
    found.map(Json).ok_or(Failure::Missing(Missing::Past { object }))
}

/// Who did what: the commands of people and their programs, oldest first.
#[utoipa::path(get, path = "/api/v1/audit", tag = "events", params(AuditQuery),
    responses((status = 200, body = Vec<AuditEntry>),
        (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn audit(
    _: Admin,
    State(app): State<App>,
    Query(query): Query<AuditQuery>,
) -> Result<Json<Vec<AuditEntry>>, Failure> {
    let limit = limited(query.limit)?;
    app.consensus.read(move |view| view::audit(view, query, limit)).await.map(Json).map_err(Into::into)
}

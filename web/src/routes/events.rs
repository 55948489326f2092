//! `/events`: as a list, or live.

use crate::{
    app::App,
    caller::{Caller, Viewer},
    extract::Query,
    problem::Failure,
    sse::{self, events_after},
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
    event::{Event, EventId, EventsQuery, Since},
    headers::{EVENT_STREAM, LAST_EVENT_ID},
    problem::Problem,
    time::Time,
};
use waifud_consensus::state::{ReadError, View};

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
    if live { stream(&app, caller, query, &headers).await } else { list(&app, query).await }
}

async fn list(app: &App, query: EventsQuery) -> Result<Response, Failure> {
    let limit = query.limit.unwrap_or(EventsQuery::DEFAULT_LIMIT);
    if !(1..=EventsQuery::MAX_LIMIT).contains(&limit) {
        return Err(Failure::Field { field: "limit", why: format!("1 to {}", EventsQuery::MAX_LIMIT) });
    }
    let newest = app.consensus.applied().borrow().index;
    let (mut events, names) = app
        .consensus
        .read(move |view| {
            let events = match query.since {
                None => view.newest_events(limit)?,
                Some(since) => events_after(view, after(view, since, newest)?, limit)?,
            };
            Ok((events, EventNames::read(view)?))
        })
        .await?;
    events.truncate(limit as usize);
    let shown: Vec<Event> = events.into_iter().map(|event| view::event(event, &names)).collect();
    Ok(Json(shown).into_response())
}

async fn stream(app: &App, caller: Caller, query: EventsQuery, headers: &HeaderMap) -> Result<Response, Failure> {
    let newest = app.consensus.applied().borrow().index;
    // A browser that connects again sends both; where it was is what it wants.
    let after = match (last_event_id(headers)?, query.since) {
        (Some(id), _) => id,
        (None, Some(since)) => app.consensus.read(move |view| after(view, since, newest)).await?,
        (None, None) => EventId { index: newest, seq: u32::MAX },
    };
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE).text("keep-alive");
    let mut response = Sse::new(sse::feed(app, caller.actor, after)).keep_alive(keep_alive).into_response();
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

/// The last event that is not wanted.
fn after(view: &View<'_>, since: Since, newest: u64) -> Result<EventId, ReadError> {
    match since {
        Since::Event(id) => Ok(id),
        Since::Time(at) => Ok(EventId { index: index_before(view, at, newest)?, seq: u32::MAX }),
    }
}

/// The last index whose events are all before `at`. Log time never goes back, so halving finds it.
fn index_before(view: &View<'_>, at: Time, newest: u64) -> Result<u64, ReadError> {
    let (mut low, mut high) = (0, newest);
    while low < high {
        let middle = low + (high - low) / 2;
        match view.events(middle, 1)?.last() {
            Some(event) if event.at < at.0 => low = event.index,
            _ => high = middle,
        }
    }
    Ok(low)
}

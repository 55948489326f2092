//! How old an answer may be, and how old it is.
//!
//! In: `Waifu-Index` (at least this much applied), `Waifu-Consistency` or `?consistency=` (every acknowledged write). Out: on
//! every answer the applied index, the age of the replica, who answers, and a word if the data may be out of date. Reads never
//! need a quorum unless they ask for one; nothing here waits longer than a second.

use crate::{
    app::App,
    problem::Failure,
    standing::{self, Standing},
};
use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::time::Duration;
use waifud_api::headers::{AGE, APPLIED, CONSISTENCY, INDEX, NODE, STALE};

/// How long a request waits for the replica to catch up.
const CATCH_UP: Duration = Duration::from_secs(1);

/// What a request asks of the state it is answered from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Demand {
    at_least: Option<u64>,
    linearizable: bool,
}

/// The layer around everything under `/api/v1`.
pub(crate) async fn layer(State(app): State<App>, request: Request, next: Next) -> Response {
    let demand = match demand(request.headers(), request.uri().query()) {
        Ok(demand) => demand,
        Err(failure) => return failure.into_response(),
    };
    // Someone who may not read must not learn from the answer's time how far the state is either.
    let known = request.extensions().get::<crate::caller::Caller>().is_some();
    let mut response = match if known { meet(&app, demand).await } else { Ok(()) } {
        Ok(()) => next.run(request).await,
        Err(failure) => failure.into_response(),
    };
    if known {
        tell(&app, response.headers_mut());
    }
    response
}

fn demand(headers: &HeaderMap, query: Option<&str>) -> Result<Demand, Failure> {
    let at_least = match headers.get(INDEX) {
        None => None,
        Some(value) => {
            let index = value.to_str().ok().and_then(|text| text.parse().ok());
            Some(index.ok_or_else(|| Failure::Header { name: "Waifu-Index", why: "it must be a number".to_owned() })?)
        }
    };
    let word = |text: &str| match text {
        "local" => Ok(false),
        "linearizable" => Ok(true),
        _ => Err("it must be local or linearizable".to_owned()),
    };
    let in_header = headers.get(CONSISTENCY).map(|value| word(value.to_str().unwrap_or_default())).transpose();
    let in_header = in_header.map_err(|why| Failure::Header { name: "Waifu-Consistency", why })?;
    let mut in_query =
        query.into_iter().flat_map(|q| q.split('&')).filter_map(|pair| pair.strip_prefix("consistency="));
    let said = in_query.next().map(word).transpose().map_err(|why| Failure::Query(format!("consistency: {why}")))?;
    if in_query.next().is_some() {
        return Err(Failure::Query("consistency: it is given more than once".to_owned()));
    }
    let linearizable = in_header.or(said).unwrap_or(false);
    Ok(Demand { at_least, linearizable })
}

async fn meet(app: &App, demand: Demand) -> Result<(), Failure> {
    if let Some(wanted) = demand.at_least
        && !app.consensus.wait_applied(wanted, CATCH_UP).await
    {
        return Err(Failure::Behind { wanted, applied: app.consensus.applied().borrow().index });
    }
    if demand.linearizable {
        app.consensus.linearize(CATCH_UP).await.map_err(Failure::Linearize)?;
    }
    Ok(())
}

fn tell(app: &App, headers: &mut HeaderMap) {
    let status = app.consensus.status().borrow().clone();
    let applied = app.consensus.applied().borrow().index;
    let Standing { age, stale, .. } = standing::of(&status, &app.observed(), app.clock.now());
    headers.insert(APPLIED, HeaderValue::from(applied));
    if let Some(age) = age {
        headers.insert(AGE, HeaderValue::from(u64::try_from(age.as_millis()).unwrap_or(u64::MAX)));
    }
    if let Some(word) = stale {
        headers.insert(STALE, HeaderValue::from_static(word.as_str()));
    }
    if let Ok(value) = HeaderValue::try_from(app.name.as_str()) {
        headers.insert(HeaderName::from_static(NODE), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn demands_come_by_header_or_query() {
        let mut headers = HeaderMap::new();
        assert_eq!(demand(&headers, Some("filter=x")).unwrap(), Demand::default());
        assert!(demand(&headers, Some("filter=x&consistency=linearizable")).unwrap().linearizable);
        for bad in ["consistency=eventual", "consistency=local&consistency=local", "consistency="] {
            assert!(demand(&headers, Some(bad)).is_err(), "{bad}");
        }
        headers.insert(CONSISTENCY, HeaderValue::from_static("local"));
        assert!(!demand(&headers, Some("consistency=linearizable")).unwrap().linearizable);
        assert!(demand(&headers, Some("consistency=null")).is_err(), "what is not used must read all the same");
        headers.insert(INDEX, HeaderValue::from_static("12"));
        assert_eq!(demand(&headers, None).unwrap().at_least, Some(12));
        headers.insert(INDEX, HeaderValue::from_static("-1"));
        assert!(demand(&headers, None).is_err());
    }
}

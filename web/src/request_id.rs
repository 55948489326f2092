//! The id of a request: one word in its answer and in the logs of all nodes that it comes by.
//!
//! In: the client's `X-Request-Id`, or randomness. Out: the id, to whoever works for the request. It says nothing and decides
//! nothing: what makes a repetition harmless is [`idempotency`](crate::idempotency).

use crate::{
    app::App,
    ports::{Random, draw},
};
use http::{HeaderMap, HeaderValue};
use std::future::Future;
use tracing::Instrument as _;
use waifud_api::headers::REQUEST_ID;

/// Longest id that is taken over from a client: it stands in every line of the log that is about the request.
const MAX: usize = 128;

tokio::task_local! {
    /// Of the request that this task answers. What proposes is far below what reads headers, and nothing between needs it.
    static CURRENT: String;
}

/// The client's id if it is visible ASCII and not too long, or a fresh one.
pub(crate) fn take(app: &App, headers: &HeaderMap) -> String {
    given(headers).unwrap_or_else(|| fresh(app.random.as_ref()))
}

fn given(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(REQUEST_ID)?.to_str().ok()?;
    let decent = (1..=MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    decent.then(|| text.to_owned())
}

fn fresh(random: &dyn Random) -> String {
    format!("{:016x}", u64::from_le_bytes(draw(random)))
}

/// Puts the id where whoever passes the message on, or receives it, finds it.
pub(crate) fn put(headers: &mut HeaderMap, id: &str) {
    // It is visible ASCII, which every header takes.
    if let Ok(value) = HeaderValue::from_str(id) {
        headers.insert(REQUEST_ID, value);
    }
}

/// Does `work` for the request of this id.
pub(crate) async fn within<T>(id: String, work: impl Future<Output = T>) -> T {
    CURRENT.scope(id, work).await
}

/// Has `work` go on by itself when the request that this task answers is long answered; it has its id and stands in its span.
pub(crate) fn spawn(work: impl Future<Output = ()> + Send + 'static) {
    let id = current();
    let work = async move {
        match id {
            Some(id) => within(id, work).await,
            None => work.await,
        }
    };
    tokio::spawn(work.in_current_span());
}

/// The id of the request that this task answers; none outside of one.
pub(crate) fn current() -> Option<String> {
    CURRENT.try_with(String::clone).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(text: &[u8]) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_ID, HeaderValue::from_bytes(text).unwrap());
        given(&headers)
    }

    #[test]
    fn only_short_visible_ids_are_taken_over() {
        let longest = "x".repeat(MAX);
        for good in ["a", "abc-1", "01/02:{\"~", longest.as_str()] {
            assert_eq!(taken(good.as_bytes()).as_deref(), Some(good));
        }
        let too_long = "x".repeat(MAX + 1);
        for bad in ["", "a b", "a\tb", "\u{e4}", too_long.as_str()] {
            assert_eq!(taken(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(given(&HeaderMap::new()), None);
    }

    #[tokio::test]
    async fn the_id_is_known_to_what_works_for_the_request() {
        assert_eq!(current(), None);
        let known = within("abc".to_owned(), async { current() }).await;
        assert_eq!(known.as_deref(), Some("abc"));
    }
}

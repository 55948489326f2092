//! The live stream of events, kept up: when it breaks off it is taken up again after the last event, on any endpoint.

use super::{
    Client, ClientError,
    calls::with_query,
    history::pairs,
    request::Request,
    sse::{Frame, Parser},
};
use crate::{
    event::{EventsQuery, STREAM_EVENT, STREAM_FORGOTTEN, STREAM_OBSERVED, Since, StreamItem},
    headers, paths,
};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream::BoxStream};
use std::{collections::VecDeque, fmt, time::Duration};
use tokio::time::Instant;

/// The server writes at least every 15 s; after three of these in silence the connection is dead.
const SILENCE: Duration = Duration::from_secs(45);
/// The pause after the first failure; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause between failures.
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// Events as they happen. See [`Client::event_stream`].
struct EventStream {
    client: Client,
    /// What is wanted, and where to begin if no event has come yet.
    query: EventsQuery,
    /// The last id the stream told.
    last_id: String,
    open: Option<Open>,
    waiting: VecDeque<Frame>,
    pause: Duration,
    not_before: Option<Instant>,
}

impl fmt::Debug for EventStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStream").field("last_id", &self.last_id).finish_non_exhaustive()
    }
}

/// A connection that gives frames.
struct Open {
    chunks: BoxStream<'static, reqwest::Result<Bytes>>,
    parser: Parser,
}

impl Client {
    /// Events from `since` on and as they happen; from now on if it is none.
    ///
    /// The stream reconnects by itself and takes up after the last event, so none is missed or repeated. It gives an error when it
    /// cannot be taken up at this moment, and goes on trying when it is polled again: the reader decides when it is enough.
    pub fn event_stream(
        &self,
        since: Option<Since>,
    ) -> impl Stream<Item = Result<StreamItem, ClientError>> + Send + use<> {
        self.filtered_event_stream(EventsQuery { since, ..EventsQuery::default() })
    }

    /// The same, of those events alone that the query's filters let through. Its `before` and `limit` are for lists and do
    /// nothing here.
    pub fn filtered_event_stream(
        &self,
        query: EventsQuery,
    ) -> impl Stream<Item = Result<StreamItem, ClientError>> + Send + use<> {
        let state = EventStream {
            client: self.clone(),
            query: EventsQuery { before: None, limit: None, ..query },
            last_id: String::new(),
            open: None,
            waiting: VecDeque::new(),
            pause: FIRST_PAUSE,
            not_before: None,
        };
        futures::stream::unfold(state, |mut state| async move { Some((state.next().await, state)) })
    }
}

impl EventStream {
    async fn next(&mut self) -> Result<StreamItem, ClientError> {
        loop {
            while let Some(frame) = self.waiting.pop_front() {
                if let Some(item) = self.item(&frame)? {
                    return Ok(item);
                }
            }
            match self.open.take() {
                Some(open) => self.read(open).await,
                None => self.connect().await?,
            }
        }
    }

    async fn connect(&mut self) -> Result<(), ClientError> {
        if let Some(not_before) = self.not_before {
            tokio::time::sleep_until(not_before).await;
        }
        self.not_before = Some(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(LAST_PAUSE);
        let resumed = !self.last_id.is_empty();
        let since = self.query.since.filter(|_| !resumed);
        let query = EventsQuery { since, ..self.query.clone() };
        let mut request = Request::get(with_query(paths::EVENTS, &pairs(query).0));
        if resumed {
            request = request.header(headers::LAST_EVENT_ID, &self.last_id);
        }
        request.answer_timeout = Some(self.client.inner.config.answer_timeout);
        let (endpoint, response) = self.client.send(&request.header("accept", headers::EVENT_STREAM)).await?;
        let kind = response.headers().get(reqwest::header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
        if !kind.starts_with(headers::EVENT_STREAM) {
            let what = format!("its events are {kind:?}, not {}", headers::EVENT_STREAM);
            return Err(ClientError::Protocol { endpoint, what });
        }
        self.open = Some(Open { chunks: response.bytes_stream().boxed(), parser: Parser::default() });
        Ok(())
    }

    /// Reads once. A connection that ended, broke or fell silent is let go; the next turn makes a new one.
    async fn read(&mut self, mut open: Open) {
        if let Ok(Some(Ok(chunk))) = tokio::time::timeout(SILENCE, open.chunks.next()).await {
            self.waiting.extend(open.parser.feed(&chunk));
            if !open.parser.last_id().is_empty() {
                open.parser.last_id().clone_into(&mut self.last_id);
            }
            self.pause = FIRST_PAUSE;
            self.open = Some(open);
        }
    }

    /// What a frame holds; nothing if it is of a kind that a newer server sends.
    fn item(&self, frame: &Frame) -> Result<Option<StreamItem>, ClientError> {
        let read = match frame.event.as_str() {
            STREAM_EVENT => serde_json::from_str(&frame.data).map(StreamItem::Event),
            STREAM_OBSERVED => serde_json::from_str(&frame.data).map(StreamItem::Observed),
            STREAM_FORGOTTEN => serde_json::from_str(&frame.data).map(StreamItem::Forgotten),
            _ => return Ok(None),
        };
        read.map(Some).map_err(|e| ClientError::Protocol {
            endpoint: self.client.endpoint().clone(),
            what: format!("event {} does not read: {e}", frame.id),
        })
    }
}

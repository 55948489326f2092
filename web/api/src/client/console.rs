//! Consoles of guests: WebSockets, and the log as a stream.
//!
//! In: a VM. Out: a connection to its serial console or its screen through whichever endpoint has a way to the owner. One that
//! breaks is not made again here: whoever shows it to a person says so first.

use super::{Client, ClientError, Endpoint, Refusal, answer, calls::with_query, error::plain};
use crate::{
    console::{ConsoleQuery, FromConsole, LOG_OFFSET, LogsQuery, ToConsole, VNC_PROTOCOL},
    headers, paths,
};
use bytes::Bytes;
use futures::{
    SinkExt as _, Stream, StreamExt as _,
    stream::{SplitSink, SplitStream},
};
use reqwest::{Response, StatusCode, header};
use std::{sync::atomic::Ordering, time::Duration};
use tokio::time::timeout;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::{client::generate_key, derive_accept_key},
        protocol::{CloseFrame, Role, frame::coding::CloseCode},
    },
};
use waifud_model::name::VmName;

/// Servers ask for a sign of life every 10 s; one that is silent for this long has lost its power.
const SILENCE: Duration = Duration::from_secs(25);

type Socket = WebSocketStream<reqwest::Upgraded>;

/// What comes from a console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// The guest's bytes.
    Bytes(Bytes),
    /// A word about the console.
    Told(FromConsole),
}

/// Why a console ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConsoleEnd {
    /// The server says that it is over.
    #[error("{0}")]
    Over(String),
    /// The token is not good any more.
    #[error("{0}")]
    Forbidden(String),
    /// The connection broke, or the server wants another: connecting again may help.
    #[error("{0}")]
    Broken(String),
}

/// The side of a console that is read.
#[derive(Debug)]
pub struct ConsoleReader(SplitStream<Socket>);

/// The side of a console that is written.
#[derive(Debug)]
pub struct ConsoleWriter(SplitSink<Socket, Message>);

/// A guest's log, from a byte on.
pub struct Logs {
    /// Who answered.
    pub endpoint: Endpoint,
    /// Where in the log the first byte is.
    pub offset: u64,
    response: Response,
}

impl std::fmt::Debug for Logs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Logs").field("offset", &self.offset).finish_non_exhaustive()
    }
}

impl Client {
    /// Opens a VM's serial console.
    ///
    /// # Errors
    /// If no endpoint has a way to it.
    pub async fn console(
        &self,
        vm: &VmName,
        query: ConsoleQuery,
    ) -> Result<(Endpoint, ConsoleReader, ConsoleWriter), ClientError> {
        let replay = serde_json::to_value(query.replay).ok().and_then(|word| word.as_str().map(str::to_owned));
        let query = [
            ("take", query.take.to_string()),
            ("read_only", query.read_only.to_string()),
            ("replay", replay.unwrap_or_default()),
        ];
        let path = with_query(&paths::vm(paths::VM_CONSOLE, vm), &query);
        let (endpoint, socket) = self.socket(&path, None).await?;
        let (sink, stream) = socket.split();
        Ok((endpoint, ConsoleReader(stream), ConsoleWriter(sink)))
    }

    /// Opens a VM's screen. Its frames are the bytes of RFB.
    ///
    /// # Errors
    /// If no endpoint has a way to it.
    pub async fn vnc(&self, vm: &VmName) -> Result<(Endpoint, ConsoleReader, ConsoleWriter), ClientError> {
        let (endpoint, socket) = self.socket(&paths::vm(paths::VM_VNC, vm), Some(VNC_PROTOCOL)).await?;
        let (sink, stream) = socket.split();
        Ok((endpoint, ConsoleReader(stream), ConsoleWriter(sink)))
    }

    /// A part of a VM's log.
    ///
    /// # Errors
    /// If no endpoint has a way to it.
    pub async fn logs(&self, vm: &VmName, query: LogsQuery) -> Result<Logs, ClientError> {
        let mut words = vec![("follow", query.follow.to_string()), ("previous", query.previous.to_string())];
        words.extend(query.tail.map(|tail| ("tail", tail.to_string())));
        words.extend(query.from.map(|from| ("from", from.to_string())));
        let path = with_query(&paths::vm(paths::VM_LOGS, vm), &words);
        let (endpoint, response) = self.ask_owner(&path, |request| request).await?;
        let offset = response.headers().get(LOG_OFFSET).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
        let offset = offset.ok_or_else(|| ClientError::Protocol {
            endpoint: endpoint.clone(),
            what: "it does not say where in the log its answer begins".to_owned(),
        })?;
        Ok(Logs { endpoint, offset, response })
    }

    async fn socket(&self, path: &str, protocol: Option<&'static str>) -> Result<(Endpoint, Socket), ClientError> {
        let key = generate_key();
        let (endpoint, response) = self
            .ask_owner(path, |request| {
                let request = request
                    .header(header::CONNECTION, "Upgrade")
                    .header(header::UPGRADE, "websocket")
                    .header(header::SEC_WEBSOCKET_VERSION, "13")
                    .header(header::SEC_WEBSOCKET_KEY, &key);
                match protocol {
                    Some(protocol) => request.header(header::SEC_WEBSOCKET_PROTOCOL, protocol),
                    None => request,
                }
            })
            .await?;
        let odd = |what: String| ClientError::Protocol { endpoint: endpoint.clone(), what };
        let accepted = response.headers().get(header::SEC_WEBSOCKET_ACCEPT).and_then(|v| v.to_str().ok());
        if response.status() != StatusCode::SWITCHING_PROTOCOLS
            || accepted != Some(derive_accept_key(key.as_bytes()).as_str())
        {
            return Err(odd(format!("it answered {} where a WebSocket was asked for", response.status())));
        }
        let upgraded = response.upgrade().await.map_err(|error| odd(plain(&error)))?;
        Ok((endpoint, WebSocketStream::from_raw_socket(upgraded, Role::Client, None).await))
    }

    /// Asks one endpoint after the other, once: what one of them has no way to, another may have.
    async fn ask_owner(
        &self,
        path: &str,
        complete: impl Fn(reqwest::RequestBuilder) -> reqwest::RequestBuilder,
    ) -> Result<(Endpoint, Response), ClientError> {
        let count = self.inner.hosts.len();
        let first = self.inner.preferred.load(Ordering::Relaxed);
        let (mut refusals, mut problem) = (Vec::new(), None);
        for number in (0..count).map(|n| (first + n) % count) {
            let host = &self.inner.hosts[number];
            let mut request = complete(host.upgrading(&self.inner.config)?.get(format!("{}{path}", host.base)));
            let index = self.inner.index.load(Ordering::Relaxed);
            if index > 0 {
                request = request.header(headers::INDEX, index);
            }
            let reason = match timeout(self.inner.config.answer_timeout, request.send()).await {
                Err(_) => "no answer in time".to_owned(),
                Ok(Err(error)) => plain(&error),
                Ok(Ok(response)) => {
                    let status = response.status();
                    if status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS {
                        self.inner.preferred.store(number, Ordering::Relaxed);
                        return Ok((host.endpoint.clone(), response));
                    }
                    let said = answer::problem(response).await;
                    if !said.code.is_of_this_node() && !said.code.is_unreachable() {
                        return Err(ClientError::Problem(Box::new(said)));
                    }
                    problem.insert(said).detail.clone()
                }
            };
            refusals.push(Refusal { endpoint: host.endpoint.clone(), reason });
        }
        Err(match problem {
            Some(problem) => ClientError::Problem(Box::new(problem)),
            None => ClientError::Unreachable(refusals),
        })
    }
}

impl ConsoleReader {
    /// What comes next.
    ///
    /// # Errors
    /// When it has ended.
    pub async fn next(&mut self) -> Result<Frame, ConsoleEnd> {
        loop {
            let message = match timeout(SILENCE, self.0.next()).await {
                Err(_) => return Err(ConsoleEnd::Broken(format!("no sign of life for {} s", SILENCE.as_secs()))),
                Ok(None) => return Err(ConsoleEnd::Broken("the connection ended".to_owned())),
                Ok(Some(Err(error))) => return Err(ConsoleEnd::Broken(error.to_string())),
                Ok(Some(Ok(message))) => message,
            };
            match message {
                Message::Binary(bytes) => return Ok(Frame::Bytes(bytes)),
                // A word that does not read is a newer server's.
                Message::Text(text) => {
                    return Ok(Frame::Told(serde_json::from_str(&text).unwrap_or(FromConsole::Other)));
                }
                Message::Close(close) => return Err(end(close)),
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    }
}

fn end(close: Option<CloseFrame>) -> ConsoleEnd {
    match close {
        Some(CloseFrame { code: CloseCode::Normal, reason }) => ConsoleEnd::Over(reason.to_string()),
        Some(CloseFrame { code: CloseCode::Policy, reason }) => ConsoleEnd::Forbidden(reason.to_string()),
        Some(CloseFrame { reason, .. }) => ConsoleEnd::Broken(reason.to_string()),
        None => ConsoleEnd::Broken("it was closed without a word".to_owned()),
    }
}

impl ConsoleWriter {
    /// Sends bytes. That they were sent does not mean that the guest has them.
    ///
    /// # Errors
    /// If the connection broke.
    pub async fn send(&mut self, bytes: Bytes) -> Result<(), ConsoleEnd> {
        self.0.send(Message::Binary(bytes)).await.map_err(|error| ConsoleEnd::Broken(error.to_string()))
    }

    /// Says something about the console.
    ///
    /// # Errors
    /// If the connection broke.
    pub async fn say(&mut self, word: ToConsole) -> Result<(), ConsoleEnd> {
        let json = serde_json::to_string(&word).map_err(|error| ConsoleEnd::Broken(error.to_string()))?;
        self.0.send(Message::Text(json.into())).await.map_err(|error| ConsoleEnd::Broken(error.to_string()))
    }

    /// Leaves.
    pub async fn close(mut self) {
        // Who does not hear it finds out by themselves.
        let _ = self.0.close().await;
    }
}

impl Logs {
    /// The bytes as they come.
    pub fn into_bytes(self) -> impl Stream<Item = Result<Bytes, ClientError>> {
        let endpoint = self.endpoint;
        self.response.bytes_stream().map(move |chunk| {
            chunk.map_err(|error| {
                ClientError::Unreachable(vec![Refusal { endpoint: endpoint.clone(), reason: plain(&error) }])
            })
        })
    }
}

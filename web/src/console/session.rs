//! A WebSocket and a console, until either ends.
//!
//! In: an open WebSocket, and what the node gave for it. Out: frames both ways. A viewer that cannot be heard any more is
//! let go, and so is one whose token was revoked or is for other VMs by now: a console outlives the moment at which its viewer
//! was let in.

use super::port::{Attached, Heard, Line, Said};
use crate::{app::App, caller::Caller, sse::may_look};
use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use bytes::{Bytes, BytesMut};
use futures::{
    SinkExt as _, StreamExt as _,
    stream::{SplitSink, SplitStream},
};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{MissedTickBehavior, interval, timeout},
};
use waifud_api::console::ToConsole;
use waifud_consensus::{
    Handle,
    state::{SubjectKey, View},
};
use waifud_model::{command::Actor, ids::VmId, scope::Scope};

/// How often a viewer is asked for a sign of life.
const PING: Duration = Duration::from_secs(10);
/// How often it is looked whether a viewer still may look: whoever revokes a token in a hurry does not wait longer.
const LOOK: Duration = Duration::from_secs(1);
/// A viewer without a sign of life for so long is gone: three questions.
const DEADLINE: Duration = Duration::from_secs(30);
/// How long a last word may take.
const FAREWELL: Duration = Duration::from_secs(1);
/// What is read from a screen at once.
const CHUNK: usize = 32 << 10;

/// Who looks, to be asked again and again whether they may.
#[derive(Debug, Clone)]
pub(crate) struct Reader {
    app: App,
    actor: Actor,
    scope: Scope,
    vm: VmId,
}

/// Why a session ends, as the viewer is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The viewer left.
    Left,
    /// No sign of life.
    Silent,
    /// The node stops, or the guest's end is gone: connecting again is worth a try.
    Away,
    /// The guest is off.
    Over,
    /// They may not look any more.
    Forbidden,
}

impl Reader {
    /// The caller, who looks at a VM, by this node's replica.
    pub(crate) fn new(app: &App, caller: Caller, vm: VmId) -> Self {
        let Caller { actor, scope, .. } = caller;
        Self { app: app.clone(), actor, scope, vm }
    }

    /// Returns when they may not look any more.
    pub(crate) async fn forbidden(&self) {
        let mut tick = interval(LOOK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if !self.may_look(&self.app.consensus).await {
                return;
            }
        }
    }

    async fn may_look(&self, consensus: &Handle) -> bool {
        let (Self { actor, scope, vm, .. }, now) = (self.clone(), self.app.clock.now());
        let may = move |view: &View<'_>| Ok(may_look(view, &actor, now)? && view.sees(&scope, &SubjectKey::Vm(vm))?);
        consensus.read(may).await.unwrap_or_else(|error| {
            // Without a replica nobody can be refused for good; it is asked again soon.
            tracing::warn!(%error, "it cannot be told whether a viewer still may look");
            true
        })
    }
}

/// A serial console.
pub(crate) async fn serial(socket: WebSocket, attached: Attached, reader: Reader) {
    let (mut sink, mut stream) = socket.split();
    let Attached { mut output, input } = attached;
    let shown = async {
        let mut ping = pings();
        loop {
            let message = tokio::select! {
                biased;
                said = output.recv() => match said {
                    Some(Said::Bytes(bytes)) => Message::Binary(bytes),
                    Some(Said::Told(told)) => match serde_json::to_string(&told) {
                        Ok(json) => Message::Text(json.into()),
                        Err(error) => {
                            tracing::error!(%error, "a word about a console cannot be written");
                            continue;
                        }
                    },
                    None => return End::Away,
                },
                _ = ping.tick() => Message::Ping(Bytes::new()),
            };
            if sink.send(message).await.is_err() {
                return End::Left;
            }
        }
    };
    let typed = async {
        loop {
            let heard = match next(&mut stream).await {
                Ok(Message::Binary(bytes)) => Heard::Bytes(bytes),
                Ok(Message::Text(text)) => match serde_json::from_str::<ToConsole>(&text) {
                    Ok(told) => Heard::Told(told),
                    Err(error) => {
                        tracing::debug!(%error, "a viewer's word does not read");
                        continue;
                    }
                },
                Ok(_) => continue,
                Err(end) => return end,
            };
            if input.send(heard).await.is_err() {
                return End::Away;
            }
        }
    };
    let end = tokio::select! { end = shown => end, end = typed => end, () = reader.forbidden() => End::Forbidden };
    farewell(sink, stream, end).await;
}

/// A screen: bytes and nothing else.
pub(crate) async fn screen(socket: WebSocket, line: Box<dyn Line>, reader: Reader) {
    let (mut sink, mut stream) = socket.split();
    let (mut from_guest, mut to_guest) = tokio::io::split(line);
    let shown = async {
        let mut ping = pings();
        loop {
            let mut chunk = BytesMut::with_capacity(CHUNK);
            let message = tokio::select! {
                biased;
                read = from_guest.read_buf(&mut chunk) => match read {
                    Ok(0) | Err(_) => return End::Over,
                    Ok(_) => Message::Binary(chunk.freeze()),
                },
                _ = ping.tick() => Message::Ping(Bytes::new()),
            };
            if sink.send(message).await.is_err() {
                return End::Left;
            }
        }
    };
    let typed = async {
        loop {
            match next(&mut stream).await {
                Ok(Message::Binary(bytes)) if to_guest.write_all(&bytes).await.is_err() => return End::Over,
                Ok(_) => {}
                Err(end) => return end,
            }
        }
    };
    let end = tokio::select! { end = shown => end, end = typed => end, () = reader.forbidden() => End::Forbidden };
    farewell(sink, stream, end).await;
}

fn pings() -> tokio::time::Interval {
    let mut ping = interval(PING);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ping
}

/// The next frame; answers to pings count as signs of life.
async fn next(stream: &mut SplitStream<WebSocket>) -> Result<Message, End> {
    match timeout(DEADLINE, stream.next()).await {
        Err(_) => Err(End::Silent),
        Ok(None | Some(Err(_) | Ok(Message::Close(_)))) => Err(End::Left),
        Ok(Some(Ok(message))) => Ok(message),
    }
}

/// Says why, and hears the other side out: one that is still writing its own farewell finds nobody on a line that was cut (RFC
/// 6455, section 7.1.1).
async fn farewell(mut sink: SplitSink<WebSocket, Message>, mut stream: SplitStream<WebSocket>, end: End) {
    let (code, reason) = match end {
        End::Left => (close_code::NORMAL, ""),
        End::Silent => (close_code::AWAY, "no sign of life for 30 s"),
        End::Away => (close_code::AWAY, "the console was closed here; connect again"),
        End::Over => (close_code::NORMAL, "the guest went off"),
        End::Forbidden => (close_code::POLICY, "the token was revoked, has expired or is not for this VM any more"),
    };
    let words = async {
        // Whoever is gone already misses nothing.
        let _ = sink.send(Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await;
        while matches!(stream.next().await, Some(Ok(message)) if !matches!(message, Message::Close(_))) {}
        let _ = sink.close().await;
    };
    let _ = timeout(FAREWELL, words).await;
}

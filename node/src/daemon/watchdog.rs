//! The service manager's watchdog: as long as this daemon would answer a client, the manager is told that it lives.
//!
//! In: the local socket, and what the manager asks for (`WatchdogSec=`). Out: `WATCHDOG=1`, or silence, whereupon the
//! manager starts the daemon anew; guests run on meanwhile. The question goes the way of every client, through the
//! socket, the router and the replica, so a runtime whose threads are all stuck or a socket that nobody accepts from is
//! noticed. It must not judge the answer: a node without quorum, or one whose disk is full, lives and has much to say, and
//! a restart would mend neither.

use http::{Request, StatusCode, header};
use http_body_util::Empty;
use hyper::{body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use std::{
    future::Future,
    io,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{
    net::UnixStream,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;

/// What is asked: it is answered from the local replica, by every node in every state.
const QUESTION: &str = "/api/v1/cluster";
/// Questions in the time after which the manager loses patience: two may go wrong before a restart.
const QUESTIONS: u32 = 3;

/// Why the daemon is not called alive.
#[derive(Debug, thiserror::Error)]
enum Silence {
    #[error("the local socket cannot be connected to")]
    Connect(#[source] io::Error),
    #[error("the connection ended before there was an answer")]
    Http(#[from] hyper::Error),
    #[error("there was no answer within {} s", .0.as_secs())]
    Late(Duration),
}

/// Asks and tells until `stop`. Returns at once where no manager waits for it.
pub(super) async fn keep(socket: PathBuf, tell: impl Fn(), stop: CancellationToken) {
    let Some(patience) = sd_notify::watchdog_enabled() else { return };
    let pace = patience / QUESTIONS;
    tokio::select! {
        () = stop.cancelled() => {}
        () = tell_while_alive(pace, || ask_within(&socket, pace), tell) => {}
    }
}

async fn tell_while_alive<F>(pace: Duration, ask: impl Fn() -> F, tell: impl Fn())
where
    F: Future<Output = Result<(), Silence>>,
{
    let mut ticks = interval(pace);
    // A question that took long is not made up for.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match ask().await {
            Ok(()) => tell(),
            Err(error) => tracing::error!(
                error = &error as &dyn std::error::Error,
                "this daemon does not answer itself; if that goes on, the service manager restarts it"
            ),
        }
    }
}

async fn ask_within(socket: &Path, patience: Duration) -> Result<(), Silence> {
    timeout(patience, ask(socket)).await.map_err(|_| Silence::Late(patience))?.map(drop)
}

/// A connection of its own each time: that the socket is accepted from is part of the question.
async fn ask(socket: &Path) -> Result<StatusCode, Silence> {
    let stream = UnixStream::connect(socket).await.map_err(Silence::Connect)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = http::Uri::from_static(QUESTION);
    request.headers_mut().insert(header::HOST, http::HeaderValue::from_static("localhost"));
    let answer = async { Ok(sender.send_request(request).await?.status()) };
    tokio::select! {
        answer = answer => answer,
        // It goes on for as long as the sender is there; an end before the answer is told by the answer too.
        Err(error) = connection => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{Router, routing::get};
    use std::cell::Cell;
    use tokio::net::UnixListener;

    #[tokio::test]
    async fn any_answer_is_a_sign_of_life() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let router = Router::new().route(QUESTION, get(async || StatusCode::SERVICE_UNAVAILABLE));
        tokio::spawn(async move { axum::serve(listener, router).await });
        assert_eq!(ask(&socket).await.unwrap(), StatusCode::SERVICE_UNAVAILABLE);
        ask_within(&socket, Duration::from_secs(30)).await.unwrap();
    }

    #[tokio::test]
    async fn nobody_who_accepts_or_answers_is_silence() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        assert!(matches!(ask(&socket).await, Err(Silence::Connect(_))));
        let _listener = UnixListener::bind(&socket).unwrap();
        let asked = ask_within(&socket, Duration::from_millis(50)).await;
        assert!(matches!(asked, Err(Silence::Late(_))), "{asked:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_manager_is_told_only_of_answers() {
        let (asked, told) = (Cell::new(0), Cell::new(0));
        let pace = Duration::from_secs(20);
        let ask = || {
            asked.set(asked.get() + 1);
            let answers = asked.get() != 2;
            async move { answers.then_some(()).ok_or(Silence::Late(pace)) }
        };
        let watch = tell_while_alive(pace, ask, || told.set(told.get() + 1));
        assert!(timeout(pace * 3 + pace / 2, watch).await.is_err());
        assert_eq!((asked.get(), told.get()), (4, 3));
    }
}

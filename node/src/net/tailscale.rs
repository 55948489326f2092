//! Where tailscaled runs, it is asked to offer the guests' subnet to its network, beside whatever it offers already.
//! In: the subnet; out: a change of tailscaled's `AdvertiseRoutes`, and of nothing else. Routes of others are never
//! taken away.
//!
//! tailscaled's local API is HTTP on a UNIX socket: `GET` and `PATCH /localapi/v0/prefs`, which Tailscale calls stable
//! (`client/local`, `ipn.MaskedPrefs`: a field counts if its `…Set` is true). An offered route takes effect once the
//! network's administrator approves it, or by an `autoApprovers` rule.

use axum::body::{Body, to_bytes};
use http::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::net::UnixStream;

/// Where tailscaled listens on Linux.
pub const SOCKET: &str = "/var/run/tailscale/tailscaled.sock";

/// The one name tailscaled answers to; requests for others are taken for a browser that was tricked.
const HOST: &str = "local-tailscaled.sock";
const PREFS: &str = "/localapi/v0/prefs";
/// It answers from memory; a change is written to its disk.
const PATIENCE: Duration = Duration::from_secs(10);
/// Its preferences are some hundred lines.
const ANSWER_MAX: usize = 1024 * 1024;

/// What asking came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advertised {
    /// No tailscaled runs here.
    NotRunning,
    /// It was as it should be.
    Already,
    /// Now it is.
    Changed,
}

/// Why tailscaled does not do it.
#[derive(Debug, thiserror::Error)]
pub enum TailscaleError {
    /// The socket is there and cannot be used.
    #[error(
        "{socket} cannot be used; waifud has to run as root, or as tailscale's operator (tailscale set --operator)",
        socket = .socket.display()
    )]
    Permission {
        /// The socket.
        socket: PathBuf,
    },
    /// The connection broke.
    #[error("tailscaled cannot be talked to")]
    Connection(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No answer.
    #[error("tailscaled did not answer within {} s", PATIENCE.as_secs())]
    Hung,
    /// It said no.
    #[error("tailscaled refuses to {doing} ({status}): {said}")]
    Refused {
        /// What was asked.
        doing: &'static str,
        /// The HTTP status.
        status: StatusCode,
        /// Its words.
        said: String,
    },
    /// It said something else than it should.
    #[error("tailscaled's preferences cannot be read")]
    Answer(#[source] serde_json::Error),
}

/// The part of tailscaled's preferences that is ours to read. Routes are text: there are IPv6 ones among them.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Prefs {
    /// `null` as long as there are none.
    #[serde(default)]
    advertise_routes: Option<Vec<String>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Change {
    advertise_routes: Vec<String>,
    advertise_routes_set: bool,
}

/// The tailscaled of this host.
#[derive(Debug, Clone)]
pub struct Tailscale {
    socket: PathBuf,
}

impl Tailscale {
    /// The one that listens on `socket`, usually [`SOCKET`].
    #[must_use]
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// Has `subnet` offered. Does no harm when it is already, and so may be called from time to time: tailscaled may
    /// have come up meanwhile, or somebody may have set its routes anew.
    ///
    /// # Errors
    /// If tailscaled runs and does not do it.
    pub async fn ensure(&self, subnet: Ipv4Net) -> Result<Advertised, TailscaleError> {
        self.change(|routes| with(routes, subnet)).await
    }

    /// Has `subnet` no longer offered.
    ///
    /// # Errors
    /// If tailscaled runs and does not do it.
    pub async fn withdraw(&self, subnet: Ipv4Net) -> Result<Advertised, TailscaleError> {
        self.change(|routes| without(routes, subnet)).await
    }

    /// Reads the routes and writes what `plan` makes of them. Between the two, somebody may set routes by hand and have
    /// it undone: the protocol knows no condition. Nothing is written when nothing changes, which keeps that to two
    /// moments.
    async fn change(&self, plan: impl FnOnce(&[String]) -> Option<Vec<String>>) -> Result<Advertised, TailscaleError> {
        let Some(prefs) = self.ask("tell its routes", Method::GET, Vec::new()).await? else {
            tracing::debug!(socket = %self.socket.display(), "no tailscaled runs here");
            return Ok(Advertised::NotRunning);
        };
        let prefs: Prefs = serde_json::from_slice(&prefs).map_err(TailscaleError::Answer)?;
        let Some(advertise_routes) = plan(&prefs.advertise_routes.unwrap_or_default()) else {
            return Ok(Advertised::Already);
        };
        tracing::info!(routes = ?advertise_routes, "tailscaled is told which routes to offer");
        let change = Change { advertise_routes, advertise_routes_set: true };
        let body = serde_json::to_vec(&change).map_err(TailscaleError::Answer)?;
        let done = self.ask("offer the guests' subnet", Method::PATCH, body).await?;
        Ok(if done.is_some() { Advertised::Changed } else { Advertised::NotRunning })
    }

    /// One request on a connection of its own; none if nobody listens.
    async fn ask(&self, doing: &'static str, method: Method, body: Vec<u8>) -> Result<Option<Vec<u8>>, TailscaleError> {
        let asked = async {
            let Some(stream) = connect(&self.socket).await? else { return Ok(None) };
            request(stream, doing, method, body).await.map(Some)
        };
        tokio::time::timeout(PATIENCE, asked).await.map_err(|_| TailscaleError::Hung)?
    }
}

async fn connect(socket: &Path) -> Result<Option<UnixStream>, TailscaleError> {
    match UnixStream::connect(socket).await {
        Ok(stream) => Ok(Some(stream)),
        // Not installed; or stopped, for it leaves its socket behind.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(TailscaleError::Permission { socket: socket.to_owned() })
        }
        Err(error) => Err(broken(error)),
    }
}

async fn request(
    stream: UnixStream,
    doing: &'static str,
    method: Method,
    body: Vec<u8>,
) -> Result<Vec<u8>, TailscaleError> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let request = Request::builder()
        .method(method)
        .uri(PREFS)
        .header(header::HOST, HOST)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CONNECTION, "close")
        .body(Body::from(body))
        .map_err(broken)?;
    let answer = async {
        let answer = sender.send_request(request).await.map_err(broken)?;
        let status = answer.status();
        let body = to_bytes(Body::new(answer.into_body()), ANSWER_MAX).await.map_err(broken)?;
        Ok((status, body))
    };
    // The connection is driven here and ends with the request. Its own error says no more than the answer's.
    let (answer, _) = tokio::join!(answer, connection);
    let (status, body) = answer?;
    if status == StatusCode::OK {
        return Ok(body.to_vec());
    }
    Err(TailscaleError::Refused { doing, status, said: said(&body) })
}

fn broken(error: impl std::error::Error + Send + Sync + 'static) -> TailscaleError {
    TailscaleError::Connection(Box::new(error))
}

/// tailscaled puts its words in JSON, or in plain text when it did not come that far.
fn said(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Said {
        #[serde(alias = "Error")]
        error: String,
    }
    match serde_json::from_slice::<Said>(body) {
        Ok(said) => said.error,
        Err(_) => String::from_utf8_lossy(body).trim().to_owned(),
    }
}

/// The routes with `subnet` at their end; none if it is among them.
fn with(routes: &[String], subnet: Ipv4Net) -> Option<Vec<String>> {
    if routes.iter().any(|route| is(route, subnet)) {
        return None;
    }
    Some(routes.iter().cloned().chain([subnet.trunc().to_string()]).collect())
}

/// The routes without `subnet`; none if it is not among them.
fn without(routes: &[String], subnet: Ipv4Net) -> Option<Vec<String>> {
    let rest: Vec<_> = routes.iter().filter(|route| !is(route, subnet)).cloned().collect();
    (rest.len() < routes.len()).then_some(rest)
}

fn is(route: &str, subnet: Ipv4Net) -> bool {
    route.parse() == Ok(subnet.trunc())
}

#[cfg(test)]
mod tests;

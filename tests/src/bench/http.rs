//! The API over a node's socket: HTTP/1.1 on a connection that is kept, without the conveniences of the typed client, as
//! etcd is asked without those of its own.

use super::load::Writer;
use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use std::path::Path;
use tokio::net::UnixStream;
use waifud_api::{paths, token::ApiTokenCreate};
use waifud_model::token::Role;

/// A connection that carries one request at a time.
pub(super) struct Connection(SendRequest<Full<Bytes>>);

impl Connection {
    /// Connects to a socket.
    pub(super) async fn open(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket).await.with_context(|| format!("connect to {}", socket.display()))?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self(sender))
    }

    /// Sends a request and reads the whole answer.
    pub(super) async fn send(&mut self, method: Method, path: &str, body: Bytes) -> Result<Bytes> {
        self.0.ready().await?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .header("content-type", "application/json")
            .body(Full::new(body))?;
        let (head, body) = self.0.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        if !head.status.is_success() {
            bail!("{path}: {}: {}", head.status, String::from_utf8_lossy(&body));
        }
        Ok(body)
    }
}

/// Makes API tokens: a write that touches a row of its own and that nobody acts upon.
pub(super) struct Tokens {
    connection: Connection,
    body: Bytes,
}

impl Tokens {
    /// A client.
    pub(super) fn new(connection: Connection) -> Result<Self> {
        let description = "x".repeat(200);
        let create = ApiTokenCreate { role: Role::Viewer, description, valid_seconds: None, scope: None };
        Ok(Self { connection, body: serde_json::to_vec(&create)?.into() })
    }
}

impl Writer for Tokens {
    async fn write(&mut self) -> Result<()> {
        self.connection.send(Method::POST, paths::TOKENS, self.body.clone()).await.map(drop)
    }
}

/// A number out of a text of metrics: the sum over all series of this name.
pub(super) fn metric(text: &str, name: &str) -> Option<f64> {
    let values = text.lines().filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        (series.split('{').next()? == name).then(|| value.parse::<f64>().ok())?
    });
    values.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
}

/// Reads a node's metrics.
pub(super) async fn metrics(socket: &Path) -> Result<String> {
    let text = Connection::open(socket).await?.send(Method::GET, paths::METRICS, Bytes::new()).await?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_found_by_their_whole_name() {
        let text = "# TYPE a counter\na 1\na_total{x=\"1\"} 2\na_total{x=\"2\"} 3.5\n";
        assert_eq!(metric(text, "a"), Some(1.0));
        assert_eq!(metric(text, "a_total"), Some(5.5));
        assert_eq!(metric(text, "b"), None);
    }
}

//! etcd's `Put` and `Range` over gRPC, and nothing else of either: one message of two fields in a frame (gRPC over HTTP/2,
//! "Length-Prefixed-Message"), so that no generated code and no protocol compiler is needed, and the client costs next to
//! nothing.

use super::load::Writer;
use anyhow::{Context, Result, bail};
use bytes::{BufMut as _, Bytes, BytesMut};
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::path::Path;
use tokio::net::UnixStream;

/// A connection. Clones share it: HTTP/2 carries many calls at once.
#[derive(Clone)]
pub(super) struct Connection(SendRequest<Full<Bytes>>);

impl Connection {
    /// Connects to a socket.
    pub(super) async fn open(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket).await.with_context(|| format!("connect to {}", socket.display()))?;
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self(sender))
    }

    /// `KV.Put`.
    pub(super) async fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.call("Put", key, value).await.map(drop)
    }

    /// `KV.Range` over the keys from `from` to before `to`: linearizable, as etcd has it by default. The answer as it came.
    pub(super) async fn range(&mut self, from: &[u8], to: &[u8]) -> Result<Bytes> {
        self.call("Range", from, to).await
    }

    /// Both take a message of two fields.
    async fn call(&mut self, method: &str, first: &[u8], second: &[u8]) -> Result<Bytes> {
        self.0.ready().await?;
        let request = Request::post(format!("http://etcd/etcdserverpb.KV/{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Full::new(frame(first, second)))?;
        let (head, body) = self.0.send_request(request).await?.into_parts();
        let body = body.collect().await?;
        // An answer without a message has its trailers in its head.
        let trailers = body.trailers().unwrap_or(&head.headers);
        match trailers.get("grpc-status").map(http::HeaderValue::as_bytes) {
            Some(b"0") => Ok(body.to_bytes()),
            status => bail!("{method} failed: status {status:?}, {:?}", trailers.get("grpc-message")),
        }
    }
}

/// `PutRequest { key = 1, value = 2 }` or `RangeRequest { key = 1, range_end = 2 }` in its frame.
fn frame(first: &[u8], second: &[u8]) -> Bytes {
    let mut message = BytesMut::new();
    for (tag, field) in [(0x0a, first), (0x12, second)] {
        message.put_u8(tag);
        varint(&mut message, field.len());
        message.put_slice(field);
    }
    let mut frame = BytesMut::with_capacity(message.len() + 5);
    frame.put_u8(0);
    frame.put_u32(message.len() as u32);
    frame.put(message);
    frame.freeze()
}

fn varint(to: &mut BytesMut, mut number: usize) {
    while number >= 0x80 {
        to.put_u8(number as u8 | 0x80);
        number >>= 7;
    }
    to.put_u8(number as u8);
}

/// Puts under keys of its own.
pub(super) struct Puts {
    connection: Connection,
    client: usize,
    count: u64,
}

impl Puts {
    /// Client number `client`.
    pub(super) fn new(connection: Connection, client: usize) -> Self {
        Self { connection, client, count: 0 }
    }
}

/// With its key about as much as an entry of our log.
const VALUE: [u8; 240] = [b'x'; 240];

impl Writer for Puts {
    async fn write(&mut self) -> Result<()> {
        self.count += 1;
        let key = format!("{:04}-{:010}", self.client, self.count);
        self.connection.put(key.as_bytes(), &VALUE).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_put_is_framed_as_protocol_buffers_say() {
        assert_eq!(&frame(b"k", b"vv")[..], b"\0\0\0\0\x07\x0a\x01k\x12\x02vv");
        let long = frame(b"", &[b'x'; 300]);
        assert_eq!(&long[..10], [0, 0, 0, 1, 49, 0x0a, 0, 0x12, 0xac, 0x02]);
    }
}

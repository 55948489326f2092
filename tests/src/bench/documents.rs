//! Clients that fetch one document over HTTP/1.1, from the addresses of many guests.
//!
//! In: the sources, the server, what it must answer. Out: a [`Writer`] for each connection. A source asks [`ASKS`] times
//! over one connection, then the next source takes its place: the metadata service lets every guest ask 400 times at once and
//! 100 times a second, which stays as it is. Whatever stands beside it is asked the same way.

use super::load::Writer;
use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use std::{
    net::{Ipv4Addr, SocketAddrV4},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

/// Requests of one source in a row: half of what a guest may send at once, so that its second turn may come early.
const ASKS: u32 = 200;
/// Longer than any head of an answer.
const HEAD: usize = 4096;

/// What is fetched, and from where to where.
#[derive(Debug)]
pub(super) struct Document {
    server: SocketAddrV4,
    path: &'static str,
    body: Bytes,
    sources: Vec<Ipv4Addr>,
    next: AtomicUsize,
}

impl Document {
    /// A document that `server` has on port 80 and that is to be `body`.
    pub(super) fn new(server: Ipv4Addr, path: &'static str, body: Bytes, sources: &[Ipv4Addr]) -> Arc<Self> {
        let server = SocketAddrV4::new(server, 80);
        Arc::new(Self { server, path, body, sources: sources.to_vec(), next: AtomicUsize::new(0) })
    }

    /// One request from each source, so that what is made at the first request is there.
    pub(super) async fn once_from_each(&self) -> Result<()> {
        for source in &self.sources {
            Connection::open(*source, self.server).await?.get(self).await?;
        }
        Ok(())
    }

    /// One request.
    pub(super) async fn once(&self) -> Result<()> {
        Connection::open(self.next_source(), self.server).await?.get(self).await
    }

    fn next_source(&self) -> Ipv4Addr {
        self.sources[self.next.fetch_add(1, Relaxed) % self.sources.len()]
    }
}

/// One connection at a time.
#[derive(Debug)]
pub(super) struct Gets {
    document: Arc<Document>,
    connection: Option<Connection>,
    left: u32,
}

impl Gets {
    pub(super) fn new(document: Arc<Document>) -> Self {
        Self { document, connection: None, left: 0 }
    }
}

impl Writer for Gets {
    async fn write(&mut self) -> Result<()> {
        let connection = match &mut self.connection {
            Some(connection) if self.left > 0 => connection,
            connection => {
                self.left = ASKS;
                connection.insert(Connection::open(self.document.next_source(), self.document.server).await?)
            }
        };
        self.left -= 1;
        connection.get(&self.document).await
    }
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    source: Ipv4Addr,
    /// What was read of the answer.
    read: Vec<u8>,
}

impl Connection {
    async fn open(source: Ipv4Addr, server: SocketAddrV4) -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddrV4::new(source, 0).into())?;
        socket.set_nodelay(true)?;
        let stream = socket.connect(server.into()).await.with_context(|| format!("from {source} to {server}"))?;
        Ok(Self { stream, source, read: Vec::with_capacity(HEAD) })
    }

    async fn get(&mut self, document: &Document) -> Result<()> {
        let Document { server, path, body, .. } = document;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", server.ip());
        self.stream.write_all(request.as_bytes()).await?;
        self.read.clear();
        let (mut searched, mut whole) = (0, None);
        while whole.is_none_or(|whole| self.read.len() < whole) {
            ensure!(self.stream.read_buf(&mut self.read).await? > 0, "the connection from {} was closed", self.source);
            if whole.is_none() {
                whole = length(&self.read, searched)?;
                // The end of the head may be torn apart.
                searched = self.read.len().saturating_sub(3);
            }
        }
        let succeeded = self.read.starts_with(b"HTTP/1.1 200 ") && self.read.ends_with(body);
        ensure!(succeeded, "the answer to {}: {}", self.source, String::from_utf8_lossy(&self.read));
        Ok(())
    }
}

/// How long the whole answer is, once its head is there. The end of the head is after `searched`.
fn length(read: &[u8], searched: usize) -> Result<Option<usize>> {
    const END: &[u8] = b"\r\n\r\n";
    let Some(end) = read[searched..].windows(END.len()).position(|window| window == END) else {
        ensure!(read.len() < HEAD, "an answer with an endless head");
        return Ok(None);
    };
    let head = searched + end;
    let text = std::str::from_utf8(&read[..head]).context("a head that is no text")?;
    let lengths = text.lines().filter_map(|line| line.split_once(':'));
    let mut lengths = lengths.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let (_, length) = lengths.next().with_context(|| format!("an answer without its length: {text}"))?;
    Ok(Some(head + END.len() + length.trim().parse::<usize>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_as_long_as_it_says() {
        let answer = b"HTTP/1.1 200 OK\r\nserver: x\r\nContent-Length: 5\r\n\r\nhel";
        assert_eq!(length(answer, 0).unwrap(), Some(answer.len() + 2));
        let torn = answer.len() - 6;
        assert_eq!(length(&answer[..torn + 2], 0).unwrap(), None);
        assert_eq!(length(answer, torn - 1).unwrap(), Some(answer.len() + 2));
        assert!(length(b"HTTP/1.1 200 OK\r\n\r\n", 0).is_err());
        assert!(length(&[b'x'; HEAD], 0).is_err());
    }
}

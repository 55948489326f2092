//! The sockets: UDP and TCP on the loopback. In: messages; out: what [`wire`](super::wire) makes of them. Everything is
//! bounded, because a guest decides how much dnsmasq asks: beyond the bounds, datagrams wait in the socket (and are
//! lost there), and connections wait to be accepted.
//!
//! hickory's own server is not used: it starts a task for each datagram and each connection, however many come.

use super::{Records, wire::respond, zone::Zone};
use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::Semaphore,
    task::JoinSet,
    time::timeout,
};

/// Where questions are taken unless the configuration says otherwise: on the loopback, beside waifud's other ports.
/// Guests never see it; dnsmasq asks here for them.
pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 7453);

/// Questions by UDP that are looked up at the same time; a few more than the replica has readers keep those busy.
/// dnsmasq itself has at most 150 under way.
const UDP_AT_ONCE: usize = 64;
/// Connections at the same time: dnsmasq has at most 20, the rest are for people who try things out.
const TCP_AT_ONCE: usize = 32;
/// A connection that says nothing for this long is closed, and an answer not taken by then lost (RFC 7766: some
/// seconds).
const IDLE: Duration = Duration::from_secs(10);
/// No question is longer: a name, 255 bytes, with its header and room for EDNS options.
const LONGEST: usize = 4096;
/// After an error of the socket that is none of one peer's (no more file descriptors).
const AGAIN: Duration = Duration::from_millis(100);

/// The server of names. It ends when dropped.
#[derive(Debug)]
pub struct NameServer {
    address: SocketAddr,
    tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Source {
    zone: Zone,
    records: Arc<dyn Records>,
}

impl NameServer {
    /// Listens on `address`, UDP and TCP. Must be called inside a runtime.
    ///
    /// # Errors
    /// If one of the sockets cannot be had; it may be tried again.
    pub async fn start(address: SocketAddr, zone: Zone, records: Arc<dyn Records>) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let socket = UdpSocket::bind(address).await?;
        let source = Arc::new(Source { zone, records });
        let mut tasks = JoinSet::new();
        tasks.spawn(datagrams(socket, source.clone()));
        tasks.spawn(connections(listener, source));
        Ok(Self { address, tasks })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it, and waits until the port is free.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

async fn datagrams(socket: UdpSocket, source: Arc<Source>) {
    let socket = Arc::new(socket);
    let turns = Arc::new(Semaphore::new(UDP_AT_ONCE));
    let mut answering = JoinSet::new();
    let mut buffer = vec![0; LONGEST];
    loop {
        while answering.try_join_next().is_some() {}
        let Ok(turn) = turns.clone().acquire_owned().await else { return };
        // An error here is an ICMP message about an answer nobody waited for, or passes by itself.
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
            tokio::time::sleep(AGAIN).await;
            continue;
        };
        let Some(request) = buffer.get(..length).map(<[u8]>::to_vec) else { continue };
        let (socket, source) = (socket.clone(), source.clone());
        answering.spawn(async move {
            let _turn = turn;
            if let Some(answer) = respond(&request, &source.zone, &*source.records).await
                && let Err(error) = socket.send_to(&answer, from).await
            {
                tracing::debug!(%error, %from, "an answer to a question for a name was not sent");
            }
        });
    }
}

async fn connections(listener: TcpListener, source: Arc<Source>) {
    let turns = Arc::new(Semaphore::new(TCP_AT_ONCE));
    let mut serving = JoinSet::new();
    loop {
        while serving.try_join_next().is_some() {}
        let Ok(turn) = turns.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, from)) => {
                let source = source.clone();
                serving.spawn(async move {
                    let _turn = turn;
                    if let Err(error) = serve(stream, &source).await {
                        tracing::debug!(%error, %from, "a connection for names ended");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "no connection for names can be taken");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

/// One question after the other, each behind its length (RFC 7766).
async fn serve(mut stream: TcpStream, source: &Source) -> io::Result<()> {
    loop {
        let request = match timeout(IDLE, read(&mut stream)).await {
            Ok(Ok(request)) => request,
            // Whoever has no more questions closes the connection, or leaves it.
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Ok(Err(error)) => return Err(error),
            Err(_) => return Ok(()),
        };
        let Some(answer) = respond(&request, &source.zone, &*source.records).await else { return Ok(()) };
        let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
        let message = [length.to_be_bytes().as_slice(), &answer].concat();
        timeout(IDLE, stream.write_all(&message)).await??;
    }
}

async fn read(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = usize::from(stream.read_u16().await?);
    if length > LONGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a question of more than 4096 bytes"));
    }
    let mut request = vec![0; length];
    stream.read_exact(&mut request).await?;
    Ok(request)
}

//! The doors clients come through: the local socket, and HTTPS.
//!
//! In: connections. Out: requests for the router. On the local socket the kernel says whose process is there, and the
//! request carries that [`Caller`]; over HTTPS the router's own bearer layer finds out. A caller's header that comes in
//! from outside is taken off: only a member's stream may carry it (see [`super::peer_http`]).

use axum::{Router, body::Body};
use hyper::{Request, body::Incoming};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use nix::unistd::{Gid, Group, Uid, chown};
use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::Notify,
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use waifud_model::{command::Actor, ids::NodeId, scope::Scope, token::Role};
use waifud_web::{Caller, bearer::Remote};

/// A client that opens a connection and says nothing is let go after this long.
const TLS_HANDSHAKE: Duration = Duration::from_secs(10);
/// The head of each request must be here within this, the first one of a connection and all others; between two requests a
/// connection is kept for as long.
const HEADERS: Duration = Duration::from_secs(30);
/// How often a connection of HTTP/2 is asked whether anybody is there, and how long it may take to answer.
const PING: Duration = Duration::from_secs(20);
/// After a failed `accept` (no file descriptors left) the next try waits this long, so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// At shutdown, open requests may take this long to finish.
const DRAIN: Duration = Duration::from_secs(3);

/// Why a door could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The socket cannot be made.
    #[error("cannot listen on {path}")]
    Socket {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another daemon answers there.
    #[error("another waifud listens on {0}; stop it first, or give this one its own [api] socket")]
    Taken(PathBuf),
    /// The group that may use the socket does not exist.
    #[error("there is no group {0:?}; create it (groupadd --system {0}) or change [api] socket_group")]
    NoGroup(String),
    /// The TCP port cannot be had.
    #[error("cannot listen on {addr}; another program may have the port: change [api] listen")]
    Tcp {
        /// Where.
        addr: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// The local socket: root and one group may use it, and whoever may is an admin.
#[derive(Debug)]
pub(super) struct LocalSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl LocalSocket {
    /// Makes the socket with mode 0660; a dead one in its place is replaced, a living one is not, nor is anything else.
    ///
    /// It is made where nobody else can reach it and moved into place when owner and mode are right: between `bind` and
    /// `chmod` they are what the umask says, and whoever connects in that moment is an admin.
    ///
    /// # Errors
    /// If it is taken or cannot be made, or if `group` is given and does not exist.
    pub(super) fn bind(path: &Path, group: Option<&str>) -> Result<Self, ListenError> {
        let failed = |source| ListenError::Socket { path: path.to_owned(), source };
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::create_dir_all(parent).map_err(failed)?;
        match std::fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => return Err(failed(io::ErrorKind::AlreadyExists.into())),
            Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
                return Err(ListenError::Taken(path.to_owned()));
            }
            Ok(_) | Err(_) => {}
        }
        // The name is short because the whole path has at most 107 bytes (unix(7)).
        let private = tempfile::Builder::new()
            .prefix(".")
            .rand_bytes(4)
            .permissions(std::fs::Permissions::from_mode(0o700))
            .tempdir_in(parent)
            .map_err(failed)?;
        let made = private.path().join("s");
        let listener = UnixListener::bind(&made).map_err(failed)?;
        if let Some(name) = group {
            let gid = group_id(name)?;
            chown(&made, Some(Uid::from_raw(0)), Some(gid)).map_err(|e| failed(e.into()))?;
        }
        std::fs::set_permissions(&made, std::fs::Permissions::from_mode(0o660)).map_err(failed)?;
        std::fs::rename(&made, path).map_err(failed)?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Serves `router` of `node` until `stop`, then waits a moment for open requests and removes the socket.
    pub(super) async fn serve(self, node: NodeId, router: Router, stop: CancellationToken) {
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = self.listener.accept() => accepted,
            };
            while connections.try_join_next().is_some() {}
            match accepted {
                Ok((stream, _)) => match stream.peer_cred() {
                    Ok(credentials) => {
                        let actor = Actor::Local { node, uid: credentials.uid() };
                        let caller = Caller { actor, role: Role::Admin, scope: Scope::default() };
                        connections.spawn(serve_connection(stream, Some(caller), None, router.clone(), stop.clone()));
                    }
                    Err(error) => tracing::warn!(%error, "a local client has no credentials"),
                },
                Err(error) => pause_after(&error).await,
            }
        }
        drain(connections).await;
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(%error, path = %self.path.display(), "the socket was gone already");
        }
    }
}

fn group_id(name: &str) -> Result<Gid, ListenError> {
    match Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid),
        Ok(None) | Err(_) => Err(ListenError::NoGroup(name.to_owned())),
    }
}

/// HTTPS for clients on other machines: bearer tokens only.
#[derive(Debug)]
pub(super) struct Https {
    listener: TcpListener,
}

impl Https {
    /// Takes the port.
    ///
    /// # Errors
    /// If it cannot be had.
    pub(super) async fn bind(addr: SocketAddr) -> Result<Self, ListenError> {
        let listener = TcpListener::bind(addr).await.map_err(|source| ListenError::Tcp { addr, source })?;
        Ok(Self { listener })
    }

    /// Serves `router`, which finds out by itself who asks, until `stop`; then waits a moment for open requests.
    pub(super) async fn serve(self, tls: TlsAcceptor, router: Router, stop: CancellationToken) {
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = self.listener.accept() => accepted,
            };
            while connections.try_join_next().is_some() {}
            match accepted {
                Ok((stream, from)) => {
                    let (tls, router, stop) = (tls.clone(), router.clone(), stop.clone());
                    connections.spawn(async move {
                        // A handshake that fails or dawdles is the client's loss; it is not worth a line in the log.
                        if let Ok(Ok(stream)) = timeout(TLS_HANDSHAKE, tls.accept(stream)).await {
                            serve_connection(stream, None, Some(from.ip()), router, stop).await;
                        }
                    });
                }
                Err(error) => pause_after(&error).await,
            }
        }
        drain(connections).await;
    }
}

async fn pause_after(error: &io::Error) {
    tracing::warn!(%error, "a connection could not be accepted");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

async fn drain(mut connections: JoinSet<()>) {
    let all = async { while connections.join_next().await.is_some() {} };
    if timeout(DRAIN, all).await.is_err() {
        tracing::debug!("clients were still connected and are cut off");
    }
}

/// Serves one connection; everything that comes in on it comes from `caller`, where that is known.
async fn serve_connection<S>(
    stream: S,
    caller: Option<Caller>,
    remote: Option<IpAddr>,
    router: Router,
    stop: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let first = Arc::new(Notify::new());
    let asked = Arc::clone(&first);
    let service = tower::service_fn(move |request: Request<Incoming>| {
        asked.notify_one();
        let mut request = request.map(Body::new);
        request.headers_mut().remove(Caller::HEADER);
        if let Some(remote) = remote {
            request.extensions_mut().insert(Remote(remote));
        }
        if let Some(caller) = &caller {
            request.extensions_mut().insert(caller.clone());
        }
        router.clone().oneshot(request)
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADERS);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(PING).keep_alive_timeout(PING);
    let connection =
        builder.serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(service)).into_owned();
    tokio::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        () = silent(&first) => {
            tracing::debug!("a client connected and asked nothing");
            return;
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a client's connection ended early");
    }
}

/// Comes back when no request came in time, and never once there was one.
async fn silent(first: &Notify) {
    if timeout(HEADERS, first.notified()).await.is_ok() {
        std::future::pending().await
    }
}

#[cfg(test)]
mod slow;
#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_socket_is_closed_to_others_and_replaces_only_a_dead_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/api.sock");
        let first = LocalSocket::bind(&path, None).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        let beside = std::fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(beside, 1, "the socket and nothing else");
        assert!(matches!(LocalSocket::bind(&path, None), Err(ListenError::Taken(_))));
        drop(first);
        let second = LocalSocket::bind(&path, None).unwrap();
        let (connected, accepted) = tokio::join!(tokio::net::UnixStream::connect(&path), second.listener.accept());
        assert!(connected.is_ok() && accepted.is_ok(), "the name leads to the new one");
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("precious");
        std::fs::write(&path, "data").unwrap();
        assert!(matches!(LocalSocket::bind(&path, None), Err(ListenError::Socket { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), b"data");
    }
}

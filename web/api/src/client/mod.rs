//! A client of `/api/v1`, over a node's local socket or HTTPS.
//!
//! In: [`Endpoint`]s, the first of which that answers is used and kept; a token; perhaps the pin of the cluster's CA. Out:
//! one method a call, each with an [`Answer`] that knows how fresh it is, or a [`ClientError`] that knows what each
//! endpoint said.
//!
//! ```text
//!   calls.rs   one method a call ──> request.rs  send: endpoint after endpoint, round after round ──> reqwest
//!   cloud_init.rs, doctor.rs, history.rs, net.rs ──> │
//!   events.rs  the live stream   ──>     │             (same Idempotency-Key each time)
//!   relay.rs   the panel's proxy ──>     └── answer.rs  headers, JSON, problems
//!   pin.rs     the first meeting: which certificates an endpoint shows
//! ```
//!
//! A write is sent again by itself only where that cannot do it twice: it carries a key, and the server remembers keys.
//! What the client wrote it reads again, on whichever node: it sends the highest index it saw with every request.

mod answer;
mod calls;
mod cloud_init;
mod console;
mod doctor;
mod endpoint;
mod error;
mod events;
mod history;
mod net;
mod page;
mod pin;
mod relay;
mod request;
mod sse;
mod tls;
mod upload;
mod vm_change;

pub use answer::{Answer, Freshness};
pub use calls::IdempotencyKey;
pub use console::{ConsoleEnd, ConsoleReader, ConsoleWriter, Frame, Logs};
pub use endpoint::{Endpoint, EndpointError};
pub use error::{ClientError, Refusal, SetupError, UNTRUSTED};
pub use pin::presented;
pub use relay::{RelayBody, RelayRequest};
pub use reqwest;

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, AtomicUsize},
    },
    time::Duration,
};

/// Where to, as whom, and with how much patience.
#[derive(Clone)]
pub struct Config {
    /// Tried in this order; the one that answered last is tried first the next time.
    pub endpoints: Vec<Endpoint>,
    /// An API token. It is sent to HTTPS endpoints only: a local socket knows its caller from the kernel.
    pub token: Option<String>,
    /// PEM certificates, at least one. If given, HTTPS endpoints must show a certificate of one of these CAs, and what
    /// the host itself trusts does not count.
    pub ca_pem: Option<Vec<u8>>,
    /// How long an endpoint may take to be connected to.
    pub connect_timeout: Duration,
    /// How long a connected endpoint may take to begin its answer. Uploads and downloads into the cluster have no such limit.
    pub answer_timeout: Duration,
    /// For how long a request that may succeed a moment later is sent again.
    pub retry_for: Duration,
    /// Ask for answers that hold every write acknowledged before.
    pub linearizable: bool,
}

impl Config {
    /// These endpoints, without a token, with the usual patience.
    #[must_use]
    pub fn new(endpoints: Vec<Endpoint>) -> Self {
        Self {
            endpoints,
            token: None,
            ca_pem: None,
            // A node in the same house answers in milliseconds, one on another continent within half a second.
            connect_timeout: Duration::from_secs(3),
            // Servers promise an honest answer within about a second; more is a node that hangs.
            answer_timeout: Duration::from_secs(10),
            // A new leader is there within 2 s; five times that is not bad luck any more.
            retry_for: Duration::from_secs(10),
            linearizable: false,
        }
    }
}

impl fmt::Debug for Config {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("endpoints", &self.endpoints).finish_non_exhaustive()
    }
}

/// A client of the cluster. Cheap to clone; clones share connections, the endpoint in use, and what was written.
#[derive(Debug, Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: Config,
    hosts: Vec<Host>,
    /// The host that answered last.
    preferred: AtomicUsize,
    /// The highest log index any answer told.
    index: AtomicU64,
}

/// An endpoint and the connections to it.
#[derive(Debug)]
struct Host {
    endpoint: Endpoint,
    http: reqwest::Client,
    /// The same for WebSockets, which are HTTP/1.1: made when one is asked for.
    upgrading: OnceLock<reqwest::Client>,
    /// `http://localhost` or `https://host:port`, without a slash at the end.
    base: String,
}

impl Client {
    /// Connects nowhere yet.
    ///
    /// # Errors
    /// If there is no endpoint, or token or certificates cannot be used.
    pub fn new(config: Config) -> Result<Self, SetupError> {
        if config.endpoints.is_empty() {
            return Err(SetupError::NoEndpoint);
        }
        let hosts = config.endpoints.iter().map(|e| Host::new(e.clone(), &config)).collect::<Result<_, _>>()?;
        let inner = Inner { config, hosts, preferred: AtomicUsize::new(0), index: AtomicU64::new(0) };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The endpoint that answered last, or the first.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        let preferred = self.inner.preferred.load(std::sync::atomic::Ordering::Relaxed);
        &self.inner.hosts[preferred % self.inner.hosts.len()].endpoint
    }
}

impl Host {
    fn new(endpoint: Endpoint, config: &Config) -> Result<Self, SetupError> {
        let base = match &endpoint {
            Endpoint::Unix(_) => "http://localhost".to_owned(),
            Endpoint::Https { host, port } => format!("https://{host}:{port}"),
        };
        let http = Self::http(&endpoint, config, tls::Versions::Any)?;
        Ok(Self { endpoint, http, upgrading: OnceLock::new(), base })
    }

    /// For WebSockets.
    fn upgrading(&self, config: &Config) -> Result<&reqwest::Client, ClientError> {
        if let Some(made) = self.upgrading.get() {
            return Ok(made);
        }
        // The same worked once already, with more versions of HTTP.
        let made = Self::http(&self.endpoint, config, tls::Versions::Http1);
        let made = made.map_err(|e| ClientError::Protocol { endpoint: self.endpoint.clone(), what: e.to_string() })?;
        Ok(self.upgrading.get_or_init(|| made))
    }

    fn http(endpoint: &Endpoint, config: &Config, versions: tls::Versions) -> Result<reqwest::Client, SetupError> {
        let mut headers = reqwest::header::HeaderMap::new();
        // A local socket knows its caller from the kernel; a token would only be one more place for it to leak.
        let token = config.token.as_ref().filter(|_| matches!(endpoint, Endpoint::Https { .. }));
        if let Some(token) = token {
            let mut value: reqwest::header::HeaderValue =
                format!("Bearer {token}").parse().map_err(|_| SetupError::Token)?;
            value.set_sensitive(true);
            headers.insert(reqwest::header::AUTHORIZATION, value);
        }
        let builder = reqwest::Client::builder()
            .user_agent(concat!("waifud-api/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .connect_timeout(config.connect_timeout)
            // A redirect would carry the token elsewhere, and the API has none.
            .redirect(reqwest::redirect::Policy::none())
            // Nodes are reached directly: a proxy of the environment knows nothing of a home network's hosts.
            .no_proxy()
            .tls_backend_preconfigured(tls::config(endpoint, config.ca_pem.as_deref(), versions)?);
        let builder = match endpoint {
            Endpoint::Unix(path) => builder.unix_socket(path.clone()),
            Endpoint::Https { .. } => builder,
        };
        builder.build().map_err(|e| SetupError::Http(error::plain(&e)))
    }
}

//! Downloads images over HTTP and HTTPS. In: an address that someone typed; out: a stream of bytes with a bound on how long
//! it may be silent and how slow it may be. Judges addresses where the connection is made, so that neither a redirect nor a
//! name that changes its meaning between two look-ups gets around [`AddressPolicy`]. Knows nothing of images.

use super::{
    ImageError,
    address::{AddressPolicy, own_addresses},
};
use bytes::Bytes;
use futures::{Stream, StreamExt, stream::BoxStream};
use reqwest::{
    StatusCode, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect,
};
use rustls_platform_verifier::BuilderVerifierExt;
use std::{
    error::Error as StdError,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;
use waifud_model::size::ByteSize;

/// Mirror networks send a client on twice or three times.
const REDIRECTS_MAX: usize = 5;

/// What may be downloaded, and how long it may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DownloadSettings {
    /// From where.
    pub addresses: AddressPolicy,
    /// How long the server may take to accept the connection, to begin its answer, and between two blocks of it.
    pub timeout: Duration,
    /// How many bytes a second have to come at least, on average since the beginning, once `timeout` has passed.
    pub slowest: ByteSize,
}

/// Why an image could not be downloaded. Addresses are shown without user, password and query.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// Not an address to download from.
    #[error("{url:?} is not an address to download from: {why}")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// It leads into a network that only this host is in.
    #[error(
        "{host} is {address}, inside this host's own networks; to allow it, add it to [images] allowed_hosts or set allow_private_urls"
    )]
    Private {
        /// The host's name.
        host: String,
        /// What it resolves to.
        address: IpAddr,
    },
    /// The server has no such file.
    #[error("{url} does not exist on the server (404)")]
    NotFound {
        /// What was asked for.
        url: String,
    },
    /// The server does not give the file.
    #[error("the server refuses {url} ({status})")]
    Status {
        /// What was asked for.
        url: String,
        /// What it answered.
        status: StatusCode,
    },
    /// The server hangs.
    #[error("{url}: the server did not go on within {after:?}")]
    Timeout {
        /// What was asked for.
        url: String,
        /// How long it was given.
        after: Duration,
    },
    /// The server drips.
    #[error("{url}: the server sends less than {slowest} in a second")]
    TooSlow {
        /// What was asked for.
        url: String,
        /// What it should at least send.
        slowest: ByteSize,
    },
    /// The server sends on and on to other addresses.
    #[error("{url}: more than {REDIRECTS_MAX} redirects")]
    Redirects {
        /// What was asked for.
        url: String,
    },
    /// The connection is no longer protected, and nothing else is.
    #[error("{url}: the server leads from https to http; give the file's SHA-256 to allow that")]
    Downgrade {
        /// What was asked for.
        url: String,
    },
    /// The server cannot be reached.
    #[error("cannot connect to the server of {url}")]
    Connect {
        /// What was asked for.
        url: String,
        /// Why not.
        source: reqwest::Error,
    },
    /// The connection broke, or the server spoke something else.
    #[error("{url}: the download broke off")]
    Broken {
        /// What was asked for.
        url: String,
        /// Why.
        source: reqwest::Error,
    },
    /// Certificates cannot be checked on this host.
    #[error("the host's trusted certificates cannot be used")]
    Trust {
        /// Why not.
        source: rustls::Error,
    },
}

/// An answer that has begun.
pub(super) struct Body {
    /// How long it will be, if the server says so.
    pub(super) size: Option<ByteSize>,
    /// Its bytes.
    pub(super) stream: BoxStream<'static, Result<Bytes, ImageError>>,
}

/// Downloads.
#[derive(Debug)]
pub(super) struct Downloader {
    settings: DownloadSettings,
}

impl Downloader {
    pub(super) const fn new(settings: DownloadSettings) -> Self {
        Self { settings }
    }

    /// Asks for `url` and returns when the answer has begun. `checked` says that the bytes will be compared with a digest.
    pub(super) async fn get(&self, url: &str, checked: bool) -> Result<Body, DownloadError> {
        let url = parse(url)?;
        let shown = shown(&url);
        let addresses = Arc::new(self.settings.addresses.clone());
        literal(&url, &addresses)?;
        let client = self.client(addresses, url.scheme() == "https", checked)?;
        let classify = |error| self.classify(&shown, error);
        // The client bounds connecting and each read; waiting for the answer to begin is bounded here.
        let answer =
            tokio::time::timeout(self.settings.timeout * (REDIRECTS_MAX as u32 + 1), client.get(url).send()).await;
        let answer = answer
            .map_err(|_| DownloadError::Timeout { url: shown.clone(), after: self.settings.timeout })?
            .map_err(classify)?;
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Err(DownloadError::NotFound { url: shown }),
            status => return Err(DownloadError::Status { url: shown, status }),
        }
        let size = answer.content_length().map(ByteSize::bytes);
        Ok(Body { size, stream: self.body(shown, answer.bytes_stream()) })
    }

    fn client(
        &self,
        addresses: Arc<AddressPolicy>,
        https: bool,
        checked: bool,
    ) -> Result<reqwest::Client, DownloadError> {
        let keep_https = https && !checked;
        let tls = tls(https)?;
        let policy = addresses.clone();
        let redirects = redirect::Policy::custom(move |attempt| match judge(&attempt, &policy, keep_https) {
            Ok(()) => attempt.follow(),
            Err(refusal) => attempt.error(refusal),
        });
        reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .user_agent(concat!("waifud/", env!("CARGO_PKG_VERSION")))
            .redirect(redirects)
            .dns_resolver(Guarded { addresses })
            // A proxy would resolve names in our place, where we cannot judge what they lead to.
            .no_proxy()
            .connect_timeout(self.settings.timeout)
            .read_timeout(self.settings.timeout)
            .build()
            .map_err(|source| DownloadError::Connect { url: "the internet".to_owned(), source })
    }

    /// The bytes, until they end, fail, or come too slowly.
    fn body(
        &self,
        url: String,
        bytes: impl Stream<Item = reqwest::Result<Bytes>> + Send + 'static,
    ) -> BoxStream<'static, Result<Bytes, ImageError>> {
        let (grace, slowest) = (self.settings.timeout, self.settings.slowest);
        let (begun, mut done) = (Instant::now(), 0u64);
        let judge = Self { settings: self.settings.clone() };
        bytes
            .map(move |block| {
                let block = block.map_err(|error| judge.classify(&url, error))?;
                done += block.len() as u64;
                let least = slowest.as_bytes().saturating_mul(begun.elapsed().saturating_sub(grace).as_secs());
                if done < least {
                    return Err(DownloadError::TooSlow { url: url.clone(), slowest }.into());
                }
                Ok(block)
            })
            .boxed()
    }

    /// Finds out what a client's error means.
    fn classify(&self, url: &str, error: reqwest::Error) -> DownloadError {
        let url = url.to_owned();
        let mut cause: Option<&(dyn StdError + 'static)> = Some(&error);
        while let Some(e) = cause {
            match e.downcast_ref::<Judgement>() {
                Some(Judgement::Private { host, address }) => {
                    return DownloadError::Private { host: host.clone(), address: *address };
                }
                Some(Judgement::Redirects) => return DownloadError::Redirects { url },
                Some(Judgement::Downgrade) => return DownloadError::Downgrade { url },
                Some(Judgement::Scheme(why)) => return DownloadError::Url { url, why: why.clone() },
                None => cause = e.source(),
            }
        }
        if error.is_timeout() {
            DownloadError::Timeout { url, after: self.settings.timeout }
        } else if error.is_connect() {
            DownloadError::Connect { url, source: error.without_url() }
        } else {
            DownloadError::Broken { url, source: error.without_url() }
        }
    }
}

/// TLS by ring, trusting what the host trusts. A host that trusts nobody can still use plain HTTP.
fn tls(needed: bool) -> Result<rustls::ClientConfig, DownloadError> {
    let trust = |source| DownloadError::Trust { source };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = || {
        rustls::ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(trust)
    };
    let verified = match builder()?.with_platform_verifier() {
        Ok(verified) => verified,
        Err(error) if needed => return Err(trust(error)),
        Err(_) => builder()?.with_root_certificates(rustls::RootCertStore::empty()),
    };
    Ok(verified.with_no_client_auth())
}

/// What we said to the client from within; found again in its error.
#[derive(Debug, thiserror::Error)]
enum Judgement {
    #[error("{host} is {address}, which is not public")]
    Private { host: String, address: IpAddr },
    #[error("too many redirects")]
    Redirects,
    #[error("redirected from https to http")]
    Downgrade,
    #[error("{0}")]
    Scheme(String),
}

fn parse(text: &str) -> Result<Url, DownloadError> {
    let refuse = |why: String| DownloadError::Url { url: text.chars().take(200).collect(), why };
    let url = Url::parse(text.trim()).map_err(|e| refuse(e.to_string()))?;
    scheme(&url).map_err(refuse)?;
    Ok(url)
}

fn scheme(url: &Url) -> Result<(), String> {
    match url.scheme() {
        "http" | "https" => Ok(()),
        other => Err(format!("only http and https are possible, not {other}")),
    }
}

/// The address as it may be shown and logged.
fn shown(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
}

/// A host that is written as an address never reaches a resolver, so it is judged here.
fn literal(url: &Url, addresses: &AddressPolicy) -> Result<(), DownloadError> {
    judge_literal(url, addresses).map_err(|(host, address)| DownloadError::Private { host, address })
}

fn judge_literal(url: &Url, addresses: &AddressPolicy) -> Result<(), (String, IpAddr)> {
    let host = url.host_str().unwrap_or_default();
    match host.trim_start_matches('[').trim_end_matches(']').parse() {
        Ok(address) if !addresses.allows_address(address, &own_addresses()) => Err((host.to_owned(), address)),
        _ => Ok(()),
    }
}

fn judge(attempt: &redirect::Attempt<'_>, addresses: &AddressPolicy, keep_https: bool) -> Result<(), Judgement> {
    if attempt.previous().len() > REDIRECTS_MAX {
        return Err(Judgement::Redirects);
    }
    let url = attempt.url();
    scheme(url).map_err(Judgement::Scheme)?;
    if keep_https && url.scheme() != "https" {
        return Err(Judgement::Downgrade);
    }
    judge_literal(url, addresses).map_err(|(host, address)| Judgement::Private { host, address })
}

/// Resolves names and gives only addresses that may be connected to: what is judged is what is connected to.
#[derive(Debug)]
struct Guarded {
    addresses: Arc<AddressPolicy>,
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let addresses = self.addresses.clone();
        Box::pin(async move {
            let host = name.as_str();
            let found: Vec<SocketAddr> = tokio::net::lookup_host((host, 0)).await?.collect();
            if addresses.allows_name(host) {
                return Ok(Box::new(found.into_iter()) as Addrs);
            }
            let own = own_addresses();
            let (allowed, refused): (Vec<_>, Vec<_>) =
                found.into_iter().partition(|found| addresses.allows_address(found.ip(), &own));
            match refused.first() {
                Some(refused) if allowed.is_empty() => {
                    Err(Judgement::Private { host: host.to_owned(), address: refused.ip() }.into())
                }
                _ => Ok(Box::new(allowed.into_iter()) as Addrs),
            }
        })
    }
}

#[cfg(test)]
mod tests;

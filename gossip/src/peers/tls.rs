//! TLS 1.3 by rustls with ring, and the QUIC endpoint on top of it.
//!
//! One server configuration serves both ALPNs: a client certificate is asked for and, if shown, verified against the
//! CA; whether one *must* be shown, and whose, is decided by [`admission`](super::admission) once the ALPN is known.
//! Sessions are never resumed: every connection shows its key anew, so that removal and rotation mean something.

use super::{
    error::BindError,
    protocol::{JOIN_ALPN, MEMBER_ALPN},
    transport,
};
use crate::identity::Identity;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use ring::{
    hmac,
    rand::{SecureRandom as _, SystemRandom},
};
use rustls::{
    RootCertStore,
    client::Resumption,
    crypto::CryptoProvider,
    server::{NoServerSessionStorage, WebPkiClientVerifier},
    version::TLS13,
};
use std::{net::SocketAddr, sync::Arc, time::Duration};

/// Connection attempts that may wait for this node's attention; more are refused by QUIC itself.
const INCOMING_MAX: usize = 256;
/// What one of them may send ahead of being looked at. Nobody here sends early data.
const INCOMING_BUFFER: u64 = 4 << 10;
/// All of them together.
const INCOMING_BUFFER_TOTAL: u64 = 256 << 10;
/// How long somebody who was asked to prove his address has time to.
const RETRY_LIFETIME: Duration = Duration::from_secs(5);

/// The cryptography, named explicitly: a process-wide default could be anything.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn roots(identity: &Identity) -> Result<Arc<RootCertStore>, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(identity.ca().clone())?;
    Ok(Arc::new(roots))
}

/// How this node answers connections.
pub(super) fn server_config(identity: &Identity) -> Result<quinn::ServerConfig, BindError> {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(identity)?, provider())
        .allow_unauthenticated()
        .build()
        .map_err(|e| rustls::Error::General(e.to_string()))?;
    let mut tls = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(identity.chain(), identity.key().secret_der())?;
    tls.alpn_protocols = vec![MEMBER_ALPN.to_vec(), JOIN_ALPN.to_vec()];
    tls.session_storage = Arc::new(NoServerSessionStorage {});
    tls.send_tls13_tickets = 0;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    config
        .transport_config(transport::server_transport())
        .max_incoming(INCOMING_MAX)
        .incoming_buffer_size(INCOMING_BUFFER)
        .incoming_buffer_size_total(INCOMING_BUFFER_TOTAL)
        .retry_token_lifetime(RETRY_LIFETIME);
    Ok(config)
}

/// How this node dials members: the server's chain and DNS name are verified here, its key by
/// [`admission`](super::admission).
pub(super) fn client_config(identity: &Identity) -> Result<quinn::ClientConfig, BindError> {
    let mut tls = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots(identity)?)
        .with_client_auth_cert(identity.chain(), identity.key().secret_der())?;
    tls.alpn_protocols = vec![MEMBER_ALPN.to_vec()];
    tls.resumption = Resumption::disabled();
    let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    config.transport_config(transport::client_transport());
    Ok(config)
}

/// The endpoint on `listen`.
///
/// Its reset tokens are derived from the node's key: after a restart it can still reset the connections of its former
/// life, so that peers notice in a round trip instead of at the idle timeout.
pub(super) fn endpoint(listen: SocketAddr, identity: &Identity) -> Result<quinn::Endpoint, BindError> {
    let secret = identity.key().secret_der();
    let reset_key = blake3::derive_key("waifud 2026 QUIC stateless reset v1", secret.secret_der());
    let mut config = quinn::EndpointConfig::new(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &reset_key)));
    config.cid_generator(|| Box::new(RandomIds(SystemRandom::new())));
    let explain = |source| BindError::Socket { addr: listen, source };
    let socket = std::net::UdpSocket::bind(listen).map_err(explain)?;
    quinn::Endpoint::new(config, Some(server_config(identity)?), socket, Arc::new(quinn::TokioRuntime)).map_err(explain)
}

/// Connection ids without a mark of the process that made them: quinn's own drop packets of an earlier process
/// unanswered, where here they are to be answered with a reset.
struct RandomIds(SystemRandom);

/// Eight bytes, as quinn's: a collision among a node's connections does not happen.
const ID_LEN: usize = 8;

impl quinn::ConnectionIdGenerator for RandomIds {
    fn generate_cid(&mut self) -> quinn::ConnectionId {
        let mut id = [0; ID_LEN];
        if self.0.fill(&mut id).is_err() {
            tracing::error!("the system has no randomness; a connection gets an id that cannot be used twice");
        }
        quinn::ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        ID_LEN
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

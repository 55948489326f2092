//! The certificate HTTPS is served with: one's own, or one that the cluster's CA signs at each start and renews.
//!
//! In: the configuration, the CA out of the replicated state. Out: a [`TlsAcceptor`]. Clients that know the CA (`waifuctl
//! login` pins it) can check every node; browsers ask once, unless a certificate of one's own is configured.

use crate::config::Config;
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType};
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use std::{
    fmt,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio_rustls::TlsAcceptor;
use waifud_model::{node::Node, state::ClusterInfo};

/// A new certificate is made when the last one is this old; it is valid for three times as long.
const RENEW_AFTER: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Why HTTPS cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum HttpsError {
    /// A configured file does not read as what it should be.
    #[error("{path} is not a PEM {what}")]
    Pem {
        /// Which file.
        path: PathBuf,
        /// "certificate" or "private key".
        what: &'static str,
        /// Why not.
        source: rustls::pki_types::pem::Error,
    },
    /// Certificate and key do not fit together, or the key is of an unknown kind.
    #[error("the TLS certificate and key cannot be used together")]
    Unusable(#[from] rustls::Error),
    /// The CA cannot sign.
    #[error("the cluster's CA cannot sign a certificate for HTTPS")]
    Sign(#[from] rcgen::Error),
}

/// What serves TLS on `node`.
///
/// # Errors
/// The configured files cannot be used, or the CA cannot sign.
pub(super) fn acceptor(config: &Config, cluster: &ClusterInfo, node: &Node) -> Result<TlsAcceptor, HttpsError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth();
    let mut server = match (&config.api.tls_cert, &config.api.tls_key) {
        (Some(cert), Some(key)) => builder.with_single_cert(read_chain(cert)?, read_key(key)?)?,
        _ => builder.with_cert_resolver(Arc::new(Signed::new(provider, cluster.clone(), node.clone())?)),
    };
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(server)))
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, HttpsError> {
    let failed = |source| HttpsError::Pem { path: path.to_owned(), what: "certificate", source };
    CertificateDer::pem_file_iter(path).map_err(failed)?.collect::<Result<_, _>>().map_err(failed)
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, HttpsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|source| HttpsError::Pem {
        path: path.to_owned(),
        what: "private key",
        source,
    })
}

/// Certificates by the cluster's CA, made anew before they end.
struct Signed {
    provider: Arc<CryptoProvider>,
    cluster: ClusterInfo,
    node: Node,
    current: Mutex<(Instant, Arc<CertifiedKey>)>,
}

impl fmt::Debug for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signed").field("node", &self.node.name).finish_non_exhaustive()
    }
}

impl Signed {
    fn new(provider: Arc<CryptoProvider>, cluster: ClusterInfo, node: Node) -> Result<Self, HttpsError> {
        let first = sign(&provider, &cluster, &node)?;
        Ok(Self { provider, cluster, node, current: Mutex::new((Instant::now(), first)) })
    }
}

impl ResolvesServerCert for Signed {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.0.elapsed() > RENEW_AFTER {
            match sign(&self.provider, &self.cluster, &self.node) {
                Ok(fresh) => *current = (Instant::now(), fresh),
                Err(error) => tracing::error!(%error, "the certificate for HTTPS cannot be renewed"),
            }
        }
        Some(current.1.clone())
    }
}

fn sign(provider: &CryptoProvider, cluster: &ClusterInfo, node: &Node) -> Result<Arc<CertifiedKey>, HttpsError> {
    let ca = CertificateDer::from(cluster.ca_cert.clone());
    let issuer = Issuer::from_ca_cert_der(&ca, KeyPair::try_from(cluster.ca_key.as_slice())?)?;
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![node.name.to_string(), "localhost".to_owned(), node.id.dns_name()])?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, node.name.to_string());
    for ip in [node.advertise.ip(), IpAddr::from([127, 0, 0, 1])] {
        params.subject_alt_names.push(SanType::IpAddress(ip));
    }
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let now = time::OffsetDateTime::now_utc();
    params.not_before = now - time::Duration::minutes(5);
    params.not_after = now + time::Duration::try_from(RENEW_AFTER * 3).unwrap_or(time::Duration::DAY);
    let certificate = params.signed_by(&key, &issuer)?;
    let private = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let chain = vec![certificate.der().clone(), ca];
    Ok(Arc::new(CertifiedKey::from_der(chain, private, provider)?))
}

//! Strangers at the door: each is refused, and told why.

use crate::cluster::{Cluster, DEADLINE, Node, any_port, echo_of, id};
use quinn::crypto::rustls::QuicClientConfig;
use rustls::{
    DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};
use std::sync::Arc;
use tokio::time::timeout;
use waifud_gossip::{
    identity::{Identity, IdentityDir, NodeKey},
    peers::{PeerError, Protocol},
};
use waifud_model::ids::ClusterId;

/// Believes any server: what an attacker would do.
#[derive(Debug)]
struct Gullible;

impl ServerCertVerifier for Gullible {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// A client without a certificate.
pub(crate) fn stranger_config(alpn: &[u8]) -> quinn::ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Gullible))
        .with_no_client_auth();
    tls.alpn_protocols = vec![alpn.to_vec()];
    quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()))
}

/// How a stranger's connection ends.
fn outcome(member: &Node, alpn: &[u8]) -> String {
    member.block(async {
        let stranger = quinn::Endpoint::client(any_port()).unwrap();
        let name = member.id.dns_name();
        let connecting = stranger.connect_with(stranger_config(alpn), member.addr, &name).unwrap();
        match timeout(DEADLINE, connecting).await.unwrap() {
            Ok(connection) => timeout(DEADLINE, connection.closed()).await.unwrap().to_string(),
            Err(error) => error.to_string(),
        }
    })
}

#[test]
fn without_a_certificate() {
    let cluster = Cluster::new();
    let ending = outcome(&cluster.member(1), b"waifud/1");
    assert!(ending.contains("must show its certificate"), "{ending}");
}

#[test]
fn with_another_protocol() {
    let cluster = Cluster::new();
    let ending = outcome(&cluster.member(1), b"h3");
    assert!(ending.contains("known protocol"), "{ending}");
}

#[test]
fn to_join_where_nobody_lets_join() {
    let cluster = Cluster::new();
    let ending = outcome(&cluster.member(1), b"waifud-join/1");
    assert!(ending.contains("cannot let others join"), "{ending}");
}

/// Dials member 1 of `cluster` as node 2 of `other`, who has been told everything about member 1.
fn intruder(cluster: &Cluster, other: &Cluster, listed: bool) -> PeerError {
    let one = cluster.member(1);
    let intruder = Node::bind(other, id(2), NodeKey::generate().unwrap(), any_port());
    other.admit(&one);
    if listed {
        cluster.admit(&intruder);
    }
    intruder.echo(id(1)).unwrap_err()
}

#[test]
fn a_foreign_ca_fails_on_both_sides() {
    // The same cluster id and even the same table: only the CA differs.
    let (cluster, other) = (Cluster::new(), Cluster::new());
    let error = intruder(&cluster, &other, true);
    // The intruder's own check of the server fails first.
    assert!(matches!(error, PeerError::Impostor { .. }), "{error}");
}

#[test]
fn a_certificate_of_a_foreign_ca_shown_to_a_member() {
    let (cluster, other) = (Cluster::new(), Cluster::new());
    let one = cluster.member(1);
    let (chain, key) = chain_of(&other.identity(id(2), NodeKey::generate().unwrap()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Gullible))
        .with_client_auth_cert(chain, key)
        .unwrap();
    tls.alpn_protocols = vec![b"waifud/1".to_vec()];
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let ending = one.block(async {
        let stranger = quinn::Endpoint::client(any_port()).unwrap();
        let connection = stranger.connect_with(config, one.addr, &one.id.dns_name()).unwrap().await.unwrap();
        connection.closed().await.to_string()
    });
    assert!(ending.contains("crypto error") || ending.contains("certificate"), "{ending}");
}

/// Certificate and key as TLS wants them, out of the file a node keeps.
fn chain_of(identity: &Identity) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let dir = tempfile::tempdir().unwrap();
    IdentityDir::open(dir.path()).unwrap().save(identity).unwrap();
    let pem = std::fs::read(dir.path().join("identity.pem")).unwrap();
    let chain = CertificateDer::pem_slice_iter(&pem).map(Result::unwrap).collect();
    (chain, PrivateKeyDer::from_pem_slice(&pem).unwrap())
}

#[test]
fn the_right_ca_but_not_a_member() {
    let cluster = Cluster::new();
    let one = cluster.member(1);
    let stranger = Node::bind(&cluster, id(2), NodeKey::generate().unwrap(), any_port());
    let error = stranger.echo(id(1)).unwrap_err();
    assert!(matches!(&error, PeerError::Refused { why, .. } if why.contains("not a member")), "{error}");
    drop(one);
}

#[test]
fn a_members_name_with_another_key() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.member(1), cluster.member(2));
    // Anybody with the CA's key can make this certificate.
    let thief = Node::bind(&cluster, id(2), NodeKey::generate().unwrap(), any_port());
    let error = thief.echo(id(1)).unwrap_err();
    assert!(matches!(&error, PeerError::Refused { why, .. } if why.contains("another key")), "{error}");
    assert_eq!(two.echo(id(1)), echo_of(id(2)));
    drop(one);
}

#[test]
fn another_cluster_under_the_same_ca() {
    let cluster = Cluster::new();
    let one = cluster.member(1);
    let elsewhere = Cluster::with_id(ClusterId::from_random([9; 16]));
    let foreign = Node::bind(&elsewhere, id(2), NodeKey::generate().unwrap(), any_port());
    elsewhere.admit(&one);
    let error = foreign.echo(id(1)).unwrap_err();
    assert!(matches!(error, PeerError::Impostor { .. }), "{error}");
}

#[test]
fn a_member_at_another_members_address_is_not_taken_for_it() {
    let cluster = Cluster::new();
    let (one, two, three) = (cluster.member(1), cluster.member(2), cluster.member(3));
    cluster.table.send_modify(|table| {
        Arc::make_mut(table).get_mut(&id(2)).unwrap().addr = three.addr;
    });
    let error = one.block(one.peers.open(id(2), Protocol::Api)).unwrap_err();
    assert!(matches!(error, PeerError::Impostor { .. }), "{error}");
    assert_eq!(one.echo(id(3)), echo_of(id(1)));
    drop(two);
}

#[test]
fn a_members_key_at_its_own_address_but_not_the_one_in_the_table() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.member(1), cluster.member(2));
    cluster.table.send_modify(|table| {
        Arc::make_mut(table).get_mut(&id(2)).unwrap().fingerprint = one.key.fingerprint();
    });
    let error = one.echo(id(2)).unwrap_err();
    assert!(matches!(&error, PeerError::Impostor { why, .. } if why.contains("another key")), "{error}");
    drop(two);
}

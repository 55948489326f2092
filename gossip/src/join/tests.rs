//! A former member as an impostor: it has the CA's key and a certificate, answers joins, and knows no token.

use super::{
    proof::PROOF_LEN,
    wire::{Answer, REQUEST_MAX, Welcome},
    *,
};
use crate::{
    identity::{Ca, Identity, NodeKey, NodePublicKey},
    peers::{JOIN_ALPN, provider},
    table::{Peer, PeerTable},
};
use quinn::crypto::rustls::QuicServerConfig;
use std::{net::Ipv4Addr, sync::Arc, time::SystemTime};
use waifud_model::{
    ids::{ClusterId, NodeId, TokenId},
    node::{Arch, Capacity},
};

fn impostor(identity: &Identity) -> quinn::Endpoint {
    let mut tls = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(identity.chain(), identity.key().secret_der())
        .unwrap();
    tls.alpn_protocols = vec![JOIN_ALPN.to_vec()];
    let config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
    quinn::Endpoint::server(config, (Ipv4Addr::LOCALHOST, 0).into()).unwrap()
}

/// Says yes to whatever is asked, and makes everything but the proof as it should be.
async fn say_yes(endpoint: quinn::Endpoint, ca: Ca) {
    let connection = endpoint.accept().await.unwrap().await.unwrap();
    let (mut send, mut recv) = connection.accept_bi().await.unwrap();
    let request: wire::Request = postcard::from_bytes(&recv.read_to_end(REQUEST_MAX).await.unwrap()).unwrap();
    let facts: wire::Facts = postcard::from_bytes(&request.facts).unwrap();
    let public = NodePublicKey::from_signing_request(&facts.signing_request).unwrap();
    let node = NodeId::from_random(2);
    let peer = Peer { name: facts.name, addr: facts.advertise, fingerprint: public.fingerprint() };
    let welcome = Welcome {
        node,
        certificate: ca.sign(&public, node, SystemTime::now()).unwrap(),
        ca: ca.certificate().to_vec(),
        peers: PeerTable::from([(node, peer)]),
        extra: Vec::new(),
    };
    // The joiner's own proof, sent back: it must not pass for an answer.
    let proof: [u8; PROOF_LEN] = request.proof;
    let answer = Answer::Admitted { proof, welcome: postcard::to_stdvec(&welcome).unwrap() };
    send.write_all(&postcard::to_stdvec(&answer).unwrap()).await.unwrap();
    send.finish().unwrap();
    connection.closed().await;
}

#[tokio::test]
async fn whoever_does_not_know_the_token_cannot_take_a_machine_in() {
    let ca = Ca::generate(ClusterId::from_random([1; 16])).unwrap();
    let identity =
        Identity::issue(&ca, NodeId::from_random(1), NodeKey::generate().unwrap(), SystemTime::now()).unwrap();
    let endpoint = impostor(&identity);
    let addr = endpoint.local_addr().unwrap();
    let token = JoinToken::new(ca.cluster(), ca.pin(), TokenId::from_random(1), [3; SECRET_LEN], vec![addr]).unwrap();
    let size = "1GiB".parse().unwrap();
    let newcomer = Newcomer {
        name: "newcomer".parse().unwrap(),
        advertise: (Ipv4Addr::LOCALHOST, 1).into(),
        capacity: Capacity {
            cpus: 1,
            threads: 1,
            memory: size,
            disk: size,
            arch: Arch::X86_64,
            kvm: false,
            bridges: Vec::new(),
        },
    };
    let served = tokio::spawn(say_yes(endpoint, ca));
    let error = redeem(&token, &newcomer, &NodeKey::generate().unwrap()).await.unwrap_err();
    served.await.unwrap();
    let JoinError::Nobody(attempts) = error else { panic!("{error}") };
    assert!(matches!(attempts.as_slice(), [(_, AttemptError::Unproven)]), "{attempts:?}");
}

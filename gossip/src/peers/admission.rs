//! Who may be at the other end of a connection: a pure decision from what TLS has verified and what the table says.
//!
//! TLS has already checked the chain and, when this node dialled, the DNS name. That proves only that *some* holder of
//! the CA's key made the certificate, and every member, former members too, holds it. Here the key itself is compared.

use crate::{
    identity::{Certificate, Subject},
    table::PeerTable,
};
use rustls::pki_types::CertificateDer;
use waifud_model::{
    digest::Fingerprint,
    ids::{ClusterId, NodeId},
};

/// Why somebody is not let in. The text is sent to the other side.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("a member must show its certificate")]
    NoCertificate,
    #[error("the certificate is not one of a waifud node")]
    NotANode,
    #[error("that is a node of cluster {0}")]
    OtherCluster(ClusterId),
    #[error("node {0} is not a member of this cluster")]
    NotAMember(NodeId),
    #[error("the cluster knows node {0} by another key")]
    OtherKey(NodeId),
    #[error("that is this node itself")]
    Myself,
    #[error("node {found} answers where node {meant} should be")]
    OtherNode { meant: NodeId, found: NodeId },
    #[error("no protocol was agreed on")]
    NoProtocol,
}

/// Who a connection's certificate speaks of, and the key it was made with.
pub(super) fn certified(connection: &quinn::Connection) -> Result<(Subject, Fingerprint), Refusal> {
    let chain = connection.peer_identity().and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok());
    let certificate = chain.as_ref().and_then(|chain| chain.first()).ok_or(Refusal::NoCertificate)?;
    let certificate = Certificate::parse(certificate).map_err(|_| Refusal::NotANode)?;
    Ok((certificate.subject, certificate.fingerprint))
}

/// Is `subject` with the key `shown` a member other than `myself`?
pub(super) fn admit(
    table: &PeerTable,
    myself: Subject,
    subject: Subject,
    shown: Fingerprint,
) -> Result<NodeId, Refusal> {
    if subject.cluster != myself.cluster {
        return Err(Refusal::OtherCluster(subject.cluster));
    }
    if subject.node == myself.node {
        return Err(Refusal::Myself);
    }
    match table.get(&subject.node) {
        None => Err(Refusal::NotAMember(subject.node)),
        Some(peer) if peer.fingerprint != shown => Err(Refusal::OtherKey(subject.node)),
        Some(_) => Ok(subject.node),
    }
}

/// Is `subject` with the key `shown` the member `meant`?
pub(super) fn admit_only(
    table: &PeerTable,
    myself: Subject,
    subject: Subject,
    shown: Fingerprint,
    meant: NodeId,
) -> Result<NodeId, Refusal> {
    match admit(table, myself, subject, shown)? {
        found if found == meant => Ok(found),
        found => Err(Refusal::OtherNode { meant, found }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Peer;

    fn subject(cluster: u8, node: u64) -> Subject {
        Subject { cluster: ClusterId::from_random([cluster; 16]), node: NodeId::from_random(node) }
    }

    fn table() -> PeerTable {
        let peer = |n: u8| Peer {
            name: format!("n{n}").parse().unwrap(),
            addr: ([127, 0, 0, n], 7000).into(),
            fingerprint: Fingerprint([n; 32]),
        };
        (1..=3).map(|n| (NodeId::from_random(n.into()), peer(n))).collect()
    }

    #[test]
    fn only_a_member_with_its_own_key_gets_in() {
        let (table, myself) = (table(), subject(1, 1));
        let admit = |who: Subject, key: u8| admit(&table, myself, who, Fingerprint([key; 32]));
        assert_eq!(admit(subject(1, 2), 2), Ok(NodeId::from_random(2)));
        assert_eq!(admit(subject(1, 2), 3), Err(Refusal::OtherKey(NodeId::from_random(2))));
        assert_eq!(admit(subject(1, 9), 9), Err(Refusal::NotAMember(NodeId::from_random(9))));
        assert_eq!(admit(subject(2, 2), 2), Err(Refusal::OtherCluster(subject(2, 2).cluster)));
        assert_eq!(admit(myself, 1), Err(Refusal::Myself));
    }

    #[test]
    fn a_dialled_peer_must_be_the_one_that_was_meant() {
        let (table, meant, found) = (table(), NodeId::from_random(2), NodeId::from_random(3));
        let verdict = admit_only(&table, subject(1, 1), subject(1, 3), Fingerprint([3; 32]), meant);
        assert_eq!(verdict, Err(Refusal::OtherNode { meant, found }));
    }
}

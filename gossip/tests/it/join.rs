//! Machines with tokens, good and bad.

use crate::cluster::{Cluster, DEADLINE, Node, any_port, echo_of, id};
use async_trait::async_trait;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use tokio::time::timeout;
use waifud_gossip::{
    Peer, PeerTable,
    identity::{Ca, NodeKey},
    join::{
        Admission, Applicant, AttemptError, JoinDesk, JoinError, JoinRefusal, JoinToken, Joined, Newcomer, Prepared,
        SECRET_LEN, redeem, token_key,
    },
};
use waifud_model::{
    digest::{Fingerprint, Sha256},
    ids::{ClusterId, NodeId, TokenId},
    node::{Arch, Capacity},
    size::ByteSize,
};

const SECRET: [u8; SECRET_LEN] = [7; SECRET_LEN];

/// A state with one token, as the node would keep it in consensus.
struct Desk {
    ca: (Vec<u8>, Vec<u8>),
    table: tokio::sync::watch::Sender<Arc<PeerTable>>,
    state: Mutex<State>,
}

struct State {
    uses_left: u32,
    expired: bool,
    quorum: bool,
    /// The next admission commits and then the answer is lost.
    lose_answer: bool,
    /// Another member admits the same machine between preparing and admitting.
    race: bool,
    commits: Vec<Applicant>,
    next: u64,
}

impl Desk {
    fn open(cluster: &Cluster, member: &Node, uses_left: u32) -> Arc<Self> {
        let desk = Arc::new(Self {
            ca: (cluster.ca.certificate().to_vec(), cluster.ca.key_der()),
            table: cluster.table.clone(),
            state: Mutex::new(State {
                uses_left,
                expired: false,
                quorum: true,
                lose_answer: false,
                race: false,
                commits: Vec::new(),
                next: 100,
            }),
        });
        member.peers.open_join_desk(desk.clone());
        desk
    }

    fn holder(&self, key: Fingerprint) -> Option<NodeId> {
        self.table.borrow().iter().find(|(_, peer)| peer.fingerprint == key).map(|(id, _)| *id)
    }

    fn mint(&self) -> NodeId {
        let mut state = self.state.lock().unwrap();
        state.next += 1;
        id(state.next)
    }

    fn commit(&self, node: NodeId, applicant: &Applicant) {
        let mut state = self.state.lock().unwrap();
        state.uses_left -= 1;
        state.commits.push(applicant.clone());
        let peer = Peer { name: applicant.name.clone(), addr: applicant.advertise, fingerprint: applicant.fingerprint };
        self.table.send_modify(|table| {
            Arc::make_mut(table).insert(node, peer);
        });
    }

    fn commits(&self) -> usize {
        self.state.lock().unwrap().commits.len()
    }
}

#[async_trait]
impl JoinDesk for Desk {
    async fn token_key(&self, token: TokenId) -> Result<[u8; 32], JoinRefusal> {
        if token == TokenId::from_random(1) { Ok(token_key(&SECRET)) } else { Err(JoinRefusal::UnknownToken) }
    }

    async fn prepare(&self, _token: TokenId, applicant: &Applicant) -> Result<Prepared, JoinRefusal> {
        let ca = Ca::from_der(&self.ca.0, &self.ca.1).unwrap();
        if let Some(node) = self.holder(applicant.fingerprint) {
            return Ok(Prepared { node, ca });
        }
        {
            let state = self.state.lock().unwrap();
            if state.expired {
                return Err(JoinRefusal::Expired);
            }
            if state.uses_left == 0 {
                return Err(JoinRefusal::UsedUp);
            }
        }
        Ok(Prepared { node: self.mint(), ca })
    }

    async fn admit(&self, _token: TokenId, node: NodeId, applicant: &Applicant) -> Result<Admission, JoinRefusal> {
        let (quorum, race) = {
            let state = self.state.lock().unwrap();
            (state.quorum, state.race)
        };
        if !quorum {
            return Err(JoinRefusal::Unavailable("there is no quorum".into()));
        }
        if race && self.holder(applicant.fingerprint).is_none() {
            self.commit(self.mint(), applicant);
        }
        let node = match self.holder(applicant.fingerprint) {
            Some(holder) => holder,
            None => {
                self.commit(node, applicant);
                node
            }
        };
        let lose = std::mem::take(&mut self.state.lock().unwrap().lose_answer);
        if lose {
            return Err(JoinRefusal::Unavailable("the answer was lost".into()));
        }
        Ok(Admission { node, peers: (**self.table.borrow()).clone(), extra: b"welcome".to_vec() })
    }
}

fn token(cluster: &Cluster, addresses: Vec<SocketAddr>) -> JoinToken {
    JoinToken::new(cluster.ca.cluster(), cluster.ca.pin(), TokenId::from_random(1), SECRET, addresses).unwrap()
}

fn newcomer(advertise: SocketAddr) -> Newcomer {
    let size: ByteSize = "1GiB".parse().unwrap();
    let capacity =
        Capacity { cpus: 4, threads: 2, memory: size, disk: size, arch: Arch::X86_64, kvm: false, bridges: Vec::new() };
    Newcomer { name: "newcomer".parse().unwrap(), advertise, capacity }
}

fn join(member: &Node, token: &JoinToken, key: &NodeKey) -> Result<Joined, JoinError> {
    // On a thread of its own runtime: the member must stay free to answer.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let advertise = SocketAddr::new("0.0.0.0".parse().unwrap(), member.addr.port() ^ 1);
    runtime.block_on(async { timeout(DEADLINE, redeem(token, &newcomer(advertise), key)).await.unwrap() })
}

fn nobody(error: JoinError) -> BTreeMap<SocketAddr, AttemptError> {
    match error {
        JoinError::Nobody(attempts) => attempts.into_iter().collect(),
        other => panic!("{other}"),
    }
}

#[test]
fn a_machine_with_a_token_becomes_a_member() {
    let cluster = Cluster::new();
    let one = cluster.member(1);
    let desk = Desk::open(&cluster, &one, 1);
    let key = NodeKey::generate().unwrap();
    let joined = join(&one, &token(&cluster, vec![one.addr]), &key).unwrap();
    assert_eq!(joined.extra, b"welcome");
    assert_eq!(joined.identity.subject().cluster, cluster.ca.cluster());
    assert_eq!(joined.identity.fingerprint(), key.fingerprint());
    // It said no address of its own: the one it was seen at is known now.
    assert_eq!(joined.peers[&joined.identity.node()].addr.ip(), one.addr.ip());
    assert_eq!(desk.commits(), 1);
    // And what it got is good for talking to members.
    let node = Node::bind_as(joined.identity, key, any_port(), cluster.table.subscribe());
    assert_eq!(node.echo(id(1)), echo_of(node.id));
}

#[test]
fn a_token_of_another_ca_meets_no_member() {
    let cluster = Cluster::new();
    let one = cluster.member(1);
    let desk = Desk::open(&cluster, &one, 1);
    let pin = Sha256([9; 32]);
    let wrong = JoinToken::new(cluster.ca.cluster(), pin, TokenId::from_random(1), SECRET, vec![one.addr]).unwrap();
    let attempts = nobody(join(&one, &wrong, &NodeKey::generate().unwrap()).unwrap_err());
    let error = &attempts[&one.addr];
    assert!(matches!(error, AttemptError::NotTheCluster(why) if why.contains("CA")), "{error}");
    assert_eq!(desk.commits(), 0);
}

#[test]
fn a_token_of_another_cluster_meets_no_member() {
    let cluster = Cluster::new();
    let one = cluster.member(1);
    Desk::open(&cluster, &one, 1);
    let other = ClusterId::from_random([8; 16]);
    let wrong = JoinToken::new(other, cluster.ca.pin(), TokenId::from_random(1), SECRET, vec![one.addr]).unwrap();
    let attempts = nobody(join(&one, &wrong, &NodeKey::generate().unwrap()).unwrap_err());
    let error = &attempts[&one.addr];
    assert!(matches!(error, AttemptError::NotTheCluster(why) if why.contains("another cluster")), "{error}");
}

#[test]
fn a_wrong_secret_is_refused_for_good() {
    let cluster = Cluster::new();
    let one = cluster.member(1);
    let desk = Desk::open(&cluster, &one, 1);
    let addresses = vec![one.addr, one.addr];
    let (ca, id) = (&cluster.ca, TokenId::from_random(1));
    let wrong = JoinToken::new(ca.cluster(), ca.pin(), id, [8; SECRET_LEN], addresses.clone()).unwrap();
    let error = join(&one, &wrong, &NodeKey::generate().unwrap()).unwrap_err();
    assert!(matches!(error, JoinError::Refused { refusal: JoinRefusal::WrongSecret, .. }), "{error}");

    let unknown = JoinToken::new(ca.cluster(), ca.pin(), TokenId::from_random(2), SECRET, addresses).unwrap();
    let attempts = nobody(join(&one, &unknown, &NodeKey::generate().unwrap()).unwrap_err());
    assert!(matches!(attempts[&one.addr], AttemptError::Refused(JoinRefusal::UnknownToken)));
    assert_eq!(desk.commits(), 0);
}

#[test]
fn expired_and_used_up_tokens_are_named_as_such() {
    let cluster = Cluster::new();
    let one = cluster.member(1);
    let desk = Desk::open(&cluster, &one, 0);
    let token = token(&cluster, vec![one.addr]);
    let error = join(&one, &token, &NodeKey::generate().unwrap()).unwrap_err();
    assert!(matches!(error, JoinError::Refused { refusal: JoinRefusal::UsedUp, .. }), "{error}");
    desk.state.lock().unwrap().expired = true;
    let error = join(&one, &token, &NodeKey::generate().unwrap()).unwrap_err();
    assert!(matches!(error, JoinError::Refused { refusal: JoinRefusal::Expired, .. }), "{error}");
    assert!(error.to_string().contains("waifuctl cluster token create"), "{error}");
}

#[test]
fn a_failed_join_leaves_nothing_and_can_be_tried_again() {
    let cluster = Cluster::new();
    let one = cluster.member(1);
    let desk = Desk::open(&cluster, &one, 1);
    desk.state.lock().unwrap().quorum = false;
    let (token, key) = (token(&cluster, vec![one.addr]), NodeKey::generate().unwrap());
    let attempts = nobody(join(&one, &token, &key).unwrap_err());
    assert!(matches!(attempts[&one.addr], AttemptError::Refused(JoinRefusal::Unavailable(_))));
    assert_eq!((desk.commits(), cluster.table.borrow().len()), (0, 1));
    desk.state.lock().unwrap().quorum = true;
    join(&one, &token, &key).unwrap();
    assert_eq!((desk.commits(), cluster.table.borrow().len()), (1, 2));
}

#[test]
fn when_only_the_answer_is_lost_the_same_machine_becomes_the_same_node() {
    let cluster = Cluster::new();
    let one = cluster.member(1);
    let desk = Desk::open(&cluster, &one, 1);
    desk.state.lock().unwrap().lose_answer = true;
    let (token, key) = (token(&cluster, vec![one.addr]), NodeKey::generate().unwrap());
    nobody(join(&one, &token, &key).unwrap_err());
    assert_eq!(desk.commits(), 1);
    // The only use is taken, and by whom does not matter to anybody else.
    let other = join(&one, &token, &NodeKey::generate().unwrap()).unwrap_err();
    assert!(matches!(other, JoinError::Refused { refusal: JoinRefusal::UsedUp, .. }), "{other}");
    let joined = join(&one, &token, &key).unwrap();
    assert_eq!(desk.commits(), 1);
    assert_eq!(joined.peers[&joined.identity.node()].fingerprint, key.fingerprint());
}

#[test]
fn two_members_admitting_one_machine_agree_on_its_id() {
    let cluster = Cluster::new();
    let one = cluster.member(1);
    let desk = Desk::open(&cluster, &one, 1);
    desk.state.lock().unwrap().race = true;
    let key = NodeKey::generate().unwrap();
    let joined = join(&one, &token(&cluster, vec![one.addr]), &key).unwrap();
    assert_eq!(desk.commits(), 1);
    assert_eq!(joined.peers[&joined.identity.node()].fingerprint, key.fingerprint());
}

#[test]
fn addresses_are_tried_in_turn_and_each_failure_is_told() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.member(1), cluster.member(2));
    Desk::open(&cluster, &one, 2);
    let closed = std::net::UdpSocket::bind(any_port()).unwrap();
    let silent = closed.local_addr().unwrap();
    // Nobody answers at the first, the second lets nobody join, the third does.
    let key = NodeKey::generate().unwrap();
    join(&one, &token(&cluster, vec![silent, two.addr, one.addr]), &key).unwrap();

    let error = join(&one, &token(&cluster, vec![silent, two.addr]), &key).unwrap_err();
    let text = error.to_string();
    let attempts = nobody(error);
    assert!(matches!(attempts[&silent], AttemptError::NoAnswer), "{text}");
    assert!(matches!(&attempts[&two.addr], AttemptError::Ended(why) if why.contains("cannot let others join")));
    assert!(text.contains(&silent.to_string()) && text.contains(&two.addr.to_string()), "{text}");
}

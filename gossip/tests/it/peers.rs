//! Members among themselves: calls, simultaneous dials, dead peers, restarts, new certificates.

use crate::cluster::{Cluster, DEADLINE, Node, any_port, echo_of, eventually, id, members};
use async_trait::async_trait;
use bytes::Bytes;
use std::{
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};
use tokio::{
    io::AsyncWriteExt as _,
    time::{Instant, timeout},
};
use waifud_gossip::{
    Peer,
    peers::{DIAL_TIMEOUT, PeerError, PeerStream, Protocol, Question, Service},
};
use waifud_model::ids::NodeId;

#[test]
fn members_call_each_other_and_know_who_calls() {
    let cluster = Cluster::new();
    let nodes = members(&cluster, 1..=2);
    assert_eq!(nodes[&1].echo(id(2)), echo_of(id(1)));
    assert_eq!(nodes[&2].echo(id(1)), echo_of(id(2)));
}

#[test]
fn dialling_each_other_at_once_is_harmless() {
    let cluster = Cluster::new();
    let nodes = members(&cluster, 1..=2);
    let (one, two) = (&nodes[&1], &nodes[&2]);
    let call = |from: &Node, to| {
        let peers = from.peers.clone();
        from.runtime.spawn(async move {
            peers.call(to, Protocol::Api, Bytes::from_static(b"ping"), Duration::from_secs(5), 100).await
        })
    };
    let calls: Vec<_> = (0..20).flat_map(|_| [(id(1), call(one, id(2))), (id(2), call(two, id(1)))]).collect();
    for (from, call) in calls {
        assert_eq!(one.block(call).unwrap(), echo_of(from));
    }
}

#[test]
fn a_peer_that_is_down_costs_a_second_and_then_nothing() {
    let cluster = Cluster::new();
    let one = cluster.member(1);
    let (dead, ..) = cluster.member(2).kill();
    let start = Instant::now();
    let first = one.echo(dead).unwrap_err();
    let took = start.elapsed();
    assert!(matches!(first, PeerError::Unreachable { .. }) && first.never_sent(), "{first}");
    assert!(took < DIAL_TIMEOUT + Duration::from_millis(500), "{took:?}");
    // Many callers at once share one dial, and its outcome.
    let outcomes = one.block(async {
        let start = Instant::now();
        let calls = (0..50).map(|_| one.peers.open(dead, Protocol::Api));
        (futures::future::join_all(calls).await, start.elapsed())
    });
    assert!(outcomes.0.iter().all(|outcome| matches!(outcome, Err(PeerError::Unreachable { .. }))));
    assert!(outcomes.1 < DIAL_TIMEOUT + Duration::from_millis(500), "{:?}", outcomes.1);
}

#[test]
fn a_caller_with_little_patience_does_not_cut_the_dial_short() {
    let cluster = Cluster::new();
    let nodes = members(&cluster, 1..=2);
    let one = &nodes[&1];
    // The caller is gone before a handshake can be over; the connection is there for the next.
    let hasty = one.block(async { timeout(Duration::ZERO, one.peers.open(id(2), Protocol::Api)).await.map(drop) });
    assert!(hasty.is_err());
    let next = one.peers.call(id(2), Protocol::Api, Bytes::from_static(b"ping"), Duration::from_secs(5), 100);
    assert_eq!(one.block(next), echo_of(id(1)));
}

#[test]
fn a_peer_that_was_killed_and_came_back_is_reached_without_waiting_for_the_idle_timeout() {
    let cluster = Cluster::new();
    let one = cluster.member(1);
    let two = cluster.member(2);
    assert_eq!(one.echo(id(2)), echo_of(id(1)));
    let (node, key, addr) = two.kill();
    let start = Instant::now();
    let back = Node::bind(&cluster, node, key, addr);
    // The first request on the old connection is answered by a reset; a later one goes through a new connection.
    let short = Duration::from_millis(500);
    eventually("the restarted peer answers", || {
        let call = one.peers.call(id(2), Protocol::Api, Bytes::from_static(b"ping"), short, 100);
        one.block(call) == echo_of(id(1))
    });
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    assert_eq!(back.echo(id(1)), echo_of(id(2)));
}

#[test]
fn an_orderly_shutdown_is_noticed_at_once() {
    let cluster = Cluster::new();
    let nodes = members(&cluster, 1..=2);
    let mut stream = nodes[&1].block(nodes[&1].peers.open(id(2), Protocol::Api)).unwrap();
    nodes[&2].block(nodes[&2].peers.shutdown());
    assert!(nodes[&1].block(stream.recv.read_to_end(100)).is_err());
    assert_eq!(nodes[&2].echo(id(1)), Err(PeerError::ShuttingDown));
}

#[test]
fn whoever_leaves_the_table_loses_its_connections_at_once() {
    let cluster = Cluster::new();
    let nodes = members(&cluster, 1..=3);
    let (one, two) = (&nodes[&1], &nodes[&2]);
    let mut dialled = one.block(one.peers.open(id(2), Protocol::Api)).unwrap();
    assert_eq!(two.echo(id(3)), echo_of(id(2)));
    let start = Instant::now();
    cluster.remove(id(2));
    let error = one.block(dialled.recv.read_to_end(100)).unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(2), "closed, not timed out: {error}");
    assert_eq!(one.echo(id(2)), Err(PeerError::Unknown(id(2))));
    assert_eq!(one.echo(id(3)), echo_of(id(1)), "the others go on");
}

#[test]
fn a_removed_node_that_has_not_heard_of_it_is_refused() {
    let cluster = Cluster::new();
    let one = cluster.member(1);
    // Its table is its own and goes on naming everybody.
    let own_table = tokio::sync::watch::channel(Arc::default()).0;
    let key = waifud_gossip::identity::NodeKey::generate().unwrap();
    let two = Node::bind_as(cluster.identity(id(2), key.clone()), key, any_port(), own_table.subscribe());
    cluster.admit(&two);
    own_table.send_replace(cluster.table.borrow().clone());
    assert_eq!(two.echo(id(1)), echo_of(id(2)));
    cluster.remove(id(2));
    let mut last = None;
    eventually("the removed node is refused", || {
        last = Some(two.echo(id(1)));
        matches!(last, Some(Err(PeerError::Refused { .. })))
    });
    let text = last.unwrap().unwrap_err().to_string();
    assert!(text.contains("not a member"), "{text}");
    drop(one);
}

#[test]
fn a_renewed_certificate_disturbs_nobody() {
    let cluster = Cluster::new();
    let nodes = members(&cluster, 1..=3);
    let (one, two, three) = (&nodes[&1], &nodes[&2], &nodes[&3]);
    let mut standing = one.block(one.peers.open(id(2), Protocol::Api)).unwrap();
    let renewed = two.identity.borrow().renew(&cluster.ca, SystemTime::now()).unwrap();
    two.identity.send_replace(Arc::new(renewed));
    one.block(async {
        standing.send.write_all(b"ping").await.unwrap();
        standing.send.finish().unwrap();
        assert_eq!(standing.recv.read_to_end(100).await.unwrap(), format!("{}: ping", id(1)).as_bytes());
    });
    assert_eq!(three.echo(id(2)), echo_of(id(3)), "new connections see the new certificate");
    assert_eq!(two.echo(id(3)), echo_of(id(2)));
}

#[test]
fn a_rotated_key_is_accepted_from_the_commit_on_and_old_connections_survive() {
    let cluster = Cluster::new();
    let nodes = members(&cluster, 1..=3);
    let (one, two, three) = (&nodes[&1], &nodes[&2], &nodes[&3]);
    let mut standing = one.block(one.peers.open(id(2), Protocol::Api)).unwrap();
    let rotated = Arc::new(two.identity.borrow().rotate(&cluster.ca, SystemTime::now()).unwrap());
    two.identity.send_replace(rotated);
    // Not committed yet: nobody knows this key.
    assert!(matches!(two.echo(id(3)), Err(PeerError::Refused { .. })));
    eventually("whoever dials it sees a stranger", || matches!(three.echo(id(2)), Err(PeerError::Impostor { .. })));
    cluster.admit(two);
    eventually("the new key is accepted", || two.echo(id(3)) == echo_of(id(2)));
    assert_eq!(three.echo(id(2)), echo_of(id(3)));
    one.block(async {
        standing.send.write_all(b"ping").await.unwrap();
        standing.send.finish().unwrap();
        assert_eq!(standing.recv.read_to_end(100).await.unwrap(), format!("{}: ping", id(1)).as_bytes());
    });
}

#[test]
fn a_call_ends_in_time_within_its_size_and_only_where_it_is_served() {
    let cluster = Cluster::new();
    let nodes = members(&cluster, 1..=2);
    let one = &nodes[&1];
    let call = |protocol, limit| {
        one.block(one.peers.call(id(2), protocol, Bytes::from_static(b"ping"), Duration::from_secs(5), limit))
    };
    assert_eq!(call(Protocol::Api, 3), Err(PeerError::TooLong { node: id(2), limit: 3 }));
    assert!(matches!(call(Protocol::Raft, 100), Err(PeerError::Reset { .. } | PeerError::Lost { .. })));
    assert_eq!(one.echo(id(1)), Err(PeerError::Myself(id(1))));
    assert_eq!(one.echo(id(9)), Err(PeerError::Unknown(id(9))));
}

/// A network between `one` and `other` that can lose everything: whoever sends to its address reaches the other of the two.
struct Wire {
    cut: AtomicBool,
    socket: UdpSocket,
}

impl Wire {
    fn between(one: SocketAddr, other: SocketAddr) -> Arc<Self> {
        let wire = Arc::new(Self { cut: AtomicBool::new(false), socket: UdpSocket::bind(any_port()).unwrap() });
        let weak = Arc::downgrade(&wire);
        wire.socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        std::thread::spawn(move || {
            let mut packet = [0; 1 << 16];
            while let Some(wire) = weak.upgrade() {
                if let Ok((length, from)) = wire.socket.recv_from(&mut packet)
                    && !wire.cut.load(Ordering::Relaxed)
                {
                    let to = if from == one { other } else { one };
                    wire.socket.send_to(&packet[..length], to).unwrap();
                }
            }
        });
        wire
    }
}

/// Remembers what it is asked.
#[derive(Default)]
struct Ledger(Mutex<Vec<Vec<u8>>>);

#[async_trait]
impl Service for Ledger {
    async fn serve(&self, _: NodeId, mut stream: PeerStream) {
        let Ok(request) = stream.recv.read_to_end(100).await else { return };
        self.0.lock().unwrap().push(request);
        let _ = stream.send.write_all(b"done").await;
    }
}

#[test]
fn what_was_given_up_is_not_carried_out_later() {
    let cluster = Cluster::new();
    let nodes = members(&cluster, 1..=2);
    let (one, two) = (&nodes[&1], &nodes[&2]);
    let wire = Wire::between(one.addr, two.addr);
    let there = Peer { addr: wire.socket.local_addr().unwrap(), ..two.as_peer() };
    cluster.table.send_modify(|table| drop(Arc::make_mut(table).insert(two.id, there)));
    let ledger = Arc::new(Ledger::default());
    two.peers.register(Protocol::Raft, ledger.clone());
    let call = |word: &'static [u8], patience| {
        one.block(one.peers.call(two.id, Protocol::Raft, Bytes::from_static(word), patience, 100))
    };
    call(b"first", DEADLINE).unwrap();
    wire.cut.store(true, Ordering::Relaxed);
    let lost = call(b"lost", Duration::from_millis(300)).unwrap_err();
    assert!(matches!(lost, PeerError::Timeout { .. }), "{lost}");
    one.block(async {
        let mut question = Question::on(one.peers.open(two.id, Protocol::Raft).await.unwrap().send);
        question.write_all(b"lost").await.unwrap();
        question.shutdown().await.unwrap();
    });
    wire.cut.store(false, Ordering::Relaxed);
    // Each answer tells that what was sent before it was lost, which then would be sent again.
    for _ in 0..10 {
        call(b"later", DEADLINE).unwrap();
    }
    let asked = ledger.0.lock().unwrap();
    assert_eq!((asked[0].as_slice(), asked.len()), (&b"first"[..], 11));
    assert!(asked[1..].iter().all(|word| word == b"later"), "{asked:?}");
}

#[test]
fn garbage_is_ignored() {
    let cluster = Cluster::new();
    let nodes = members(&cluster, 1..=2);
    let target = nodes[&2].addr;
    let socket = UdpSocket::bind(any_port()).unwrap();
    let mut noise = 0x9e37_79b9_7f4a_7c15_u64;
    for round in 0..2_000_usize {
        let datagram: Vec<u8> = (0..(round * 7) % 1_400)
            .map(|_| {
                noise ^= noise << 13;
                noise ^= noise >> 7;
                noise ^= noise << 17;
                noise as u8
            })
            .collect();
        // Every fourth looks like the first packet of a QUIC connection, up to its cryptography.
        let datagram = if round % 4 == 0 { forged_initial(&datagram) } else { datagram };
        // The receive buffer may be full, which is no concern of the sender.
        let _ = socket.send_to(&datagram, target);
    }
    // The first packets may be lost in the noise.
    eventually("a member gets through", || nodes[&1].echo(id(2)) == echo_of(id(1)));
}

/// A long header, version 1, with connection ids and a length, and noise for the rest (RFC 9000, section 17.2.2).
fn forged_initial(noise: &[u8]) -> Vec<u8> {
    let mut packet = vec![0xc3, 0, 0, 0, 1, 8, 1, 2, 3, 4, 5, 6, 7, 8, 8, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0x44, 0x80];
    packet.extend_from_slice(noise);
    packet.resize(1_200, 0xa5);
    packet
}

#[test]
fn a_flood_of_strangers_leaves_room_for_members() {
    let cluster = Cluster::new();
    let nodes = members(&cluster, 1..=2);
    let two = &nodes[&2];
    // More at once than are let in without proof of their address.
    let flood = two.runtime.spawn({
        let target = two.addr;
        async move {
            let strangers: Vec<_> =
                (0..40).map(|_| quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap()).collect();
            let tries = strangers.iter().map(|stranger| {
                let config = super::refusals::stranger_config(b"waifud/1");
                stranger.connect_with(config, target, "x.node.waifud.internal").unwrap()
            });
            timeout(DEADLINE, futures::future::join_all(tries)).await.unwrap().into_iter().filter(Result::is_ok).count()
        }
    });
    assert_eq!(nodes[&1].echo(id(2)), echo_of(id(1)));
    two.block(flood).unwrap();
    assert_eq!(nodes[&1].echo(id(2)), echo_of(id(1)));
}

//! A member whose messages break chitchat: gossip must survive it.

use super::*;
use crate::{
    identity::{Ca, Identity, NodeKey},
    table::{Peer, PeerTable},
};
use chitchat::{ChitchatId, Serializable as _};
use std::{net::Ipv4Addr, time::SystemTime};
use tokio::time::timeout;
use waifud_model::ids::{ClusterId, NodeId};

const DEADLINE: Duration = Duration::from_secs(20);

/// Messages as chitchat 0.11.2 writes them.
const HEAD: [u8; 3] = [0x53, 0xb0, 0];
const SYN_ACK: u8 = 1;
const PLAIN_BLOCK: u8 = 2;
const NO_MORE_BLOCKS: u8 = 0;
const OP_NODE: u8 = 0;
const OP_KEY_VALUE: u8 = 1;
const SET: u8 = 0;

/// News of `about`: one key, which chitchat cuts after its first byte to find who listens to it.
fn poison(about: &ChitchatId) -> Vec<u8> {
    let mut ops = vec![OP_NODE];
    about.serialize(&mut ops);
    for version in [0u64, 0] {
        version.serialize(&mut ops);
    }
    ops.push(OP_KEY_VALUE);
    "é".to_owned().serialize(&mut ops);
    "value".to_owned().serialize(&mut ops);
    1u64.serialize(&mut ops);
    ops.push(SET);

    let mut raw = HEAD.to_vec();
    raw.push(SYN_ACK);
    1u16.serialize(&mut raw);
    about.serialize(&mut raw);
    for version in [5u64, 0, 1] {
        version.serialize(&mut raw);
    }
    raw.push(PLAIN_BLOCK);
    (ops.len() as u16).serialize(&mut raw);
    raw.extend_from_slice(&ops);
    raw.push(NO_MORE_BLOCKS);
    raw
}

struct Member {
    id: NodeId,
    addr: std::net::SocketAddr,
    peers: Peers,
    _identity: watch::Sender<Arc<Identity>>,
}

fn member(n: u64, ca: &Ca, table: &watch::Sender<Arc<PeerTable>>) -> Member {
    let (id, key) = (NodeId::from_random(n), NodeKey::generate().unwrap());
    let identity = watch::channel(Arc::new(Identity::issue(ca, id, key.clone(), SystemTime::now()).unwrap())).0;
    let peers = Peers::bind((Ipv4Addr::LOCALHOST, 0).into(), identity.subscribe(), table.subscribe()).unwrap();
    let addr = peers.local_addr().unwrap();
    let peer = Peer { name: format!("n{n}").parse().unwrap(), addr, fingerprint: key.fingerprint() };
    table.send_modify(|table| {
        Arc::make_mut(table).insert(id, peer);
    });
    Member { id, addr, peers, _identity: identity }
}

fn pace() -> Pace {
    Pace { interval: Duration::from_millis(50), phi: 8.0, window: 10, prior: Duration::from_millis(120) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_breaks_chitchat_costs_one_life_and_nothing_that_was_published() {
    let ca = Ca::generate(ClusterId::from_random([1; 16])).unwrap();
    let table = watch::channel(Arc::default()).0;
    let (victim, attacker, witness) = (member(1, &ca, &table), member(2, &ca, &table), member(3, &ca, &table));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("victim");
    let start = |member: &Member, file: PathBuf| {
        Gossip::start(member.peers.clone(), GossipConfig { generation_file: file, pace: pace() })
    };
    let gossip = start(&victim, file.clone()).await.unwrap();
    let watching = start(&witness, dir.path().join("witness")).await.unwrap();
    gossip.publish("vm/a", "running 1").unwrap();
    let mut seen = watching.observations();
    let mut see = async |key: &str| {
        let wanted = seen.wait_for(|o| o.get(&victim.id).is_some_and(|node| node.get(key).is_some()));
        timeout(DEADLINE, wanted).await.expect("seen in time").unwrap().clone()
    };
    see("vm/a").await;
    let generation = || std::fs::read_to_string(&file).unwrap().trim().parse::<u64>().unwrap();
    let before = generation();

    let poison = poison(&ChitchatId::new(attacker.id.to_string(), 1, attacker.addr));
    let poison = wire::encode_raw(&poison).unwrap();
    attacker.peers.send_gossip(victim.id, poison).await.unwrap();
    timeout(DEADLINE, async {
        while generation() == before {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("a new life begins");

    gossip.publish("vm/b", "running 1").unwrap();
    let after = see("vm/b").await;
    assert_eq!(after[&victim.id].get("vm/a"), Some("running 1"));
}

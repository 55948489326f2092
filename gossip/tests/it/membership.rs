//! Gossip among three nodes: who is alive, and what they see.

use crate::cluster::{Cluster, DEADLINE, Node, fast_pace, id, members};
use std::{collections::BTreeMap, sync::Arc};
use tokio::time::timeout;
use waifud_gossip::membership::{Gossip, Members, Observations};

fn start(cluster: &Cluster, nodes: &BTreeMap<u64, Node>) -> BTreeMap<u64, Gossip> {
    nodes.iter().map(|(n, node)| (*n, node.gossip(cluster, fast_pace()))).collect()
}

/// Waits until `node` has seen what `wanted` wants.
fn see(node: &Node, gossip: &Gossip, what: &str, wanted: impl Fn(&Members) -> bool) -> Arc<Members> {
    let mut members = gossip.members();
    node.runtime.block_on(async {
        let seen = timeout(DEADLINE, members.wait_for(|members| wanted(members))).await;
        seen.unwrap_or_else(|_| panic!("node {} never saw: {what}", node.id)).unwrap().clone()
    })
}

fn observe(node: &Node, gossip: &Gossip, what: &str, wanted: impl Fn(&Observations) -> bool) -> Arc<Observations> {
    let mut observations = gossip.observations();
    node.runtime.block_on(async {
        let seen = timeout(DEADLINE, observations.wait_for(|observations| wanted(observations))).await;
        seen.unwrap_or_else(|_| panic!("node {} never saw: {what}", node.id)).unwrap().clone()
    })
}

fn alive(members: &Members) -> Vec<u64> {
    members.iter().filter(|(_, member)| member.alive).map(|(id, _)| id.get()).collect()
}

fn value(observations: &Observations, n: u64, key: &str) -> Option<String> {
    observations.get(&id(n))?.get(key).map(str::to_owned)
}

#[test]
fn three_nodes_find_each_other_and_notice_a_death_and_a_return() {
    let cluster = Cluster::new();
    let mut nodes = members(&cluster, 1..=3);
    let mut gossip = start(&cluster, &nodes);
    gossip[&3].publish("vm/a", "running 1").unwrap();
    for (n, node) in &nodes {
        see(node, &gossip[n], "all alive", |members| alive(members) == [1, 2, 3]);
        observe(node, &gossip[n], "the VM of node 3", |o| value(o, 3, "vm/a").as_deref() == Some("running 1"));
    }

    let (node, key, addr) = nodes.remove(&3).unwrap().kill();
    gossip.remove(&3);
    for (n, node) in &nodes {
        let members = see(node, &gossip[n], "node 3 dead", |members| alive(members) == [1, 2]);
        assert!(members[&id(3)].since > members[&id(*n)].since, "dead since a moment ago");
        // What the dead one said last is kept.
        assert_eq!(value(&gossip[n].observations().borrow(), 3, "vm/a").as_deref(), Some("running 1"));
    }

    let back = Node::bind(&cluster, node, key, addr);
    let again = back.gossip(&cluster, fast_pace());
    again.publish("vm/a", "stopped 2").unwrap();
    nodes.insert(3, back);
    gossip.insert(3, again);
    for (n, node) in &nodes {
        see(node, &gossip[n], "node 3 is back", |members| alive(members) == [1, 2, 3]);
        observe(node, &gossip[n], "its new life", |o| value(o, 3, "vm/a").as_deref() == Some("stopped 2"));
    }
}

#[test]
fn observations_travel_change_and_are_withdrawn() {
    let cluster = Cluster::new();
    let nodes = members(&cluster, 1..=3);
    let gossip = start(&cluster, &nodes);
    let seen = |n: u64, what: &str, wanted: &dyn Fn(&Observations) -> bool| {
        observe(&nodes[&n], &gossip[&n], what, wanted);
    };
    gossip[&1].publish("vm/a", "preparing 1").unwrap();
    gossip[&1].publish("vm/b", "x".repeat(8 << 10)).unwrap();
    for n in 1..=3 {
        seen(n, "both values", &|o| value(o, 1, "vm/a").is_some() && value(o, 1, "vm/b").is_some());
    }
    gossip[&1].publish("vm/a", "running 1").unwrap();
    gossip[&1].withdraw("vm/b");
    for n in 1..=3 {
        seen(n, "the change", &|o| value(o, 1, "vm/a").as_deref() == Some("running 1"));
        seen(n, "the withdrawal", &|o| value(o, 1, "vm/b").is_none());
    }
}

#[test]
fn many_large_observations_all_arrive() {
    let cluster = Cluster::new();
    let nodes = members(&cluster, 1..=2);
    let gossip = start(&cluster, &nodes);
    // Four times what fits into one message, and hard to compress.
    let value_of = |n: u32| -> String { (0..128).map(|m| blake(n * 1000 + m)).collect() };
    for n in 0..40 {
        gossip[&1].publish(format!("large/{n}"), value_of(n)).unwrap();
    }
    let seen = observe(&nodes[&2], &gossip[&2], "all forty", |o| {
        o.get(&id(1)).is_some_and(|node| node.with_prefix("large/").count() == 40)
    });
    for n in 0..40 {
        assert_eq!(value(&seen, 1, &format!("large/{n}")), Some(value_of(n)));
    }
}

/// Sixty-four characters that look random.
fn blake(n: u32) -> String {
    waifud_model::digest::Blake3::of(&n.to_le_bytes()).to_string()
}

#[test]
fn whoever_is_removed_vanishes_and_stays_away() {
    let cluster = Cluster::new();
    let nodes = members(&cluster, 1..=3);
    let gossip = start(&cluster, &nodes);
    gossip[&3].publish("vm/a", "running 1").unwrap();
    for n in 1..=2 {
        observe(&nodes[&n], &gossip[&n], "the VM", |o| value(o, 3, "vm/a").is_some());
    }
    cluster.remove(id(3));
    for n in 1..=2 {
        see(&nodes[&n], &gossip[&n], "node 3 gone", |members| !members.contains_key(&id(3)));
        observe(&nodes[&n], &gossip[&n], "its VM gone", |o| !o.contains_key(&id(3)));
    }
    // News still travels between the others, and does not bring the removed one back.
    gossip[&1].publish("vm/b", "running 1").unwrap();
    let seen = observe(&nodes[&2], &gossip[&2], "news", |o| value(o, 1, "vm/b").is_some());
    assert!(!seen.contains_key(&id(3)));
    assert!(!gossip[&2].members().borrow().contains_key(&id(3)));
}

#[test]
fn a_new_member_is_found_by_the_table_alone() {
    let cluster = Cluster::new();
    let mut nodes = members(&cluster, 1..=2);
    let mut gossip = start(&cluster, &nodes);
    see(&nodes[&1], &gossip[&1], "two alive", |members| alive(members) == [1, 2]);
    let third = cluster.member(3);
    gossip.insert(3, third.gossip(&cluster, fast_pace()));
    nodes.insert(3, third);
    for (n, node) in &nodes {
        see(node, &gossip[n], "three alive", |members| alive(members) == [1, 2, 3]);
    }
}

#[test]
fn a_node_that_moves_begins_a_new_life_and_keeps_its_observations() {
    let cluster = Cluster::new();
    let one = cluster.member(1);
    // Reachable at every address of the loopback interface.
    let key = waifud_gossip::identity::NodeKey::generate().unwrap();
    let mut two = Node::bind(&cluster, id(2), key, "0.0.0.0:0".parse().unwrap());
    two.addr.set_ip("127.0.0.1".parse().unwrap());
    cluster.admit(&two);
    let nodes = BTreeMap::from([(1, one), (2, two)]);
    let gossip = start(&cluster, &nodes);
    gossip[&2].publish("vm/a", "running 1").unwrap();
    observe(&nodes[&1], &gossip[&1], "the VM", |o| value(o, 2, "vm/a").is_some());

    cluster.table.send_modify(|table| {
        Arc::make_mut(table).get_mut(&id(2)).unwrap().addr.set_ip("127.0.0.2".parse().unwrap());
    });
    gossip[&2].publish("vm/b", "running 1").unwrap();
    let seen = observe(&nodes[&1], &gossip[&1], "news from the new address", |o| value(o, 2, "vm/b").is_some());
    assert_eq!(value(&seen, 2, "vm/a").as_deref(), Some("running 1"));
    let moved = see(&nodes[&1], &gossip[&1], "alive there", |members| alive(members) == [1, 2]);
    assert_eq!(moved[&id(2)].addr.ip().to_string(), "127.0.0.2");
}

//! Gossip without gossip: who hears whom follows from who can reach whom, some time later; so do observations.
//!
//! In: what is reachable, what nodes publish. Out: each node's [`Liveness`] and its view of the others' VMs.

use super::{fabric::Fabric, host::Host, lock};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{sync::watch, time::Instant};
use waifud_consensus::Liveness;
use waifud_model::{
    ids::{NodeId, VmId},
    observed::VmObservation,
};
use waifud_node::reconcile::Observations;

/// How often nodes hear of each other.
pub(crate) const ROUND: Duration = Duration::from_millis(250);

/// A node that was not heard for so long is dead.
const SILENCE: Duration = Duration::from_secs(3);

type Seen = BTreeMap<VmId, VmObservation>;

#[derive(Debug)]
struct Member {
    liveness: watch::Sender<Liveness>,
    /// What it says.
    said: Seen,
    /// When it heard each of the others, and what they said.
    heard: BTreeMap<NodeId, (Instant, Seen)>,
}

/// The gossip of all running nodes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gossip(Arc<Mutex<BTreeMap<NodeId, Member>>>);

impl Gossip {
    /// A node begins, and knows of nobody.
    pub(crate) fn join(&self, node: NodeId) -> watch::Receiver<Liveness> {
        let (liveness, receiver) = watch::channel(Liveness::default());
        let member = Member { liveness, said: Seen::new(), heard: BTreeMap::new() };
        lock(&self.0).insert(node, member);
        receiver
    }

    /// A node is gone.
    pub(crate) fn leave(&self, node: NodeId) {
        lock(&self.0).remove(&node);
    }

    /// Everybody hears from whom it can.
    pub(crate) fn round(&self, fabric: &Fabric, hosts: &[Host]) {
        let mut members = lock(&self.0);
        let now = Instant::now();
        let said: BTreeMap<NodeId, Seen> = members.iter().map(|(node, member)| (*node, member.said.clone())).collect();
        for (me, member) in members.iter_mut() {
            for (other, says) in said.iter().filter(|(other, _)| *other != me && fabric.reaches(**other, *me)) {
                member.heard.insert(*other, (now, says.clone()));
            }
            let mut view = Liveness { clock_offset_ms: offset(*me, hosts), ..Liveness::default() };
            for (other, (at, _)) in &member.heard {
                if now.duration_since(*at) < SILENCE {
                    view.alive.insert(*other);
                } else {
                    view.dead_since.insert(*other, *at + SILENCE);
                }
            }
            member.liveness.send_if_modified(|known| {
                let changed = *known != view;
                *known = view;
                changed
            });
        }
    }

    /// Whom a node hears; itself too.
    pub(crate) fn hears(&self, me: NodeId) -> BTreeSet<NodeId> {
        let mut alive = lock(&self.0).get(&me).map(|member| member.liveness.borrow().alive.clone()).unwrap_or_default();
        alive.insert(me);
        alive
    }

    /// What a node knows of a VM of another.
    pub(crate) fn sees(&self, me: NodeId, owner: NodeId, vm: VmId) -> Option<VmObservation> {
        let members = lock(&self.0);
        let member = members.get(&me)?;
        let seen = if me == owner { &member.said } else { &member.heard.get(&owner)?.1 };
        seen.get(&vm).copied()
    }

    /// Where a node says what it sees.
    pub(crate) fn mouth(&self, node: NodeId) -> Arc<dyn Observations> {
        Arc::new(Mouth { node, gossip: self.clone() })
    }
}

/// How far a node's clock is from the median of all.
fn offset(me: NodeId, hosts: &[Host]) -> i64 {
    let mut all: Vec<i64> = hosts.iter().map(|host| host.clock.off()).collect();
    all.sort_unstable();
    let mine = hosts.iter().find(|host| host.id == me).map_or(0, |host| host.clock.off());
    mine - all.get(all.len() / 2).copied().unwrap_or(0)
}

#[derive(Debug)]
struct Mouth {
    node: NodeId,
    gossip: Gossip,
}

impl Observations for Mouth {
    fn publish(&self, vm: VmId, seen: VmObservation) {
        if let Some(member) = lock(&self.gossip.0).get_mut(&self.node) {
            member.said.insert(vm, seen);
        }
    }

    fn withdraw(&self, vm: VmId) {
        if let Some(member) = lock(&self.gossip.0).get_mut(&self.node) {
            member.said.remove(&vm);
        }
    }
}

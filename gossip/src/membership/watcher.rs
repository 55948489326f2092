//! Keeps chitchat running and carries things between it and the rest.
//!
//! ```text
//!   waiting for the own entry in the table ──> a life: one generation ──shutdown──> end
//!                                   ^                    │
//!                                   └──── chitchat ended, or the own address changed
//! ```
//!
//! chitchat's own seeds are fixed at its start, so they are not used: members that are not alive are tried from here,
//! a few every round, as the table has them at that moment.

use super::{
    GossipConfig, GossipError, generation,
    observations::{LIFE_KEY, NodeObservations, Observations, Published},
    roster::{Members, Roster},
    transport::{KnownIds, MemberTransport},
    wire,
};
use crate::{
    peers::Peers,
    table::{PeerTable, PeerTableWatch},
};
use chitchat::{Chitchat, ChitchatConfig, ChitchatHandle, ChitchatId, FailureDetectorConfig, NodeState};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;
use waifud_model::ids::NodeId;

/// How long chitchat remembers nodes that died. Half of it they stay in messages. Observations of dead members are
/// kept here, so it only has to be longer than the confusion around a restart.
const DEAD_GRACE: Duration = Duration::from_secs(10 * 60);
/// How long withdrawn keys are remembered. A node that was cut off for longer gets everything anew.
const WITHDRAWN_GRACE: Duration = Duration::from_secs(10 * 60);
/// A longer pause between news is no sample of the network but an outage, and would make the detector patient.
const PAUSE_MAX: Duration = Duration::from_secs(3);
/// Members not alive that are tried each round.
const SEEDS: usize = 2;
/// Members that are told of a change at once, instead of at the next round.
const TOLD_AT_ONCE: usize = 3;
/// Changes that come within this go out together.
const GATHER: Duration = Duration::from_millis(20);
/// Between the end of one life and the next.
const REBIRTH_PAUSE: Duration = Duration::from_secs(1);

/// Where results go.
pub(super) struct Outputs {
    pub(super) members: watch::Sender<Arc<Members>>,
    pub(super) observations: watch::Sender<Arc<Observations>>,
}

/// Runs gossip until `stop`.
pub(super) async fn run(
    peers: Peers,
    config: GossipConfig,
    published: Arc<Published>,
    outputs: Outputs,
    stop: CancellationToken,
) {
    let roster = Roster::new(config.pace.interval);
    let mut watcher = Watcher { peers, config, published, outputs, roster, turn: 0 };
    while !stop.is_cancelled() {
        tokio::select! {
            () = stop.cancelled() => return,
            outcome = watcher.live() => match outcome {
                Ok(()) => tracing::info!("this node's address changed; gossip begins a new life"),
                Err(error) => {
                    tracing::error!(%error, "gossip begins a new life");
                    tokio::time::sleep(REBIRTH_PAUSE).await;
                }
            },
        }
    }
}

struct Watcher {
    peers: Peers,
    config: GossipConfig,
    published: Arc<Published>,
    outputs: Outputs,
    roster: Roster,
    /// Whose turn it is among those who are tried or told first.
    turn: usize,
}

/// What chitchat thinks at one moment.
struct Glance {
    live: BTreeSet<NodeId>,
    known: BTreeSet<ChitchatId>,
    observations: Observations,
}

impl Watcher {
    /// One life; ends well when this node's address changed.
    async fn live(&mut self) -> Result<(), GossipError> {
        let mut table = self.peers.table();
        let me = self.peers.me();
        let addr = self.own_address(&mut table, me).await;
        let generation = generation::next(self.config.generation_file.clone()).await?;
        let known = KnownIds::default();
        let chitchat = self.spawn(ChitchatId::new(me.to_string(), generation, addr), known.clone()).await?;
        tracing::info!(%generation, %addr, "gossip is up");

        let ended = chitchat.termination_watcher();
        tokio::pin!(ended);
        let news = Arc::new(Notify::new());
        let listen = |c: &mut Chitchat| {
            let news = news.clone();
            (c.subscribe_event("", move |_| news.notify_one()), c.live_nodes_watcher())
        };
        let (_listening, mut liveness) = chitchat.with_chitchat(listen).await;
        let mut rounds = tokio::time::interval(self.config.pace.interval);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let published = self.published.clone();
        let mut tell_at: Option<Instant> = None;
        loop {
            let telling = tell_at.unwrap_or_else(Instant::now);
            tokio::select! {
                result = &mut ended => {
                    let why = result.err().map_or_else(|| "without a word".to_owned(), |error| error.to_string());
                    return Err(GossipError::Ended(why));
                }
                () = published.changed() => {
                    tell_at.get_or_insert(Instant::now() + GATHER);
                    continue;
                }
                () = tokio::time::sleep_until(telling), if tell_at.is_some() => {
                    tell_at = None;
                    self.restore(&chitchat).await;
                    self.tell(&chitchat);
                }
                () = news.notified() => {}
                // Its sender lives as long as the handle.
                Ok(()) = liveness.changed() => liveness.mark_unchanged(),
                // Once nobody keeps the table, it stays as it is.
                Ok(()) = table.changed() => {
                    if table.borrow_and_update().get(&me).map(|peer| peer.addr) != Some(addr) {
                        return Ok(());
                    }
                }
                _ = rounds.tick() => {
                    // What others claim of this node could have replaced what it says itself.
                    self.restore(&chitchat).await;
                    self.seek(&chitchat);
                }
            }
            self.refresh(&chitchat, &known, me).await;
        }
    }

    /// Where this node is reached, as its peers know it too. Never, if nobody keeps the table any more: the daemon ends.
    async fn own_address(&self, table: &mut PeerTableWatch, me: NodeId) -> SocketAddr {
        loop {
            if let Some(peer) = table.borrow_and_update().get(&me) {
                return peer.addr;
            }
            if table.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    async fn spawn(&self, id: ChitchatId, known: KnownIds) -> Result<ChitchatHandle, GossipError> {
        let pace = &self.config.pace;
        let listen_addr = id.gossip_advertise_addr;
        let life = id.generation_id.to_string();
        let config = ChitchatConfig {
            chitchat_id: id,
            cluster_id: self.peers.cluster().to_string(),
            gossip_interval: pace.interval,
            listen_addr,
            seed_nodes: Vec::new(),
            failure_detector_config: FailureDetectorConfig::new(
                pace.phi,
                pace.window,
                PAUSE_MAX,
                pace.prior,
                DEAD_GRACE,
            ),
            marked_for_deletion_grace_period: WITHDRAWN_GRACE,
            catchup_callback: None,
            extra_liveness_predicate: None,
        };
        let mut values = vec![(LIFE_KEY.to_owned(), life)];
        values.extend(self.published.all());
        let transport = MemberTransport { peers: self.peers.clone(), known };
        chitchat::spawn_chitchat(config, values, &transport).await.map_err(|e| GossipError::Spawn(format!("{e:#}")))
    }

    async fn restore(&self, chitchat: &ChitchatHandle) {
        chitchat.with_chitchat(|c| self.published.restore(c.self_node_state())).await;
    }

    /// Tells some live members at once; they tell the others in their rounds.
    fn tell(&mut self, chitchat: &ChitchatHandle) {
        self.gossip_with(chitchat, TOLD_AT_ONCE, true);
    }

    /// Tries some members that are not alive, in turn.
    fn seek(&mut self, chitchat: &ChitchatHandle) {
        self.gossip_with(chitchat, SEEDS, false);
    }

    fn gossip_with(&mut self, chitchat: &ChitchatHandle, count: usize, alive: bool) {
        let me = self.peers.me();
        let members = self.outputs.members.borrow().clone();
        let some: Vec<_> =
            members.iter().filter(|(id, m)| **id != me && m.alive == alive).map(|(_, m)| m.addr).collect();
        for addr in in_turn(&some, self.turn, count) {
            // Fails only when chitchat has ended, which is noticed elsewhere.
            let _ = chitchat.gossip(addr);
        }
        self.turn = self.turn.wrapping_add(count);
    }

    /// Publishes what chitchat thinks now, as far as it concerns members.
    async fn refresh(&mut self, chitchat: &ChitchatHandle, known: &KnownIds, me: NodeId) {
        let table = self.peers.table().borrow().clone();
        let last = self.outputs.observations.borrow().clone();
        let glance = chitchat.with_chitchat(|c| glance(c, &table, &last)).await;
        *known.write().unwrap_or_else(PoisonError::into_inner) = glance.known;
        if let Some(members) = self.roster.look(Instant::now(), me, &table, &glance.live) {
            let before = self.outputs.members.borrow().clone();
            let was_dead = |id: &NodeId| before.get(id).is_some_and(|member| !member.alive);
            // Before anybody is told of it: whoever then wants to talk to one of them is not to be given an old failure.
            for (id, _) in members.iter().filter(|(id, member)| member.alive && was_dead(id)) {
                self.peers.heard_again(*id);
            }
            self.outputs.members.send_replace(Arc::new(members));
        }
        if !same(&glance.observations, &last) {
            self.outputs.observations.send_replace(Arc::new(glance.observations));
        }
    }
}

/// `count` of `all`, beginning at `turn`, around the end.
fn in_turn(all: &[SocketAddr], turn: usize, count: usize) -> impl Iterator<Item = SocketAddr> {
    let start = turn.checked_rem(all.len()).unwrap_or(0);
    all.iter().cycle().skip(start).take(count.min(all.len())).copied()
}

fn glance(chitchat: &Chitchat, table: &PeerTable, last: &Observations) -> Glance {
    let live: BTreeSet<&ChitchatId> = chitchat.live_nodes().collect();
    let mut newest: BTreeMap<NodeId, &NodeState> = BTreeMap::new();
    for (id, state) in chitchat.node_states() {
        let Some(node) = wire::node_of(id) else { continue };
        // A life that is heard of now is newer than one with a higher number that is not.
        let rank = |id: &ChitchatId| (live.contains(id), id.generation_id);
        if newest.get(&node).is_none_or(|other| rank(other.chitchat_id()) < rank(id)) {
            newest.insert(node, state);
        }
    }
    let observations = table
        .keys()
        .filter_map(|node| {
            let last = last.get(node);
            let copy = newest.get(node).map(|state| NodeObservations::copy(state, last)).or_else(|| last.cloned())?;
            Some((*node, copy))
        })
        .collect();
    Glance {
        live: live.into_iter().filter_map(wire::node_of).collect(),
        known: chitchat.node_states().keys().cloned().collect(),
        observations,
    }
}

fn same(one: &Observations, other: &Observations) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|((a, x), (b, y))| a == b && Arc::ptr_eq(x, y))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_gets_a_turn() {
        let all: Vec<SocketAddr> = (1..=5).map(|n| ([10, 0, 0, n], 7400).into()).collect();
        assert_eq!(in_turn(&all, 0, 2).collect::<Vec<_>>(), all[0..2]);
        assert_eq!(in_turn(&all, 4, 2).collect::<Vec<_>>(), [all[4], all[0]]);
        assert_eq!(in_turn(&all, 7, 9).count(), 5);
        assert_eq!(in_turn(&[], 7, 2).count(), 0);
    }
}

//! The web's picture of all nodes: gossip's members and observations, put together whenever either changes.
//!
//! In: two watch channels of gossip. Out: one of [`Observed`]. Nothing is decided here, and what does not read is left out:
//! it comes from a newer or a broken peer.

use super::clock;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use waifud_gossip::membership::{Gossip, Member, Members, NodeObservations, Observations};
use waifud_model::{
    digest::Blake3,
    ids::NodeId,
    observed::{VmObservation, VmUsage, image_key},
    time::Timestamp,
};
use waifud_web::ports::{NodeSeen, Observed, Observer};

/// The gossip key under which a node says when it started, in milliseconds since the epoch.
pub(super) const STARTED: &str = "node/started";
/// The gossip key under which a node says which build it runs.
pub(super) const VERSION: &str = "node/version";
/// The gossip key under which a node says how far it has applied the log.
pub(super) const APPLIED: &str = "node/applied";
/// Changes that come closer together than this make one picture: a node with a thousand VMs that starts is one change
/// to a person, and a thousand to gossip.
const GATHER: Duration = Duration::from_millis(30);

/// Gives the newest picture.
#[derive(Debug, Clone)]
pub(super) struct GossipObserver {
    observed: watch::Receiver<Arc<Observed>>,
}

impl Observer for GossipObserver {
    fn observed(&self) -> watch::Receiver<Arc<Observed>> {
        self.observed.clone()
    }
}

impl GossipObserver {
    /// Follows `gossip` until `stop`. Must be called inside a runtime.
    #[must_use]
    pub(super) fn start(gossip: &Gossip, stop: CancellationToken) -> Self {
        let (sender, observed) = watch::channel(Arc::default());
        tokio::spawn(follow(gossip.members(), gossip.observations(), sender, stop));
        Self { observed }
    }
}

async fn follow(
    mut members: watch::Receiver<Arc<Members>>,
    mut observations: watch::Receiver<Arc<Observations>>,
    sender: watch::Sender<Arc<Observed>>,
    stop: CancellationToken,
) {
    let mut painter = Painter::new(Anchor { instant: Instant::now(), wall: clock::now() });
    loop {
        let picture = painter.paint(&members.borrow_and_update().clone(), &observations.borrow_and_update().clone());
        sender.send_if_modified(|current| {
            let changed = **current != picture;
            if changed {
                *current = Arc::new(picture);
            }
            changed
        });
        let next = async {
            let changed = tokio::select! {
                changed = members.changed() => changed,
                changed = observations.changed() => changed,
            };
            tokio::time::sleep(GATHER).await;
            changed
        };
        tokio::select! {
            () = stop.cancelled() => return,
            changed = next => if changed.is_err() { return },
        }
    }
}

/// One moment by both clocks: the same instant always gives the same wall time, so that a picture does not change by
/// being painted again.
struct Anchor {
    instant: Instant,
    wall: Timestamp,
}

impl Anchor {
    fn wall(&self, instant: Instant) -> Timestamp {
        match instant.checked_duration_since(self.instant) {
            Some(after) => self.wall.plus(after),
            None => Timestamp(self.wall.0.saturating_sub(self.instant.duration_since(instant).as_millis() as u64)),
        }
    }
}

/// Puts pictures together. Of a node that has told nothing since the last one, that one's part is taken over: most changes are
/// of one node, and reading what a hundred others tell of their VMs would cost more than all else that happens on an idle one.
struct Painter {
    anchor: Anchor,
    last: BTreeMap<NodeId, Part>,
}

/// A node's part of a picture, and what it was made of.
struct Part {
    member: Member,
    published: Option<Arc<NodeObservations>>,
    seen: Arc<NodeSeen>,
}

impl Painter {
    const fn new(anchor: Anchor) -> Self {
        Self { anchor, last: BTreeMap::new() }
    }

    fn paint(&mut self, members: &Members, observations: &Observations) -> Observed {
        let mut last = std::mem::take(&mut self.last);
        for (id, member) in members {
            let published = observations.get(id);
            let part = last.remove(id).filter(|part| part.is_of(member, published)).unwrap_or_else(|| Part {
                member: member.clone(),
                published: published.cloned(),
                seen: Arc::new(seen(&self.anchor, member, published.map(Arc::as_ref))),
            });
            self.last.insert(*id, part);
        }
        Observed { nodes: self.last.iter().map(|(id, part)| (*id, Arc::clone(&part.seen))).collect() }
    }
}

impl Part {
    fn is_of(&self, member: &Member, published: Option<&Arc<NodeObservations>>) -> bool {
        self.member == *member && self.published.as_ref().map(Arc::as_ptr) == published.map(Arc::as_ptr)
    }
}

fn seen(anchor: &Anchor, member: &Member, published: Option<&NodeObservations>) -> NodeSeen {
    let get = |key| published.and_then(|p| p.get(key));
    let started = get(STARTED).and_then(|text| text.parse().ok()).map(Timestamp);
    let vms = published.into_iter().flat_map(|p| p.with_prefix("vm/"));
    let uses = published.into_iter().flat_map(|p| p.with_prefix(VmUsage::PREFIX));
    let images = published.into_iter().flat_map(|p| p.with_prefix("image/"));
    NodeSeen {
        alive: member.alive,
        since: started.filter(|_| member.alive).unwrap_or_else(|| anchor.wall(member.since)),
        version: get(VERSION).map(str::to_owned),
        applied: get(APPLIED).and_then(|text| text.parse().ok()),
        vms: vms.filter_map(|(key, value)| Some((VmObservation::vm_of_key(key)?, value.parse().ok()?))).collect(),
        usage: uses.flat_map(|(_, value)| VmUsage::unpack(value)).collect(),
        images: images.filter_map(|(key, _)| version_of(key)).collect::<BTreeSet<_>>(),
    }
}

/// The version that an image's key is about.
fn version_of(key: &str) -> Option<Blake3> {
    let version: Blake3 = key.strip_prefix("image/")?.parse().ok()?;
    (image_key(version) == key).then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_instant_has_one_wall_time() {
        let anchor = Anchor { instant: Instant::now() + Duration::from_secs(10), wall: Timestamp(20_000) };
        assert_eq!(anchor.wall(anchor.instant), Timestamp(20_000));
        assert_eq!(anchor.wall(anchor.instant + Duration::from_secs(1)), Timestamp(21_000));
        assert_eq!(anchor.wall(anchor.instant - Duration::from_secs(1)), Timestamp(19_000));
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_changed_is_painted_again() {
        let now = Instant::now();
        let ids = [1, 2].map(NodeId::from_random);
        let member = |alive| Member { addr: ([127, 0, 0, 1], 7443).into(), alive, since: now };
        let mut members: Members = ids.map(|id| (id, member(true))).into();
        let mut observations: Observations = ids.map(|id| (id, Arc::default())).into();
        let mut painter = Painter::new(Anchor { instant: now, wall: Timestamp(20_000) });
        let mut last = painter.paint(&members, &observations);
        let mut kept = |members: &Members, observations: &Observations| {
            let next = painter.paint(members, observations);
            let before = std::mem::replace(&mut last, next);
            ids.map(|id| last.nodes.get(&id).is_some_and(|part| Arc::ptr_eq(part, &before.nodes[&id])))
        };
        assert_eq!(kept(&members, &observations), [true, true]);
        observations.insert(ids[1], Arc::default());
        assert_eq!(kept(&members, &observations), [true, false]);
        members.insert(ids[0], member(false));
        assert_eq!(kept(&members, &observations), [false, true]);
        members.remove(&ids[1]);
        assert_eq!(kept(&members, &observations), [true, false]);
    }

    #[test]
    fn image_keys_read_back() {
        let version = Blake3::of(b"x");
        assert_eq!(version_of(&image_key(version)), Some(version));
        assert_eq!(version_of("image/x"), None);
    }
}

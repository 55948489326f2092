//! The web's picture of all nodes: gossip's members and observations, put together whenever either changes.
//!
//! In: two watch channels of gossip. Out: one of [`Observed`]. Nothing is decided here, and what does not read is left out:
//! it comes from a newer or a broken peer.

use super::clock;
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use waifud_gossip::membership::{Gossip, Member, Members, NodeObservations, Observations};
use waifud_model::{
    digest::Blake3,
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
    let anchor = Anchor { instant: Instant::now(), wall: clock::now() };
    loop {
        let picture = paint(&anchor, &members.borrow_and_update().clone(), &observations.borrow_and_update().clone());
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

fn paint(anchor: &Anchor, members: &Members, observations: &Observations) -> Observed {
    let nodes = members.iter().map(|(id, member)| (*id, seen(anchor, member, observations.get(id).map(Arc::as_ref))));
    Observed { nodes: nodes.collect() }
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

    #[test]
    fn image_keys_read_back() {
        let version = Blake3::of(b"x");
        assert_eq!(version_of(&image_key(version)), Some(version));
        assert_eq!(version_of("image/x"), None);
    }
}

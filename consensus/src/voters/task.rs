//! The execution: on the leader, one step after the other, with everything looked at again in between.

use super::plan::{Situation, Step, plan};
use crate::{
    config::VoterRule,
    database::{DatabaseError, chain},
    liveness::Liveness,
    raft::{Raft, applied::AppliedState, types::Types},
    state::{self, View},
};
use openraft::{ChangeMembers, RaftMetrics, async_runtime::WatchReceiver};
use std::{collections::BTreeSet, time::Duration};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use waifud_model::ids::NodeId;

/// A follower this close to the end of the log is ready to vote: it has the rest before its first election.
const CAUGHT_UP: u64 = 100;

/// How often everything is looked at even if nothing seems to have changed: followers' progress does not announce itself.
const LOOK: Duration = Duration::from_millis(500);

/// Several changes in a row are looked at once.
const SETTLE: Duration = Duration::from_millis(20);

/// A membership change that is not through by then is hanging on a quorum that is not there; the next look decides anew.
const STEP: Duration = Duration::from_secs(5);

/// Runs until it is aborted.
pub(crate) async fn run(
    me: NodeId,
    rule: VoterRule,
    raft: Raft,
    state: AppliedState,
    mut liveness: watch::Receiver<Liveness>,
) {
    let mut server = raft.server_metrics();
    let mut applied = state.watch();
    let mut members = Members::default();
    loop {
        let metrics = raft.metrics().borrow_watched().clone();
        if metrics.current_leader == Some(me) {
            let alive = liveness.borrow_and_update().clone();
            let index = applied.borrow_and_update().index;
            match members.at(index, &state).await {
                Ok(members) => {
                    let situation = look(me, rule, &metrics, members.clone(), &alive);
                    if let Some(step) = wrong_clock(&situation, &alive).or_else(|| plan(&situation)) {
                        execute(&raft, step).await;
                    }
                }
                Err(error) => tracing::warn!(error = chain(&error), "the node table cannot be read"),
            }
            tokio::select! {
                // In this order always, so that a simulation goes the same way every time.
                biased;
                changed = server.changed() => if changed.is_err() { return },
                Ok(()) = liveness.changed() => {}
                Ok(()) = applied.changed() => {}
                () = sleep(LOOK) => {}
            }
            sleep(SETTLE).await;
        } else if server.changed().await.is_err() {
            return;
        }
    }
}

/// Why the members could not be read.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error("the state cannot be opened")]
    Database(#[from] DatabaseError),
    #[error("the state does not read")]
    State(#[from] state::ReadError),
}

/// Who belongs to the cluster, as of an index. Read again only when the state has moved: most looks find nothing new.
#[derive(Debug, Default)]
struct Members {
    known: Option<(u64, BTreeSet<NodeId>)>,
}

impl Members {
    async fn at(&mut self, index: u64, state: &AppliedState) -> Result<&BTreeSet<NodeId>, LookError> {
        let known = match self.known.take().filter(|(at, _)| *at == index) {
            Some(known) => known,
            None => {
                let read = state.readers().run(|db| Ok::<_, LookError>(View::new(db).nodes()?));
                (index, read.await?.into_iter().map(|node| node.id).collect())
            }
        };
        Ok(&self.known.insert(known).1)
    }
}

fn look(
    me: NodeId,
    rule: VoterRule,
    metrics: &RaftMetrics<Types>,
    members: BTreeSet<NodeId>,
    liveness: &Liveness,
) -> Situation {
    let membership = metrics.membership_config.membership();
    let joint = membership.get_joint_config();
    let now = Instant::now();
    let last = metrics.last_log_index.unwrap_or(0);
    let near = |matched: u64| matched + CAUGHT_UP >= last;
    let matched = metrics.replication.iter().flatten();
    let mut alive = liveness.alive.clone();
    alive.insert(me);
    Situation {
        me,
        members,
        voters: joint.last().cloned().unwrap_or_default(),
        unfinished: joint.len() > 1,
        learners: membership.learner_ids().collect(),
        alive,
        long_dead: liveness
            .dead_since
            .iter()
            .filter(|(_, since)| now.saturating_duration_since(**since) >= rule.replace_dead_after)
            .map(|(node, _)| *node)
            .collect(),
        caught_up: matched.filter(|(_, id)| id.is_some_and(|id| near(id.index()))).map(|(node, _)| *node).collect(),
    }
}

/// A leader that may not stamp commands is of no use.
fn wrong_clock(now: &Situation, liveness: &Liveness) -> Option<Step> {
    let heir = now.voters.iter().find(|node| **node != now.me && now.alive.contains(node))?;
    liveness.clock_is_wrong().then_some(Step::HandOver(*heir))
}

async fn execute(raft: &Raft, step: Step) {
    tracing::info!(?step, "changing the membership");
    let change = match &step {
        Step::HandOver(heir) => {
            if let Err(error) = raft.trigger().transfer_leader(*heir).await {
                tracing::warn!(%error, "leadership was not handed over");
            }
            return;
        }
        Step::AddLearners(nodes) => ChangeMembers::AddNodes(nodes.iter().map(|node| (*node, ())).collect()),
        Step::SetVoters(nodes) => ChangeMembers::ReplaceAllVoters(nodes.clone()),
        Step::Remove(nodes) => ChangeMembers::RemoveNodes(nodes.clone()),
    };
    // Former voters stay as learners; a later step removes those that have left.
    match timeout(STEP, raft.change_membership(change, true)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::warn!(?step, %error, "the membership did not change"),
        Err(_) => tracing::warn!(?step, "the membership change is still not through"),
    }
}

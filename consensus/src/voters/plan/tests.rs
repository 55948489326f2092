//! Tests of who votes: seats by size, each situation's next step, and that the steps end.

use super::*;

fn node(n: u64) -> NodeId {
    NodeId::from_random(n)
}

fn set(nodes: &[u64]) -> BTreeSet<NodeId> {
    nodes.iter().copied().map(node).collect()
}

/// Node 1 leads; everybody is alive, and every learner is caught up.
fn healthy(members: &[u64], voters: &[u64], learners: &[u64]) -> Situation {
    Situation {
        me: node(1),
        members: set(members),
        voters: set(voters),
        unfinished: false,
        learners: set(learners),
        alive: &(&set(members) | &set(voters)) | &set(learners),
        long_dead: set(&[]),
        caught_up: set(learners),
    }
}

fn dead(mut now: Situation, nodes: &[u64]) -> Situation {
    now.alive = &now.alive - &set(nodes);
    now
}

fn long_dead(now: Situation, nodes: &[u64]) -> Situation {
    let mut now = dead(now, nodes);
    now.long_dead = set(nodes);
    now
}

fn behind(mut now: Situation, nodes: &[u64]) -> Situation {
    now.caught_up = &now.caught_up - &set(nodes);
    now
}

#[test]
fn seats() {
    assert_eq!([0, 1, 2, 3, 4, 5, 6, 99].map(target), [1, 1, 1, 3, 3, 5, 5, 5]);
}

#[test]
fn each_situation_has_one_next_step() {
    let voters = |nodes: &[u64]| Some(Step::SetVoters(set(nodes)));
    let cases = [
        ("before the first command", healthy(&[], &[1], &[]), None),
        ("one node", healthy(&[1], &[1], &[]), None),
        ("a node joined", healthy(&[1, 2], &[1], &[]), Some(Step::AddLearners(set(&[2])))),
        ("two nodes have one voter", healthy(&[1, 2], &[1], &[2]), None),
        ("several joined", healthy(&[1, 2, 3, 4], &[1], &[2]), Some(Step::AddLearners(set(&[3, 4])))),
        ("three nodes have three voters", healthy(&[1, 2, 3], &[1], &[2, 3]), voters(&[1, 2, 3])),
        ("two voters are worse than one", behind(healthy(&[1, 2, 3], &[1], &[2, 3]), &[3]), None),
        ("nobody is ready", behind(healthy(&[1, 2, 3], &[1], &[2, 3]), &[2, 3]), None),
        ("a dead learner is not promoted", dead(healthy(&[1, 2, 3], &[1], &[2, 3]), &[2]), None),
        ("a fourth node only follows", healthy(&[1, 2, 3, 4], &[1, 2, 3], &[4]), None),
        ("five nodes have five voters", healthy(&[1, 2, 3, 4, 5], &[1, 2, 3], &[4, 5]), voters(&[1, 2, 3, 4, 5])),
        ("four are no better than three", dead(healthy(&[1, 2, 3, 4, 5], &[1, 2, 3], &[4, 5]), &[4]), None),
        ("more nodes only follow", healthy(&[1, 2, 3, 4, 5, 6, 7], &[1, 2, 3, 4, 5], &[6, 7]), None),
        ("a voter just died", dead(healthy(&[1, 2, 3, 4], &[1, 2, 3], &[4]), &[3]), None),
        ("a voter has long been dead", long_dead(healthy(&[1, 2, 3, 4], &[1, 2, 3], &[4]), &[3]), voters(&[1, 2, 4])),
        ("and nobody can take its seat", long_dead(healthy(&[1, 2, 3], &[1, 2, 3], &[]), &[3]), None),
        ("or nobody is ready to", behind(long_dead(healthy(&[1, 2, 3, 4], &[1, 2, 3], &[4]), &[3]), &[4]), None),
        (
            "two have, and one can be replaced",
            long_dead(healthy(&[1, 2, 3, 4, 5, 6], &[1, 2, 3, 4, 5], &[6]), &[4, 5]),
            voters(&[1, 2, 3, 4, 6]),
        ),
        ("the leader does not think itself dead", long_dead(healthy(&[1, 2, 3, 4], &[1, 2, 3], &[4]), &[1]), None),
        ("a voter was removed, two stay", healthy(&[1, 2], &[1, 2, 3], &[]), voters(&[1])),
        ("a voter was removed, another takes the seat", healthy(&[1, 2, 4], &[1, 2, 3], &[4]), voters(&[1, 2, 4])),
        ("a voter was removed, nobody is ready", behind(healthy(&[1, 2, 4], &[1, 2, 3], &[4]), &[4]), voters(&[1, 2])),
        ("and then somebody is", healthy(&[1, 2, 4], &[1, 2], &[3, 4]), voters(&[1, 2, 4])),
        ("fewer nodes, fewer voters", healthy(&[1, 2, 3, 4], &[1, 2, 3, 4, 5], &[]), voters(&[1, 2, 3])),
        ("the living keep their seats", dead(healthy(&[1, 2, 3, 4], &[1, 2, 3, 4, 5], &[]), &[2]), voters(&[1, 3, 4])),
        ("a removed learner goes", healthy(&[1, 2], &[1], &[2, 3]), Some(Step::Remove(set(&[3])))),
        ("the leader was removed", healthy(&[2, 3, 4], &[1, 2, 3], &[4]), Some(Step::HandOver(node(2)))),
        (
            "and the first heir is dead",
            dead(healthy(&[2, 3, 4], &[1, 2, 3], &[4]), &[2]),
            Some(Step::HandOver(node(3))),
        ),
        ("the only voter was removed", healthy(&[2], &[1], &[2]), voters(&[1, 2])),
        ("and has an heir now", healthy(&[2], &[1, 2], &[]), Some(Step::HandOver(node(2)))),
        ("and has none", behind(healthy(&[2], &[1], &[2]), &[2]), None),
    ];
    for (what, now, expected) in cases {
        assert_eq!(plan(&now), expected, "{what}: {now:?}");
    }
}

#[test]
fn an_interrupted_change_is_finished_first() {
    let now = Situation { unfinished: true, ..healthy(&[1, 2, 3, 4], &[1, 2, 3], &[]) };
    assert_eq!(plan(&now), Some(Step::SetVoters(set(&[1, 2, 3]))));
    let now = Situation { unfinished: true, ..healthy(&[2], &[1], &[]) };
    assert_eq!(plan(&now), Some(Step::SetVoters(set(&[1]))), "whoever has left or come meanwhile");
}

/// Carries a step out as Raft would.
fn after(mut now: Situation, step: &Step) -> Situation {
    match step {
        Step::AddLearners(nodes) => now.learners.extend(nodes),
        Step::SetVoters(nodes) => {
            now.learners = &(&now.learners | &now.voters) - nodes;
            now.voters.clone_from(nodes);
        }
        Step::HandOver(heir) => now.me = *heir,
        Step::Remove(nodes) => now.learners = &now.learners - nodes,
    }
    now.caught_up = now.learners.clone();
    now.unfinished = false;
    now
}

proptest::proptest! {
    /// From anywhere, with everybody healthy, the steps end, and where they end there are as many voters as there should be.
    #[test]
    fn the_steps_lead_to_the_target(
        members in proptest::collection::btree_set(1_u64..9, 1..8),
        voters in proptest::collection::btree_set(1_u64..9, 1..6),
        learners in proptest::collection::btree_set(1_u64..9, 0..8),
        unfinished: bool,
    ) {
        let list = |nodes: &BTreeSet<u64>| nodes.iter().copied().collect::<Vec<_>>();
        let followers: Vec<_> = learners.difference(&voters).copied().collect();
        let mut now = healthy(&list(&members), &list(&voters), &followers);
        now.alive = (1..9).map(node).collect();
        now.me = *now.voters.first().unwrap();
        now.unfinished = unfinished;
        let mut steps = 0;
        while let Some(step) = plan(&now) {
            if let Step::SetVoters(voters) = &step {
                // A change never takes the votes of all those that vote now.
                proptest::prop_assert!(voters.intersection(&now.voters).next().is_some(), "{now:?} {step:?}");
            }
            now = after(now, &step);
            steps += 1;
            proptest::prop_assert!(steps < 20, "no end: {now:?}");
        }
        proptest::prop_assert_eq!(now.voters.len(), target(members.len()));
        proptest::prop_assert_eq!(&now.voters | &now.learners, now.members);
    }
}

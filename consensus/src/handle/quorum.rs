//! Which of the two noes: pure counting of voters.

use std::collections::BTreeSet;
use waifud_model::ids::NodeId;

/// Too few voters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Minority {
    pub(super) alive: u32,
    pub(super) voters: u32,
}

/// The first set of voters that has no majority among those for whom `alive` holds. While one set of voters replaces
/// another there are two, and both must agree to everything.
pub(super) fn minority(voters: &[BTreeSet<NodeId>], alive: impl Fn(&NodeId) -> bool) -> Option<Minority> {
    voters.iter().find_map(|set| {
        let count = set.iter().filter(|node| alive(node)).count();
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        (count * 2 <= set.len() && !set.is_empty())
            .then(|| Minority { alive: number(count), voters: number(set.len()) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(nodes: &[u64]) -> BTreeSet<NodeId> {
        nodes.iter().copied().map(NodeId::from_random).collect()
    }

    #[test]
    fn a_majority_of_every_set_is_needed() {
        let check = |voters: &[&[u64]], alive: &[u64], expected: Option<(u32, u32)>| {
            let sets: Vec<_> = voters.iter().map(|nodes| set(nodes)).collect();
            let up = set(alive);
            let found = minority(&sets, |node| up.contains(node)).map(|m| (m.alive, m.voters));
            assert_eq!(found, expected, "{voters:?} {alive:?}");
        };
        check(&[], &[], None);
        check(&[&[1]], &[1], None);
        check(&[&[1]], &[], Some((0, 1)));
        check(&[&[1, 2]], &[1], Some((1, 2)));
        check(&[&[1, 2, 3]], &[1, 3], None);
        check(&[&[1, 2, 3]], &[3, 9], Some((1, 3)));
        check(&[&[1, 2, 3, 4]], &[1, 2], Some((2, 4)));
        check(&[&[1, 2, 3], &[3, 4, 5]], &[1, 2, 3], Some((1, 3)));
        check(&[&[1, 2, 3], &[3, 4, 5]], &[2, 3, 4], None);
    }
}

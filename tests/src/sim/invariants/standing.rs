//! No node gives up: nothing that happens here is a reason for consensus to halt.

use super::{Invariant, Moment};

/// What a node says of itself.
#[derive(Debug)]
pub(super) struct Standing;

impl Invariant for Standing {
    fn name(&self) -> &'static str {
        "no node halts"
    }

    fn check(&mut self, moment: &Moment<'_>) -> Result<(), String> {
        let halted = |replica: &super::Replica| Some((replica.node, replica.halted.clone()?));
        match moment.replicas.iter().find_map(halted) {
            Some((node, why)) => Err(format!("{node} takes no part any more: {why}")),
            None => Ok(()),
        }
    }
}

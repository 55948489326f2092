//! Replicas that are equally far are equal, now and whenever they were.

use super::{Invariant, Moment};
use std::collections::BTreeMap;
use waifud_model::{digest::Blake3, ids::NodeId};

/// The digest at each index, and who had it first.
#[derive(Debug, Default)]
pub(super) struct Agreement(BTreeMap<u64, (Blake3, NodeId)>);

impl Invariant for Agreement {
    fn name(&self) -> &'static str {
        "equal logs give equal states"
    }

    fn check(&mut self, moment: &Moment<'_>) -> Result<(), String> {
        for replica in moment.replicas {
            let (digest, first) = *self.0.entry(replica.index).or_insert((replica.digest, replica.node));
            if digest != replica.digest {
                let index = replica.index;
                return Err(format!("at index {index}, {} is not as {first} is or was", replica.node));
            }
        }
        Ok(())
    }
}

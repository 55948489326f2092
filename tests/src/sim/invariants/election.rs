//! A term has one leader at most.

use super::{Invariant, Moment};
use std::collections::BTreeMap;
use waifud_model::ids::NodeId;

/// Who led which term.
#[derive(Debug, Default)]
pub(super) struct Election(BTreeMap<u64, NodeId>);

impl Invariant for Election {
    fn name(&self) -> &'static str {
        "one leader a term"
    }

    fn check(&mut self, moment: &Moment<'_>) -> Result<(), String> {
        for replica in moment.replicas {
            let Some(term) = replica.leads else { continue };
            let first = *self.0.entry(term).or_insert(replica.node);
            if first != replica.node {
                return Err(format!("{first} and {} both led term {term}", replica.node));
            }
        }
        Ok(())
    }
}

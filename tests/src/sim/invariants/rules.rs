//! The rules of every state hold in every replica.

use super::{Invariant, Moment};
use waifud_model::invariant::{check, overbooked};

/// They are the model's.
#[derive(Debug)]
pub(super) struct Rules;

impl Invariant for Rules {
    fn name(&self) -> &'static str {
        "the rules of every state"
    }

    fn check(&mut self, moment: &Moment<'_>) -> Result<(), String> {
        for replica in moment.replicas {
            if let Some(first) = check(&replica.state).into_iter().chain(overbooked(&replica.state)).next() {
                return Err(format!("on {} at index {}: {first}", replica.node, replica.index));
            }
        }
        Ok(())
    }
}

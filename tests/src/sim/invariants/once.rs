//! A request has at most one effect, however often it was tried; a request that was certainly not carried out has none;
//! and nothing happens that nobody asked for.

use super::{Invariant, Moment};
use crate::sim::oracle::Fate;
use std::collections::BTreeMap;
use waifud_model::ids::VmId;

/// The VM that each request made.
#[derive(Debug, Default)]
pub(super) struct Once(BTreeMap<usize, VmId>);

impl Invariant for Once {
    fn name(&self) -> &'static str {
        "a request has one effect"
    }

    fn check(&mut self, moment: &Moment<'_>) -> Result<(), String> {
        if let Some(first) = moment.oracle.contradictions.first() {
            return Err(first.clone());
        }
        for vm in moment.replicas.iter().flat_map(|replica| replica.state.vms.values()) {
            let Some(minted) = moment.oracle.minted.get(&vm.id) else {
                return Err(format!("nobody asked for VM {}", vm.id));
            };
            if minted.fate == Fate::Never {
                return Err(format!("VM {} is there, although its creation was certainly not written", vm.id));
            }
            let key = &moment.oracle.requests[minted.request].key.key;
            let first = *self.0.entry(minted.request).or_insert(vm.id);
            if first != vm.id {
                return Err(format!("request {key} made VM {first} and VM {}", vm.id));
            }
            if vm.node != minted.node {
                return Err(format!("VM {} was placed on {} and is on {}", vm.id, minted.node, vm.node));
            }
        }
        Ok(())
    }
}

//! Of a VM that is gone nothing is left: its address may be another's by now.

use super::{Invariant, Moment};
use std::collections::BTreeMap;
use waifud_model::ids::VmId;

/// The last index at which each VM was there.
#[derive(Debug, Default)]
pub(super) struct Gone(BTreeMap<VmId, u64>);

impl Invariant for Gone {
    fn name(&self) -> &'static str {
        "nothing is left of what is gone"
    }

    fn check(&mut self, moment: &Moment<'_>) -> Result<(), String> {
        for replica in moment.replicas {
            for vm in replica.state.vms.keys() {
                let last = self.0.entry(*vm).or_default();
                *last = replica.index.max(*last);
            }
        }
        for replica in moment.replicas {
            let vms = &replica.state.vms;
            let gone = self.0.iter().filter(|(vm, last)| **last < replica.index && !vms.contains_key(vm));
            for (vm, _) in gone {
                if let Some(host) = moment.hosts.iter().find(|host| host.has(*vm)) {
                    let (node, index) = (replica.node, replica.index);
                    return Err(format!(
                        "on {node} VM {vm} is gone at index {index}, but {} has some of it",
                        host.name
                    ));
                }
            }
        }
        Ok(())
    }
}

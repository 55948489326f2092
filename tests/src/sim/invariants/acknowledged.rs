//! What was acknowledged is there: on every replica that is far enough, for as long as nobody asked for something else.
//! What is gone stays gone.

use super::{Invariant, Moment, Replica};
use crate::sim::oracle::Oracle;
use std::collections::BTreeMap;
use waifud_model::{
    ids::VmId,
    vm::{Phase, Vm},
};

/// What was seen before.
#[derive(Debug, Default)]
pub(super) struct Acknowledged {
    /// The last index at which a VM was there.
    seen: BTreeMap<VmId, u64>,
    /// The first index after that at which it was gone.
    gone: BTreeMap<VmId, u64>,
}

impl Invariant for Acknowledged {
    fn name(&self) -> &'static str {
        "what was acknowledged is there"
    }

    fn check(&mut self, moment: &Moment<'_>) -> Result<(), String> {
        for replica in moment.replicas {
            let problem = creates(replica, moment.oracle)
                .or_else(|| deletes(replica, moment.oracle))
                .or_else(|| changes(replica, moment.oracle))
                .or_else(|| templates(replica, moment.oracle))
                .or_else(|| self.resurrected(replica));
            if let Some(problem) = problem {
                return Err(format!("on {} at index {}: {problem}", replica.node, replica.index));
            }
        }
        Ok(())
    }
}

fn creates(replica: &Replica, oracle: &Oracle) -> Option<String> {
    oracle.created().filter(|(index, _)| *index <= replica.index).find_map(|(index, told)| {
        let same = |vm: &Vm| {
            (vm.node, vm.ip, vm.mac, vm.created_at) == (told.node, told.ip, told.mac, told.created_at)
                && (vm.name == told.name || oracle.renamed.contains(&vm.id))
        };
        match replica.state.vms.get(&told.id) {
            Some(vm) if same(vm) => None,
            Some(vm) => Some(format!("acknowledged at {index} as {told:?}, it is {vm:?}")),
            None if oracle.deletes.contains_key(&told.id) => None,
            None => Some(format!("VM {} was acknowledged at {index} and never deleted, but is not there", told.id)),
        }
    })
}

fn deletes(replica: &Replica, oracle: &Oracle) -> Option<String> {
    oracle.deletes.iter().find_map(|(vm, accepted)| {
        let index = accepted.filter(|index| *index <= replica.index)?;
        let record = replica.state.vms.get(vm)?;
        (record.phase == Phase::Live).then(|| format!("VM {vm} was to be deleted from {index} on, but is live"))
    })
}

/// Every change makes a generation; a deletion does not, and leaves all else as it is.
fn changes(replica: &Replica, oracle: &Oracle) -> Option<String> {
    oracle.changes.iter().filter(|(_, (index, _))| *index <= replica.index).find_map(|(vm, (index, told))| {
        // Its absence is the affair of creates.
        let record = replica.state.vms.get(vm)?;
        let lost = record.generation < told.generation;
        let same = Vm { phase: told.phase, ..record.clone() } == *told;
        let changed = record.generation == told.generation && !same;
        (lost || changed).then(|| format!("at {index} VM {vm} became {told:?}, it is {record:?}"))
    })
}

fn templates(replica: &Replica, oracle: &Oracle) -> Option<String> {
    oracle.templates().filter(|(index, _)| *index <= replica.index).find_map(|(index, told)| {
        let there = replica.state.templates.contains_key(&(told.template.clone(), told.version));
        (!there).then(|| format!("{}@{} was acknowledged at {index}, but is not there", told.template, told.version))
    })
}

impl Acknowledged {
    fn resurrected(&mut self, replica: &Replica) -> Option<String> {
        let vms = &replica.state.vms;
        let index = replica.index;
        if let Some((vm, gone)) = self.gone.iter().find(|(vm, gone)| vms.contains_key(vm) && index >= **gone) {
            return Some(format!("VM {vm} was gone at {gone} and is there again"));
        }
        for vm in vms.keys() {
            let last = self.seen.entry(*vm).or_insert(index);
            *last = index.max(*last);
        }
        for (vm, _) in self.seen.iter().filter(|(vm, last)| !vms.contains_key(vm) && index > **last) {
            let first = self.gone.entry(*vm).or_insert(index);
            *first = index.min(*first);
        }
        None
    }
}

//! No address or MAC belongs to two VMs at once: not in two replicas, not between two looks, not on a network. Names, which
//! can change between two looks, are the affair of the rules of every state.

use super::{Invariant, Moment};
use std::{collections::BTreeMap, net::Ipv4Addr};
use waifud_model::{
    ids::VmId,
    vm::{Mac, Vm},
};

/// When each VM that was seen was there.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    lives: BTreeMap<VmId, Life>,
}

#[derive(Debug)]
struct Life {
    ip: Ipv4Addr,
    mac: Mac,
    /// The first and the last index at which it was there.
    from: u64,
    to: u64,
}

impl Invariant for Addresses {
    fn name(&self) -> &'static str {
        "nothing is handed out twice"
    }

    fn check(&mut self, moment: &Moment<'_>) -> Result<(), String> {
        for replica in moment.replicas {
            for vm in replica.state.vms.values() {
                self.see(vm, replica.index)?;
            }
        }
        domains(moment)
    }
}

impl Addresses {
    fn see(&mut self, vm: &Vm, index: u64) -> Result<(), String> {
        let fresh = || Life { ip: vm.ip, mac: vm.mac, from: index, to: index };
        let life = self.lives.entry(vm.id).or_insert_with(fresh);
        if (life.ip, life.mac) != (vm.ip, vm.mac) {
            return Err(format!("VM {} was {life:?} and is {vm:?}", vm.id));
        }
        (life.from, life.to) = (life.from.min(index), life.to.max(index));
        let (from, to) = (life.from, life.to);
        let shares = |other: &Life| other.ip == vm.ip || other.mac == vm.mac;
        let other = self
            .lives
            .iter()
            .find(|(id, other)| **id != vm.id && shares(other) && other.from <= to && from <= other.to);
        other.map_or(Ok(()), |(id, other)| Err(format!("VM {id} ({other:?}) and VM {} share something", vm.id)))
    }
}

/// What guests really use: a domain keeps its address until it is undefined, so that one given away too early shows here.
fn domains(moment: &Moment<'_>) -> Result<(), String> {
    let mut holders: BTreeMap<Ipv4Addr, VmId> = BTreeMap::new();
    for host in moment.hosts {
        for vm in moment.oracle.minted.keys() {
            let Some(spec) = host.hypervisor.spec(*vm) else { continue };
            if let Some(other) = holders.insert(spec.nic.ip, *vm)
                && other != *vm
            {
                return Err(format!("the domains of VM {other} and VM {vm} both have {}", spec.nic.ip));
            }
        }
    }
    Ok(())
}

//! A node makes and runs domains of its own VMs only.

use super::{Invariant, Moment};

/// The owner was chosen when the VM's id was minted, and no command moves it.
#[derive(Debug)]
pub(super) struct Owners;

impl Invariant for Owners {
    fn name(&self) -> &'static str {
        "only the owner has a VM's domain"
    }

    fn check(&mut self, moment: &Moment<'_>) -> Result<(), String> {
        for host in moment.hosts {
            for (vm, minted) in &moment.oracle.minted {
                if minted.node != host.id && host.has(*vm) {
                    return Err(format!("{} has something of VM {vm}, which belongs to {}", host.name, minted.node));
                }
            }
            if let Some(vm) = host.hypervisor.active().iter().find(|vm| !moment.oracle.minted.contains_key(vm)) {
                return Err(format!("{} runs VM {vm}, for which nobody asked", host.name));
            }
        }
        Ok(())
    }
}

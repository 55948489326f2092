//! By what guests were met: an address that was allocated is a promise, and people want to know whether anybody lives there.
//!
//! In: leases and neighbours of the guests' network, what agents in guests tell, who asked for metadata. Out: the board's
//! sightings, each of the run that the guest is in now. Asks often while a guest has just started, seldom later, and not at
//! all when there is nobody left to be met. Errors are not told: the same network and hypervisor are used by every task, whose
//! errors are.

use super::task::Shared;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::time::{Instant, MissedTickBehavior};
use waifud_model::{ids::VmId, observed::Sighting};

/// A person may be waiting for a guest that has just started.
const EAGER: Duration = Duration::from_secs(1);
/// Guests that have not been met for minutes may never be: many have no agent.
const PATIENT: Duration = Duration::from_secs(30);
/// For how long after a start it is asked often. A full distribution boots in this, emulated.
const FRESH: Duration = Duration::from_mins(3);

/// Goes on until it is dropped.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut fresh_until: BTreeMap<VmId, Instant> = BTreeMap::new();
    let mut patient_at = Instant::now();
    let mut tick = tokio::time::interval(EAGER);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let strangers = shared.board.strangers();
        let now = Instant::now();
        fresh_until.retain(|vm, _| strangers.contains_key(vm));
        let fresh = strangers.keys().filter(|vm| *fresh_until.entry(**vm).or_insert(now + FRESH) > now).count();
        if strangers.is_empty() || (fresh == 0 && now < patient_at) {
            continue;
        }
        patient_at = now + PATIENT;
        if strangers.values().any(|met| !met.has(Sighting::Lease) || !met.has(Sighting::Arp)) {
            meet_on_network(&shared).await;
        }
        for (vm, met) in strangers {
            let eager = fresh_until.get(&vm).is_some_and(|until| *until > now);
            if !met.has(Sighting::Agent) && (eager || fresh == 0) {
                meet_by_agent(&shared, vm).await;
            }
        }
    }
}

async fn meet_on_network(shared: &Shared) {
    match shared.hands.network.met().await {
        Ok(all) => {
            for met in all {
                if let Some(vm) = shared.hands.reserved.whose(met.ip) {
                    shared.board.meet(vm, met.by, Some(met.at));
                }
            }
        }
        Err(error) => tracing::debug!(%error, "who was met on the guests' network cannot be told"),
    }
}

async fn meet_by_agent(shared: &Shared, vm: VmId) {
    let Some(expected) = shared.hands.reserved.address(vm) else { return };
    match shared.hands.hypervisor.agent_addresses(vm).await {
        Ok(told) => {
            if told.contains(&expected) {
                shared.board.meet(vm, Sighting::Agent, None);
            }
        }
        Err(error) => tracing::debug!(%vm, %error, "the agent in a guest cannot be asked"),
    }
}

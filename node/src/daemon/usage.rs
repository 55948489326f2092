//! What this node's guests use, told to all nodes every half minute.
//!
//! In: the hypervisor's bulk answer. Out: a few gossip values with all guests in them. A guest's first figure for its CPUs
//! comes with its second measurement. While the hypervisor does not answer nothing is told: what was said before is withdrawn.

use crate::hypervisor::{Hypervisor, Usage};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use waifud_gossip::membership::Gossip;
use waifud_model::{ids::VmId, observed::VmUsage};

/// Between two measurements: each is one question to libvirt, and news for every node.
const EVERY: Duration = Duration::from_secs(30);

/// Measures and tells until `stop`.
pub(super) async fn tell(hypervisor: Arc<dyn Hypervisor>, gossip: Gossip, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut meter = Meter::default();
    let mut told = 0;
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let used = match hypervisor.usage().await {
            Ok(used) => meter.read(Instant::now(), &used),
            Err(error) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "what guests use cannot be measured");
                Vec::new()
            }
        };
        let values = VmUsage::pack(&used);
        for key in values.len()..told {
            gossip.withdraw(&VmUsage::key(key));
        }
        told = values.len();
        for (n, value) in values.into_iter().enumerate() {
            if let Err(error) = gossip.publish(VmUsage::key(n), value) {
                tracing::warn!(%error, "other nodes are not told what guests use");
            }
        }
    }
}

/// Makes shares of CPU times: of each guest, what was measured last, and when.
#[derive(Debug, Default)]
struct Meter(HashMap<VmId, (Instant, u64)>);

impl Meter {
    /// Takes in a measurement of `now`, and gives what it tells. Guests that are not in it are forgotten.
    fn read(&mut self, now: Instant, used: &[Usage]) -> Vec<(VmId, VmUsage)> {
        let before = std::mem::take(&mut self.0);
        used.iter()
            .map(|usage| {
                self.0.insert(usage.vm, (now, usage.cpu_ns));
                let cpu = before.get(&usage.vm).and_then(|(at, cpu_ns)| share(usage, *cpu_ns, now - *at));
                (usage.vm, VmUsage { cpu, memory: usage.memory })
            })
            .collect()
    }
}

/// In percent of all its CPUs. None if it was started anew meanwhile, which begins at nothing again.
fn share(usage: &Usage, before_ns: u64, span: Duration) -> Option<u8> {
    let ran = u128::from(usage.cpu_ns.checked_sub(before_ns)?);
    let could = span.as_nanos() * u128::from(usage.cpus);
    // CPUs and clock are not read in one moment: a busy guest may seem to have had more than there was.
    let percent = (ran * 100 + could / 2).checked_div(could)?.min(100);
    u8::try_from(percent).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use waifud_model::size::ByteSize;

    #[test]
    fn shares_are_of_all_cpus_between_two_measurements_of_one_life() {
        let vm = VmId::from_random([1; 16]);
        let used =
            |seconds: f64, cpus| Usage { vm, cpu_ns: (seconds * 1e9) as u64, cpus, memory: Some(ByteSize::mib(100)) };
        let mut meter = Meter::default();
        let begin = Instant::now();
        let mut read = |after: u64, usage: &[Usage]| {
            let read = meter.read(begin + Duration::from_secs(after), usage);
            read.first().map(|(_, usage)| usage.cpu)
        };
        assert_eq!(read(0, &[used(50.0, 2)]), Some(None), "one measurement tells no share");
        assert_eq!(read(30, &[used(65.0, 2)]), Some(Some(25)));
        assert_eq!(read(60, &[used(65.1, 2)]), Some(Some(0)));
        assert_eq!(read(90, &[used(200.0, 2)]), Some(Some(100)), "more than there is");
        assert_eq!(read(120, &[used(3.0, 2)]), Some(None), "started anew");
        assert_eq!(read(150, &[used(33.0, 1)]), Some(Some(100)), "of one CPU");
        assert_eq!(read(180, &[]), None);
        assert_eq!(read(210, &[used(34.0, 1)]), Some(None), "it was away");
    }
}

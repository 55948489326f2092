//! What running domains use, asked in bulk.
//!
//! Names of statistics are those of `virConnectGetAllDomainStats`.

use super::{
    ffi::{Record, statistics},
    session::{Result, Session, failed, vm_of},
};
use crate::hypervisor::Usage;
use std::time::{Duration, SystemTime};
use virt::sys;
use waifud_model::size::ByteSize;

/// What a guest told of its memory longer ago says nothing any more: its driver tells every ten seconds.
const TOLD_WITHIN: Duration = Duration::from_secs(60);

impl Session {
    pub(super) fn usage(&self) -> Result<Vec<Usage>> {
        let what = sys::VIR_DOMAIN_STATS_VCPU | sys::VIR_DOMAIN_STATS_BALLOON;
        // A domain in the middle of a long job would hold up everybody's answer.
        let nowait = if self.mock { 0 } else { sys::VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT };
        let flags = sys::VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE | nowait;
        let records = statistics(&self.connection, what, flags).map_err(|e| failed("measure the domains", &e))?;
        let now = SystemTime::now();
        let mut used = Vec::new();
        for record in records {
            let Some(vm) = vm_of(record.uuid) else { continue };
            // A CPU that is not plugged in has no time.
            let most = record.get("vcpu.maximum").unwrap_or(0);
            let times: Vec<u64> = (0..most).filter_map(|n| record.get(&format!("vcpu.{n}.time"))).collect();
            if times.is_empty() || self.remembered(vm, &record.handle)?.is_none() {
                continue;
            }
            let cpus = u32::try_from(times.len()).unwrap_or(u32::MAX);
            used.push(Usage { vm, cpu_ns: times.iter().sum(), cpus, memory: memory(&record, now) });
        }
        used.sort_by_key(|usage| usage.vm);
        Ok(used)
    }
}

/// What the guest's kernel could not give to another program (the rest is its `MemAvailable`), if it told lately.
fn memory(record: &Record, now: SystemTime) -> Option<ByteSize> {
    let told = SystemTime::UNIX_EPOCH + Duration::from_secs(record.get("balloon.last-update")?);
    // A moment that is still to come was told before the clock was set back.
    let fresh = now.duration_since(told).map_or(true, |age| age <= TOLD_WITHIN);
    let kib = record.get("balloon.available")?.checked_sub(record.get("balloon.usable")?)?;
    fresh.then(|| ByteSize::bytes(kib.saturating_mul(1024)))
}

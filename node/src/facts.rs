//! What this machine can give to VMs, and how it can run them.
//!
//! In: `/proc`, the data directory's file system, the caps of the configuration. Out: a [`Capacity`] for the replicated
//! state, and the [`Accel`] guests are defined with. `decide` and the readers of `/proc` are pure; only [`detect`] looks.

use crate::{
    config::{self, Config, NodeConfig},
    hypervisor::Accel,
};
use nix::sys::statvfs::statvfs;
use std::{
    fs, io,
    path::{Path, PathBuf},
};
use waifud_model::{
    name::BridgeName,
    node::{Arch, Capacity},
    size::ByteSize,
};

/// Kept back for the host: its kernel, libvirt, waifud, and QEMU's own needs beside the guests' memory.
const HOST_MEMORY: ByteSize = ByteSize::gib(1);
/// Virtual CPUs promised for each hardware thread: guests rarely all compute at once, and a late one is only slow.
const CPU_OVERCOMMIT: u32 = 4;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// What may be promised to VMs.
    pub capacity: Capacity,
    /// How guests run.
    pub accel: Accel,
}

/// Why this machine cannot be a node.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    /// Something that every Linux has is missing.
    #[error("{path} cannot be read")]
    Read {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It does not look as it does on every Linux.
    #[error("{path} does not tell {what}")]
    Missing {
        /// Where it should be.
        path: PathBuf,
        /// What.
        what: &'static str,
    },
    /// Guests of this instruction set are not known.
    #[error("guests cannot run on {0}: x86_64 and aarch64 are known")]
    Arch(&'static str),
    /// KVM was demanded.
    #[error("[node] accel is kvm, but {0}; set it to auto or tcg to emulate guests, which is many times slower")]
    NoKvm(NoKvm),
}

/// Why guests cannot run on the CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoKvm {
    /// The CPU does not say that it can. On nested hosts `/dev/kvm` may be there all the same, and guests never boot.
    #[error("the CPU has no virtualisation (no vmx or svm in /proc/cpuinfo)")]
    Cpu,
    /// The kernel does not offer it.
    #[error("/dev/kvm cannot be opened")]
    Device,
}

/// Looks at this machine.
///
/// # Errors
/// If something that every Linux has is missing, or KVM is demanded and not there.
pub fn detect(config: &Config) -> Result<Facts, FactsError> {
    let bridges = offered(&config.network.bridges, &config.network.bridge, is_bridge);
    let mut facts = detect_machine(&config.node)?;
    facts.capacity.bridges = bridges;
    Ok(facts)
}

/// The bridges that VMs may be on: of those in the configuration the ones that are there. The cluster's own is for the
/// cards that its rules are made for.
fn offered(named: &[BridgeName], own: &str, is_bridge: impl Fn(&str) -> bool) -> Vec<BridgeName> {
    let offered = |name: &&BridgeName| {
        let why = match name.as_str() {
            name if name == own => "it is the bridge of the cluster's own network",
            name if !is_bridge(name) => "this host has no such bridge",
            _ => return true,
        };
        tracing::warn!(bridge = %name, "[network] bridges: not offered to VMs, for {why}");
        false
    };
    let mut bridges: Vec<_> = named.iter().filter(offered).cloned().collect();
    bridges.sort();
    bridges.dedup();
    bridges
}

fn is_bridge(name: &str) -> bool {
    Path::new("/sys/class/net").join(name).join("bridge").is_dir()
}

fn detect_machine(config: &NodeConfig) -> Result<Facts, FactsError> {
    let arch = match std::env::consts::ARCH {
        "x86_64" => Arch::X86_64,
        "aarch64" => Arch::Aarch64,
        other => return Err(FactsError::Arch(other)),
    };
    let (cpuinfo, meminfo) = (Path::new("/proc/cpuinfo"), Path::new("/proc/meminfo"));
    let memory = total_memory(&read(meminfo)?)
        .ok_or_else(|| FactsError::Missing { path: meminfo.to_owned(), what: "MemTotal" })?;
    let threads =
        std::thread::available_parallelism().map_err(|source| FactsError::Read { path: cpuinfo.to_owned(), source })?;
    let device = || fs::File::options().read(true).write(true).open("/dev/kvm").is_ok();
    let kvm = can_kvm(arch, &read(cpuinfo)?, device);
    let disk = disk_size(&config.data_dir)?;
    let threads = u32::try_from(threads.get()).unwrap_or(u32::MAX);
    decide(config, arch, threads, memory, disk, kvm)
}

fn read(path: &Path) -> Result<String, FactsError> {
    fs::read_to_string(path).map_err(|source| FactsError::Read { path: path.to_owned(), source })
}

/// The size of the file system that holds `dir`, or the nearest of its parents that exists.
fn disk_size(dir: &Path) -> Result<ByteSize, FactsError> {
    let existing = dir.ancestors().find(|d| d.exists()).unwrap_or(Path::new("/"));
    let stat =
        statvfs(existing).map_err(|errno| FactsError::Read { path: existing.to_owned(), source: errno.into() })?;
    Ok(ByteSize::bytes(stat.blocks().saturating_mul(stat.fragment_size())))
}

fn total_memory(meminfo: &str) -> Option<ByteSize> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(ByteSize::bytes(kib << 10))
}

fn can_kvm(arch: Arch, cpuinfo: &str, device: impl FnOnce() -> bool) -> Result<(), NoKvm> {
    let flags = cpuinfo.lines().find_map(|line| line.strip_prefix("flags"));
    let virtual_cpu = || flags.is_some_and(|f| f.split_whitespace().any(|flag| flag == "vmx" || flag == "svm"));
    // Arm's CPUs do not list it; there the kernel's word is all there is.
    if arch == Arch::X86_64 && !virtual_cpu() {
        return Err(NoKvm::Cpu);
    }
    if device() { Ok(()) } else { Err(NoKvm::Device) }
}

fn decide(
    config: &NodeConfig,
    arch: Arch,
    threads: u32,
    memory: ByteSize,
    disk: ByteSize,
    kvm: Result<(), NoKvm>,
) -> Result<Facts, FactsError> {
    let accel = match (config.accel, kvm) {
        (config::Accel::Kvm, Err(why)) => return Err(FactsError::NoKvm(why)),
        (config::Accel::Tcg, _) | (config::Accel::Auto, Err(_)) => Accel::Tcg,
        (config::Accel::Kvm | config::Accel::Auto, Ok(())) => Accel::Kvm,
    };
    let capped = |found: ByteSize, cap: Option<ByteSize>| cap.map_or(found, |cap| found.min(cap));
    let capacity = Capacity {
        // Unlike memory, CPUs can be shared as thin as their owner likes: here the configuration decides, up or down.
        cpus: config.cpus.unwrap_or(threads.saturating_mul(CPU_OVERCOMMIT)),
        threads,
        memory: capped(memory.saturating_sub(HOST_MEMORY), config.memory),
        disk: capped(disk, config.disk),
        arch,
        kvm: accel == Accel::Kvm,
        bridges: Vec::new(),
    };
    Ok(Facts { capacity, accel })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NESTED: &str = "processor\t: 0\nflags\t\t: fpu vme hypervisor\n";
    const REAL: &str = "processor\t: 0\nflags\t\t: fpu vme svm\n";

    #[test]
    fn kvm_needs_the_cpu_and_the_device() {
        assert_eq!(can_kvm(Arch::X86_64, NESTED, || true), Err(NoKvm::Cpu));
        assert_eq!(can_kvm(Arch::X86_64, REAL, || false), Err(NoKvm::Device));
        assert_eq!(can_kvm(Arch::X86_64, REAL, || true), Ok(()));
        assert_eq!(can_kvm(Arch::Aarch64, "", || true), Ok(()));
    }

    #[test]
    fn caps_only_lower_and_the_host_keeps_its_share() {
        let found =
            |config: &NodeConfig, kvm| decide(config, Arch::X86_64, 8, ByteSize::gib(16), ByteSize::gib(100), kvm);
        let facts = found(&NodeConfig::default(), Err(NoKvm::Cpu)).unwrap();
        assert_eq!((facts.capacity.cpus, facts.capacity.memory, facts.accel), (32, ByteSize::gib(15), Accel::Tcg));
        let caps = NodeConfig {
            cpus: Some(4),
            memory: Some(ByteSize::gib(64)),
            disk: Some(ByteSize::gib(10)),
            ..NodeConfig::default()
        };
        let facts = found(&caps, Ok(())).unwrap();
        assert_eq!(facts.capacity.cpus, 4);
        assert_eq!((facts.capacity.memory, facts.capacity.disk), (ByteSize::gib(15), ByteSize::gib(10)));
        assert!(facts.capacity.kvm);
    }

    #[test]
    fn kvm_on_demand_or_not_at_all() {
        let demanded = NodeConfig { accel: config::Accel::Kvm, ..NodeConfig::default() };
        let facts = decide(&demanded, Arch::X86_64, 1, ByteSize::gib(2), ByteSize::gib(1), Err(NoKvm::Cpu));
        assert!(facts.unwrap_err().to_string().contains("vmx or svm"));
    }

    #[test]
    fn this_machine_can_be_looked_at() {
        let facts =
            detect_machine(&NodeConfig { data_dir: "/nonexistent/below".into(), ..NodeConfig::default() }).unwrap();
        assert!(facts.capacity.threads > 0 && facts.capacity.disk > ByteSize::ZERO);
        assert_eq!(total_memory("MemTotal:       24567 kB\nMemFree: 1 kB\n"), Some(ByteSize::bytes(24567 << 10)));
    }

    #[test]
    fn only_bridges_that_are_there_are_offered() {
        let names = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect::<Vec<BridgeName>>();
        let there = |name: &str| matches!(name, "br0" | "br1" | "waifubr0");
        assert_eq!(
            offered(&names(&["br1", "br0", "br9", "br1", "waifubr0"]), "waifubr0", there),
            names(&["br0", "br1"])
        );
        assert!(!is_bridge("lo"), "an interface that is none");
    }
}

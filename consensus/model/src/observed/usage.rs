//! What running guests use, as their owner measures it from time to time, packed: many VMs in one gossip value.
//!
//! A VM takes 27 letters: base64 of its id (16 bytes), the share of its CPUs (one byte), and its memory in MiB (three bytes,
//! the least significant first). Of what is not known all bits are set.

use crate::{ids::VmId, size::ByteSize};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

/// What a running guest uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VmUsage {
    /// How busy all its CPUs were together since the measurement before, in percent, at most 100.
    pub cpu: Option<u8>,
    /// Memory that it could not give to another program of its own, in whole MiB, by what its kernel tells.
    pub memory: Option<ByteSize>,
}

/// Bytes of one VM.
const VM_BYTES: usize = 20;
/// VMs in a value: it stays below the 8 KiB that gossip carries.
const VALUE_VMS: usize = 300;
const MIB: u64 = 1 << 20;
const NO_CPU: u8 = u8::MAX;
const NO_MEMORY: u32 = (1 << 24) - 1;

impl VmUsage {
    /// What the gossip keys of such values begin with.
    pub const PREFIX: &str = "use/";

    /// The gossip key of a node's value number `n`, from 0.
    #[must_use]
    pub fn key(n: usize) -> String {
        format!("{}{n}", Self::PREFIX)
    }

    /// The gossip values that tell these, in their order.
    #[must_use]
    pub fn pack(used: &[(VmId, Self)]) -> Vec<String> {
        let value = |some: &[(VmId, Self)]| {
            let bytes: Vec<u8> = some.iter().flat_map(|(vm, usage)| usage.bytes(*vm)).collect();
            URL_SAFE_NO_PAD.encode(bytes)
        };
        used.chunks(VALUE_VMS).map(value).collect()
    }

    /// What a value tells; nothing if it does not read: it comes from a newer or a broken peer.
    #[must_use]
    pub fn unpack(value: &str) -> Vec<(VmId, Self)> {
        let bytes = URL_SAFE_NO_PAD.decode(value).unwrap_or_default();
        let bytes = if bytes.len().is_multiple_of(VM_BYTES) { bytes } else { Vec::new() };
        let (vms, _) = bytes.as_chunks::<VM_BYTES>();
        vms.iter().filter_map(Self::read).collect()
    }

    fn bytes(self, vm: VmId) -> [u8; VM_BYTES] {
        let mib = self
            .memory
            .map_or(NO_MEMORY, |size| u32::try_from(size.as_bytes() / MIB).unwrap_or(NO_MEMORY).min(NO_MEMORY - 1));
        let mut bytes = [0; VM_BYTES];
        bytes[..16].copy_from_slice(vm.as_bytes());
        bytes[16] = self.cpu.map_or(NO_CPU, |percent| percent.min(100));
        bytes[17..].copy_from_slice(&mib.to_le_bytes()[..3]);
        bytes
    }

    fn read(bytes: &[u8; VM_BYTES]) -> Option<(VmId, Self)> {
        let (id, rest) = bytes.split_first_chunk::<16>()?;
        let [cpu, low, middle, high] = *rest else { return None };
        let mib = u32::from_le_bytes([low, middle, high, 0]);
        let usage =
            Self { cpu: (cpu <= 100).then_some(cpu), memory: (mib != NO_MEMORY).then(|| ByteSize::mib(mib.into())) };
        Some((VmId::from_bytes(*id)?, usage))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vm(n: u16) -> VmId {
        let mut random = [9; 16];
        random[4..6].copy_from_slice(&n.to_le_bytes());
        VmId::from_random(random)
    }

    #[test]
    fn a_thousand_vms_fit_into_a_few_values_and_read_back() {
        let used: Vec<_> = (0..1_000u16)
            .map(|n| {
                let cpu = (n % 102 != 101).then_some((n % 102) as u8);
                let memory = (n % 7 != 0).then(|| ByteSize::mib(u64::from(n) * 1_000));
                (vm(n), VmUsage { cpu, memory })
            })
            .collect();
        let packed = VmUsage::pack(&used);
        assert_eq!(packed.len(), 4);
        assert!(packed.iter().all(|value| value.len() <= 8 << 10));
        let read: Vec<_> = packed.iter().flat_map(|value| VmUsage::unpack(value)).collect();
        assert_eq!(read, used);
    }

    #[test]
    fn what_cannot_be_told_is_bounded_and_what_does_not_read_tells_nothing() {
        let huge = VmUsage { cpu: Some(250), memory: Some(ByteSize::gib(1 << 20)) };
        let packed = VmUsage::pack(&[(vm(1), huge)]);
        let most = VmUsage { cpu: Some(100), memory: Some(ByteSize::mib(u64::from(NO_MEMORY) - 1)) };
        assert_eq!(VmUsage::unpack(&packed[0]), [(vm(1), most)]);
        for bad in ["", "!", "AAAA", &packed[0][1..], &format!("{}AAAA", packed[0])] {
            assert_eq!(VmUsage::unpack(bad).len(), 0, "{bad}");
        }
        // As many bytes as a VM has, but no VM's id.
        assert_eq!(VmUsage::unpack(&URL_SAFE_NO_PAD.encode([0; VM_BYTES])).len(), 0);
    }
}

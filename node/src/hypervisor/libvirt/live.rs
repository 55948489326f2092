//! What a running guest has, read from what libvirt says of it. Pure.

use crate::hypervisor::{
    Cause, Cpus, LiveCard, Memory, Smbios,
    xml::{ROOT, SEED, data_slot},
};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use waifud_model::{digest::Blake3, size::ByteSize, vm::Mac};

/// A domain's description, as far as it matters. Of a guest that is off it is the definition.
#[derive(Debug, Deserialize)]
pub(super) struct Description {
    /// On the CPU, or emulated.
    #[serde(rename = "@type")]
    kind: String,
    /// Only of a guest that is on.
    #[serde(rename = "@id")]
    id: Option<String>,
    memory: Amount,
    #[serde(rename = "currentMemory")]
    current_memory: Amount,
    vcpu: Vcpu,
    #[serde(default)]
    sysinfo: SysInfo,
    devices: Devices,
}

/// libvirt gives memory in KiB.
#[derive(Debug, Deserialize)]
struct Amount {
    #[serde(rename = "$text")]
    kib: u64,
}

impl Amount {
    const fn size(&self) -> ByteSize {
        ByteSize::bytes(self.kib.saturating_mul(1024))
    }
}

#[derive(Debug, Deserialize)]
struct Vcpu {
    /// As many as there can be, if it is not said.
    #[serde(rename = "@current")]
    current: Option<u32>,
    #[serde(rename = "$text")]
    most: u32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SysInfo {
    system: System,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct System {
    entry: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    #[serde(rename = "@name")]
    name: String,
    #[serde(rename = "$text", default)]
    value: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Devices {
    disk: Vec<DiskDevice>,
    interface: Vec<InterfaceDevice>,
}

/// A disk or a drive.
#[derive(Debug, Deserialize)]
pub(super) struct DiskDevice {
    #[serde(rename = "@device", default)]
    device: String,
    source: Option<Source>,
    pub(super) target: Target,
    alias: Option<Alias>,
}

#[derive(Debug, Deserialize)]
struct Source {
    #[serde(rename = "@file")]
    file: Option<PathBuf>,
}

/// What libvirt calls it, and what it is plugged into.
#[derive(Debug, Deserialize)]
pub(super) struct Target {
    #[serde(rename = "@dev")]
    pub(super) dev: String,
    #[serde(rename = "@bus", default)]
    pub(super) bus: String,
}

/// A network card.
#[derive(Debug, Deserialize)]
pub(super) struct InterfaceDevice {
    #[serde(rename = "@type")]
    kind: String,
    mac: Option<Address>,
    source: Option<BridgeSource>,
    alias: Option<Alias>,
}

#[derive(Debug, Deserialize)]
struct BridgeSource {
    #[serde(rename = "@bridge", default)]
    bridge: String,
}

#[derive(Debug, Deserialize)]
struct Address {
    #[serde(rename = "@address")]
    address: Mac,
}

/// A running guest's devices have names of libvirt's, by which they can be unplugged.
#[derive(Debug, Deserialize)]
struct Alias {
    #[serde(rename = "@name")]
    name: String,
}

impl Description {
    /// Reads what libvirt gave.
    pub(super) fn parse(xml: &str) -> Result<Self, Cause> {
        quick_xml::de::from_str(xml).map_err(|e| Cause::new(format!("libvirt's description of it cannot be read: {e}")))
    }

    /// Is the guest on?
    pub(super) const fn is_active(&self) -> bool {
        self.id.is_some()
    }

    /// Does QEMU run its instructions, not the CPU?
    pub(super) fn is_emulated(&self) -> bool {
        self.kind == "qemu"
    }

    pub(super) fn cpus(&self) -> Cpus {
        Cpus { current: self.vcpu.current.unwrap_or(self.vcpu.most), most: self.vcpu.most }
    }

    pub(super) const fn memory(&self) -> Memory {
        Memory { current: self.current_memory.size(), most: self.memory.size() }
    }

    pub(super) fn smbios(&self) -> Smbios {
        let entry = |name| {
            let found = self.sysinfo.system.entry.iter().find(|entry| entry.name == name);
            found.map(|entry| entry.value.clone()).unwrap_or_default()
        };
        Smbios { manufacturer: entry("manufacturer"), product: entry("product"), serial: entry("serial") }
    }

    /// The disks of ours, the root disk first: each one's place, none for the root disk's.
    pub(super) fn disks(&self) -> Vec<(Option<u8>, &DiskDevice)> {
        let place = |disk: &DiskDevice| match disk.target.dev.as_str() {
            _ if disk.is_drive() => None,
            ROOT => Some(None),
            dev => data_slot(dev).map(Some),
        };
        let mut disks: Vec<_> = self.devices.disk.iter().filter_map(|disk| Some((place(disk)?, disk))).collect();
        disks.sort_by_key(|(slot, _)| *slot);
        disks
    }

    /// The disk in that place.
    pub(super) fn disk(&self, slot: Option<u8>) -> Option<&DiskDevice> {
        self.disks().into_iter().find(|(place, _)| *place == slot).map(|(_, disk)| disk)
    }

    /// Is there a small disk with what cloud-init has to know?
    pub(super) fn has_seed(&self) -> bool {
        self.devices.disk.iter().any(|disk| disk.target.dev == SEED)
    }

    /// The CD drive.
    pub(super) fn drive(&self) -> Option<&DiskDevice> {
        self.devices.disk.iter().find(|disk| disk.is_drive())
    }

    /// The network cards on bridges of the host, in order.
    pub(super) fn cards(&self) -> Vec<LiveCard> {
        let bridged = self.devices.interface.iter().filter(|card| card.kind == "bridge");
        bridged.filter_map(|card| Some(LiveCard { mac: card.mac.as_ref()?.address, bridge: card.bridge() })).collect()
    }

    /// The network card of that address.
    pub(super) fn card(&self, mac: Mac) -> Option<&InterfaceDevice> {
        self.devices.interface.iter().find(|card| card.mac.as_ref().is_some_and(|there| there.address == mac))
    }
}

impl DiskDevice {
    fn is_drive(&self) -> bool {
        self.device == "cdrom"
    }

    /// The file it is.
    pub(super) fn path(&self) -> Option<&Path> {
        self.source.as_ref()?.file.as_deref()
    }

    pub(super) fn alias(&self) -> Option<&str> {
        self.alias.as_ref().map(|alias| alias.name.as_str())
    }
}

impl InterfaceDevice {
    /// The bridge it is on; none of a name that a bridge can have if it is on none.
    pub(super) fn bridge(&self) -> String {
        self.source.as_ref().map(|source| source.bridge.clone()).unwrap_or_default()
    }

    pub(super) fn alias(&self) -> Option<&str> {
        self.alias.as_ref().map(|alias| alias.name.as_str())
    }
}

/// The digest of a definition, without the metadata: who writes a mark changes nothing else.
pub(super) fn digest(definition: &str) -> Blake3 {
    const END: &str = "</metadata>";
    let parts = definition.split_once("<metadata>");
    let split = parts.and_then(|(before, rest)| Some((before, rest.rfind(END).map(|at| &rest[at + END.len()..])?)));
    let (before, after) = split.unwrap_or((definition, ""));
    Blake3::of(format!("{before}{after}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As libvirt 9 gives it, shortened.
    const RUNNING: &str = r#"<domain type='qemu' id='7'>
  <name>ec2</name>
  <metadata><waifud:domain xmlns:waifud="urn:waifud:domain:1"/></metadata>
  <memory unit='KiB'>4194304</memory>
  <currentMemory unit='KiB'>2097152</currentMemory>
  <vcpu placement='static' current='2'>4</vcpu>
  <vcpus><vcpu id='0' enabled='yes' hotpluggable='no' order='1'/></vcpus>
  <sysinfo type='smbios'><system>
    <entry name='manufacturer'>waifud</entry><entry name='product'>waifud VM</entry>
    <entry name='serial'>ds=nocloud-net;s=http://169.254.169.254/&lt;</entry>
  </system></sysinfo>
  <os firmware='efi'><type arch='x86_64' machine='pc-q35-7.2'>hvm</type><loader secure='no'>/x</loader></os>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/><source file='/v/log &amp; b.qcow2' index='2'/>
      <backingStore type='file' index='9'><format type='qcow2'/><source file='/i/base'/><backingStore/></backingStore>
      <target dev='vdc' bus='virtio'/><serial>log</serial><alias name='virtio-disk2'/>
    </disk>
    <disk type='file' device='disk'>
      <source file='/v/a.qcow2' index='1'/><target dev='vda' bus='virtio'/><alias name='virtio-disk0'/>
    </disk>
    <disk type='file' device='disk'><source file='/v/a.seed'/><target dev='vdz' bus='virtio'/><readonly/></disk>
    <disk type='file' device='cdrom'><target dev='sda' bus='sata'/><readonly/><alias name='sata0-0-0'/></disk>
    <controller type='pci' index='0' model='pcie-root'><alias name='pcie.0'/></controller>
    <interface type='network'>
      <mac address='52:54:0a:4d:02:0e'/><source network='waifud'/><target dev='vnet0'/><alias name='net0'/>
    </interface>
    <interface type='bridge'><mac address='56:54:0a:4d:02:0e'/><source bridge='br0'/><alias name='net1'/></interface>
    <serial type='pty'><source path='/dev/pts/7'/></serial>
  </devices>
</domain>"#;

    #[test]
    fn a_running_guest_is_read() {
        let guest = Description::parse(RUNNING).unwrap();
        assert!(guest.is_active() && guest.is_emulated() && guest.has_seed());
        assert_eq!(guest.cpus(), Cpus { current: 2, most: 4 });
        assert_eq!(guest.memory(), Memory { current: ByteSize::gib(2), most: ByteSize::gib(4) });
        let disks: Vec<_> = guest.disks().iter().map(|(slot, disk)| (*slot, disk.path(), disk.alias())).collect();
        let path = |path| Some(Path::new(path));
        assert_eq!(
            disks,
            [
                (None, path("/v/a.qcow2"), Some("virtio-disk0")),
                (Some(1), path("/v/log & b.qcow2"), Some("virtio-disk2"))
            ]
        );
        let drive = guest.drive().unwrap();
        assert_eq!((drive.target.dev.as_str(), drive.target.bus.as_str(), drive.path()), ("sda", "sata", None));
        let lan: Mac = "56:54:0a:4d:02:0e".parse().unwrap();
        assert_eq!(guest.cards(), [LiveCard { mac: lan, bridge: "br0".to_owned() }]);
        assert_eq!(guest.card(lan).and_then(InterfaceDevice::alias), Some("net1"));
        assert!(guest.disk(Some(0)).is_none() && guest.card(Mac([0; 6])).is_none());
        assert_eq!(guest.smbios().serial, "ds=nocloud-net;s=http://169.254.169.254/<");
    }

    #[test]
    fn a_guest_without_anything_special_is_read_too() {
        let xml = "<domain type='kvm'><memory unit='KiB'>1024</memory><currentMemory unit='KiB'>1024</currentMemory>\
                   <vcpu>3</vcpu><devices/></domain>";
        let guest = Description::parse(xml).unwrap();
        assert!(
            !guest.is_active()
                && !guest.is_emulated()
                && guest.disks().is_empty()
                && guest.drive().is_none()
                && guest.cards().is_empty()
        );
        assert_eq!(guest.cpus(), Cpus { current: 3, most: 3 });
        assert!(Description::parse("<domain/>").is_err() && Description::parse("<dom").is_err());
    }

    #[test]
    fn a_digest_is_of_all_but_the_metadata() {
        let of =
            |mark: &str, cpus: u32| digest(&format!("<domain><metadata>{mark}</metadata><vcpu>{cpus}</vcpu></domain>"));
        assert_eq!(of("<a/>", 1), of("<b><metadata></metadata></b>", 1));
        assert_ne!(of("<a/>", 1), of("<a/>", 2));
        assert_eq!(digest("<domain/>"), digest("<domain/>"));
    }
}

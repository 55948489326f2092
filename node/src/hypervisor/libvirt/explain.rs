//! libvirt's errors in words that help: what it said, and what to do where that is known.

use crate::hypervisor::Cause;
use virt::error::{Error, ErrorNumber};

/// What libvirt's message contains, and what helps then.
const REMEDIES: [(&str, &str); 10] = [
    ("Failed to connect socket", "is libvirtd running? `systemctl start libvirtd`"),
    ("authentication unavailable", "waifud has to run as root"),
    ("Permission denied", "libvirt's user or AppArmor profile may not read that file"),
    ("Network not found", "the guests' network is not set up on this node yet"),
    ("cannot set up guest memory", "this node has too little free memory"),
    ("Unable to find any firmware", "UEFI needs a firmware for guests: `apt install ovmf` (on Arm `qemu-efi-aarch64`)"),
    ("Unknown CPU model", "the names that this node knows are in `virsh cpu-models x86_64`"),
    ("CPU is incompatible with host CPU", "this node's CPU cannot do all that this model has; another node's may"),
    ("Cannot access backing file", "the template's image is not on this node any more"),
    ("domaintype=kvm", "this CPU cannot run guests by itself, or the kvm module is not loaded"),
];

/// libvirt's words and what helps.
pub(super) fn cause(error: &Error) -> Cause {
    explain(error.message())
}

fn explain(message: &str) -> Cause {
    let remedy = REMEDIES.iter().find(|(part, _)| message.contains(part)).map(|(_, remedy)| *remedy);
    Cause::with_remedy(message, remedy)
}

/// What libvirt says where the guest, or how it was started, is in the way, and what that means.
const NOT_LIVE: [(&str, &str); 6] = [
    ("No more available PCI slots", "all its free slots are taken; it has new ones at its next start"),
    ("balloon driver", "no balloon driver runs in it"),
    ("unplug request timed out", "it did not let go in time"),
    ("already in the process of unplug", "it was asked to let go of it and has not done so"),
    ("is locked", "it has locked its CD drive: eject the CD there first"),
    ("waiting to open tray", "it has locked its CD drive: eject the CD there first"),
];

/// Why the guest cannot take something up while it runs; none if it is not the guest that is in the way.
pub(super) fn not_live(error: &Error) -> Option<Cause> {
    let known = NOT_LIVE.iter().find(|(part, _)| error.message().contains(part));
    let cannot = is(error, ErrorNumber::OperationUnsupported)
        || is(error, ErrorNumber::ConfigUnsupported)
        || is(error, ErrorNumber::NoSupport)
        || is(error, ErrorNumber::OperationTimeout);
    match known {
        Some((_, why)) => Some(Cause::new(*why)),
        None => cannot.then(|| cause(error)),
    }
}

/// True if the error is of that kind.
pub(super) fn is(error: &Error, kind: ErrorNumber) -> bool {
    error.code() == kind.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_messages_come_with_a_remedy() {
        let said = "Failed to connect socket to '/var/run/libvirt/libvirt-sock': No such file or directory";
        assert_eq!(explain(said).to_string(), format!("{said} (is libvirtd running? `systemctl start libvirtd`)"));
        assert_eq!(explain("something new").to_string(), "something new");
    }
}

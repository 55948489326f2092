//! libvirt's errors in words that help: what it said, and what to do where that is known.

use crate::hypervisor::Cause;
use virt::error::{Error, ErrorNumber};

/// What libvirt's message contains, and what helps then.
const REMEDIES: [(&str, &str); 7] = [
    ("Failed to connect socket", "is libvirtd running? `systemctl start libvirtd`"),
    ("authentication unavailable", "waifud has to run as root"),
    ("Permission denied", "libvirt's user or AppArmor profile may not read that file"),
    ("Network not found", "the guests' network is not set up on this node yet"),
    ("cannot set up guest memory", "this node has too little free memory"),
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

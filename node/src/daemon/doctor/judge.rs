//! What a sight means: whether it is well, what it means for the VMs if not, and what mends it. Pure, so that every sentence can be
//! tested.

use crate::{
    hypervisor::{Accel, Health},
    net::UsedNetwork,
};
use ipnet::Ipv4Net;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use std::{
    net::SocketAddr,
    path::Path,
    time::{Duration, SystemTime},
};
use waifud_api::doctor::{Check, Finding};
use waifud_model::size::ByteSize;

/// A clock that is this far off is told of: logs and events no longer tell the order in which things happened.
const CLOCK_ODD_MS: u64 = 2_000;
/// A leader whose clock is this far off does not stamp commands (consensus, `CLOCK_TOLERANCE_MS`).
const CLOCK_WRONG_MS: u64 = 5 * 60 * 1000;
/// Under this the state itself may soon not be written: Raft stops on a full disk.
const ROOM_LEAST: ByteSize = ByteSize::gib(1);
/// Under a tenth copy-on-write disks of running guests may fill what is left faster than a person reacts.
const ROOM_SMALL: u64 = 10;
/// A certificate that nobody renews by himself is told of this long before its end.
const CERTIFICATE_SOON: Duration = Duration::from_secs(14 * 24 * 60 * 60);
const DAY: u64 = 24 * 60 * 60;

/// What is left of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) free: ByteSize,
    pub(super) all: ByteSize,
    pub(super) inodes_free: u64,
    /// Zero where the file system does not count them.
    pub(super) inodes: u64,
}

/// A certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Certificate {
    pub(super) what: String,
    pub(super) ends: Result<SystemTime, String>,
    /// Does waifud renew it by itself?
    pub(super) renewed: bool,
}

pub(super) fn clock(offset_ms: i64, others: usize) -> Finding {
    let check = Check::Clock;
    if others == 0 {
        return Finding::unknown(check, "no other node is heard whose clock could be compared");
    }
    let off = offset_ms.unsigned_abs();
    let seen = format!(
        "{}.{:03} s {} the cluster's",
        off / 1000,
        off % 1000,
        if offset_ms < 0 { "behind" } else { "ahead of" }
    );
    let remedy = "timedatectl set-ntp true; chronyc makestep";
    if off >= CLOCK_WRONG_MS {
        Finding::wrong(
            check,
            seen,
            "if this node leads, it takes no changes; tokens and certificates may look expired",
            remedy,
        )
    } else if off >= CLOCK_ODD_MS {
        Finding::warning(check, seen, "times in events and logs of this node do not fit those of the others", remedy)
    } else {
        Finding::well(check, seen)
    }
}

pub(super) fn disk(dir: &Path, room: Room) -> Finding {
    let seen = format!("{} of {} free in {}", room.free, room.all, dir.display());
    let remedy =
        "make room or move the data directory: waifuctl template list and waifuctl list -o wide show what is large";
    if room.inodes > 0 && room.inodes_free == 0 {
        return Finding::wrong(Check::Disk, format!("{seen}, but no inode is"), "no file can be made", remedy);
    }
    if room.free < ROOM_LEAST {
        let means =
            "guests are paused when their disks cannot grow, and this node stops taking part when its log cannot";
        return Finding::wrong(Check::Disk, seen, means, remedy);
    }
    if room.free.as_bytes() < room.all.as_bytes() / ROOM_SMALL {
        return Finding::warning(Check::Disk, seen, "disks of guests grow as they are written to", remedy);
    }
    Finding::well(Check::Disk, seen)
}

pub(super) fn disk_unreadable(dir: &Path, why: &str) -> Finding {
    let seen = format!("{} cannot be looked at: {why}", dir.display());
    Finding::wrong(Check::Disk, seen, "what is on it cannot be used either", "mount it, and restart waifud")
}

pub(super) fn libvirt(health: &Health, listed: Result<usize, String>) -> Finding {
    let check = Check::Libvirt;
    let means = "running VMs run on; none can be started, stopped or changed here";
    match (listed, health) {
        (Ok(domains), _) => {
            let s = if domains == 1 { "" } else { "s" };
            Finding::well(check, format!("answers; {domains} domain{s} of this cluster"))
        }
        (Err(why), Health::Hung { what }) => {
            Finding::wrong(check, format!("hangs ({what}): {why}"), means, "systemctl restart libvirtd")
        }
        (Err(why), _) => {
            let remedy =
                "systemctl status libvirtd; apt install libvirt-daemon-system qemu-system; systemctl start libvirtd";
            Finding::wrong(check, why, means, remedy)
        }
    }
}

pub(super) fn kvm(accel: Accel) -> Finding {
    match accel {
        Accel::Kvm => Finding::well(Check::Kvm, "guests run on the CPU itself"),
        Accel::Tcg => Finding::warning(
            Check::Kvm,
            "guests are emulated (TCG)",
            "they run many times slower",
            "turn virtualisation on in the firmware (VT-x, AMD-V; nested on a virtual machine), modprobe kvm_intel or kvm_amd, \
             look at [node] accel, and restart waifud",
        ),
    }
}

pub(super) fn routes(cluster: Ipv4Net, missing: &[&str], conflicts: &[UsedNetwork]) -> Finding {
    let check = Check::Routes;
    if !missing.is_empty() {
        let seen = format!("there is no interface {}", missing.join(", nor "));
        let means = "guests here reach no other node's guests, or nothing at all";
        return Finding::wrong(
            check,
            seen,
            means,
            "journalctl -u waifud says why it could not be made; it is tried again",
        );
    }
    if !conflicts.is_empty() {
        let used: Vec<_> = conflicts.iter().map(ToString::to_string).collect();
        let seen = format!("{cluster} is the cluster's, and this host leads {} elsewhere", used.join(", "));
        let remedy = "give the other network other addresses, or take its route away: ip route";
        return Finding::warning(check, seen, "one of the two cannot be reached from here", remedy);
    }
    Finding::well(check, format!("{cluster} leads to the guests and nowhere else"))
}

pub(super) fn names(server: SocketAddr, asked: Result<(), String>) -> Finding {
    match asked {
        Ok(()) => Finding::well(Check::Dns, format!("names of VMs are answered at {server}")),
        Err(why) => Finding::wrong(
            Check::Dns,
            format!("{server}: {why}"),
            "guests here do not find each other by name",
            format!(
                "ss -lnup 'sport = :{}' shows who has the port; [network] names_listen names another",
                server.port()
            ),
        ),
    }
}

/// When the first certificate in a PEM file ends.
pub(super) fn end_of(path: &Path) -> Result<SystemTime, String> {
    let first = CertificateDer::from_pem_file(path).map_err(|error| error.to_string())?;
    let (_, certificate) = x509_parser::parse_x509_certificate(&first).map_err(|error| error.to_string())?;
    let seconds = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0);
    Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

pub(super) fn certificates(all: &[Certificate], now: SystemTime) -> Finding {
    let check = Check::Certificates;
    let mut seen = Vec::new();
    let mut worst = None;
    for Certificate { what, ends, renewed } in all {
        let remedy = if *renewed {
            "journalctl -u waifud says why it is not renewed".to_owned()
        } else {
            format!("renew {what} ([api] tls_cert), and restart waifud")
        };
        match ends.as_ref().map(|end| end.duration_since(now)) {
            Err(why) => {
                seen.push(format!("{what}: {why}"));
                worst = worst.max(Some((2, remedy)));
            }
            Ok(Err(_)) => {
                seen.push(format!("{what} has ended"));
                worst = worst.max(Some((2, remedy)));
            }
            Ok(Ok(left)) => {
                seen.push(format!("{what} is valid for {} days", left.as_secs() / DAY));
                // Those that waifud renews have a third of their life left when it does.
                if left < CERTIFICATE_SOON {
                    worst = worst.max(Some((1, remedy)));
                }
            }
        }
    }
    let seen = seen.join("; ");
    match worst {
        None => Finding::well(check, seen),
        Some((1, remedy)) => Finding::warning(check, seen, "when it ends, nobody trusts this node any more", remedy),
        Some((_, remedy)) => Finding::wrong(check, seen, "nobody trusts this node", remedy),
    }
}

pub(super) fn cache(asked: Option<Result<(), String>>) -> Finding {
    match asked {
        None => Finding::well(Check::Redis, "none is configured, and none is needed"),
        Some(Ok(())) => Finding::well(Check::Redis, "answers"),
        Some(Err(why)) => Finding::warning(
            Check::Redis,
            why,
            "nothing for guests: it is a cache. A node whose replica is far behind has no second source",
            "redis-cli -u URL ping; [cache] redis_url says which it is",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hypervisor::Cause;
    use std::path::PathBuf;
    use waifud_api::doctor::Verdict;

    #[test]
    fn clocks() {
        for (offset, others, verdict) in [
            (0, 2, Verdict::Well),
            (-1_900, 2, Verdict::Well),
            (-2_500, 2, Verdict::Warning),
            (300_000, 2, Verdict::Wrong),
            (300_000, 0, Verdict::Unknown),
        ] {
            assert_eq!(clock(offset, others).verdict, verdict, "{offset}");
        }
        assert_eq!(clock(-2_500, 1).seen, "2.500 s behind the cluster's");
    }

    #[test]
    fn disks() {
        let room =
            |free, inodes_free| Room { free: ByteSize::gib(free), all: ByteSize::gib(100), inodes_free, inodes: 1000 };
        for (room, verdict) in [
            (room(50, 10), Verdict::Well),
            (room(9, 10), Verdict::Warning),
            (room(0, 10), Verdict::Wrong),
            (room(50, 0), Verdict::Wrong),
            // btrfs counts no inodes.
            (Room { inodes: 0, ..room(50, 0) }, Verdict::Well),
        ] {
            let found = disk(Path::new("/var/lib/waifud"), room);
            assert_eq!(found.verdict, verdict, "{found:?}");
            assert_eq!(found.remedy.is_some(), verdict != Verdict::Well);
        }
    }

    #[test]
    fn libvirt_is_well_when_it_answers_and_told_apart_when_not() {
        assert_eq!(libvirt(&Health::Down(Cause::new("x")), Ok(1)).seen, "answers; 1 domain of this cluster");
        let hung = libvirt(&Health::Hung { what: "list" }, Err("no answer in 2 s".to_owned()));
        assert!(hung.remedy.unwrap().contains("restart"), "a daemon that hangs is not installed anew");
        let absent = libvirt(&Health::Unknown, Err("no such socket".to_owned()));
        assert_eq!((absent.verdict, absent.seen.as_str()), (Verdict::Wrong, "no such socket"));
    }

    #[test]
    fn routes_that_lead_elsewhere_or_nowhere() {
        let cluster: Ipv4Net = "10.77.0.0/16".parse().unwrap();
        let vpn = UsedNetwork { network: "10.77.3.0/24".parse().unwrap(), interface: "tun0".to_owned() };
        assert_eq!(routes(cluster, &[], &[]).verdict, Verdict::Well);
        let cut = routes(cluster, &[], &[vpn]);
        assert_eq!((cut.verdict, cut.seen.contains("10.77.3.0/24 on tun0")), (Verdict::Warning, true));
        assert_eq!(routes(cluster, &["waifu0"], &[]).seen, "there is no interface waifu0");
    }

    #[test]
    fn certificates_by_how_long_they_are_valid() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000 * DAY);
        let of = |days: u64, renewed| Certificate {
            what: "x".to_owned(),
            ends: Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(days * DAY)),
            renewed,
        };
        for (all, verdict) in [
            (vec![of(1_090, true)], Verdict::Well),
            (vec![of(1_090, true), of(1_005, false)], Verdict::Warning),
            (vec![of(999, true), of(1_005, false)], Verdict::Wrong),
            (vec![Certificate { ends: Err("no".to_owned()), ..of(0, false) }], Verdict::Wrong),
        ] {
            assert_eq!(certificates(&all, now).verdict, verdict, "{all:?}");
        }
        assert!(end_of(&PathBuf::from("/nonexistent/cert.pem")).is_err());
    }

    #[test]
    fn the_rest() {
        assert_eq!(cache(None).verdict, Verdict::Well);
        assert_eq!(cache(Some(Err("refused".to_owned()))).verdict, Verdict::Warning, "it is a cache");
        assert_eq!(kvm(Accel::Tcg).verdict, Verdict::Warning);
        let silent = names("127.0.0.1:7453".parse().unwrap(), Err("no answer".to_owned()));
        assert!(silent.remedy.unwrap().contains(":7453"));
    }
}

//! The addresses that guests answered for, as the kernel remembers them (ARP, RFC 826). Asks nobody on the network.

use super::{Met, NetworkError, netlink::Netlink};
use futures::TryStreamExt;
use rtnetlink::{
    Handle,
    packet_route::{
        AddressFamily,
        neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
    },
};
use waifud_model::{observed::Sighting, time::Timestamp};

/// The kernel counts these ages in hundredths of a second, whatever its own clock's rate (`USER_HZ`).
const TICK_MS: u64 = 10;

/// Who answered on `bridge`, and when last. Nobody, if there is no such bridge.
pub(super) async fn met(bridge: &str, now: Timestamp) -> Result<Vec<Met>, NetworkError> {
    let failed = |source| NetworkError::Neighbours { source };
    let netlink = Netlink::open().map_err(failed)?;
    read(&netlink, bridge, now).await.map_err(failed)
}

async fn read(handle: &Handle, bridge: &str, now: Timestamp) -> Result<Vec<Met>, rtnetlink::Error> {
    let Some(index) = nix::net::if_::if_nametoindex(bridge).ok() else { return Ok(Vec::new()) };
    let mut met = Vec::new();
    let mut all = handle.neighbours().get().set_address_family(AddressFamily::Inet).execute();
    while let Some(neighbour) = all.try_next().await? {
        if neighbour.header.ifindex == index {
            met.extend(seen(&neighbour, now));
        }
    }
    Ok(met)
}

/// None for who never answered, or does not any more.
fn seen(neighbour: &NeighbourMessage, now: Timestamp) -> Option<Met> {
    use NeighbourState as State;
    if !matches!(neighbour.header.state, State::Reachable | State::Stale | State::Delay | State::Probe) {
        return None;
    }
    let (mut ip, mut ago) = (None, None);
    for attribute in &neighbour.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => ip = Some(*address),
            // Whichever was last: it was confirmed, or was heard to ask for somebody.
            NeighbourAttribute::CacheInfo(info) => ago = Some(u64::from(info.confirmed.min(info.updated)) * TICK_MS),
            _ => {}
        }
    }
    Some(Met { ip: ip?, by: Sighting::Arp, at: Timestamp(now.0.saturating_sub(ago?)) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rtnetlink::packet_route::neighbour::NeighbourCacheInfo;

    #[test]
    fn only_who_answered_was_met() {
        let neighbour = |state| {
            let mut message = NeighbourMessage::default();
            message.header.state = state;
            // As the kernel writes it: confirmed, used, updated, references.
            let info: Vec<u8> = [500_u32, 0, 200, 1].into_iter().flat_map(u32::to_ne_bytes).collect();
            let info = NeighbourCacheInfo::parse(&info).unwrap();
            message.attributes = vec![
                NeighbourAttribute::Destination(NeighbourAddress::Inet([10, 77, 1, 2].into())),
                NeighbourAttribute::CacheInfo(info),
            ];
            message
        };
        let met = seen(&neighbour(NeighbourState::Stale), Timestamp(10_000));
        assert_eq!(met, Some(Met { ip: [10, 77, 1, 2].into(), by: Sighting::Arp, at: Timestamp(8_000) }));
        assert_eq!(seen(&neighbour(NeighbourState::Failed), Timestamp(10_000)), None);
        assert_eq!(seen(&neighbour(NeighbourState::Incomplete), Timestamp(10_000)), None);
    }

    #[tokio::test]
    async fn a_bridge_that_is_not_there_has_nobody() {
        assert_eq!(met("no-such-bridge", Timestamp(0)).await.unwrap(), []);
    }
}

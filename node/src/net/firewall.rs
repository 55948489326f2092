//! The packet filter around the guests' network: an nftables table of our own, replaced as a whole in one transaction.
//! Other tables are never read or written; a packet we accept may still be dropped by one of them.
//!
//! ```text
//!   guest ──> the host            DHCP, DNS on the gateway, ICMP; else refused
//!   guest ──> 169.254.0.0/16      metadata, through the mesh's interface; else refused
//!   guest ──> anywhere else       yes; under the host's address where nobody would know the way back
//!   anywhere ──> guest            answers; guests of other nodes and laptops, through the mesh; networks in no_masquerade
//!   mesh ──> the host             DNS on the gateway, ICMP; else refused
//!   mesh ──> anywhere else        the mesh; else refused: joining it gives no way into a node's own networks
//! ```
//!
//! What others have at 169.254.0.0/16 (the metadata of the cloud this host is in, its credentials) is the host's alone.
//!
//! Filters run a little before other tables' (`filter - 5`), so that what is refused here is refused with an answer.

use super::{
    NetworkError,
    layout::{MESH, METADATA, NetworkLayout},
};
use askama::Template;
use ipnet::Ipv4Net;
use std::{net::Ipv4Addr, process::Stdio, time::Duration};
use tokio::{io::AsyncWriteExt, process::Command};

/// nft takes milliseconds; when another program holds its lock, seconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// Addresses of one wire, which no router passes on (RFC 3927, 2.7). Clouds keep more there than metadata.
const LINK_LOCAL: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 0, 0), 16);

/// The first line makes the table, so that the second finds one to delete; the kernel sees only the whole.
#[derive(Debug, Template)]
#[template(
    ext = "txt",
    source = r#"table inet waifud
delete table inet waifud
table inet waifud {
	set direct {
		type ipv4_addr
		flags interval
		auto-merge
		elements = { {% for net in direct %}{% if !loop.first %}, {% endif %}{{ net }}{% endfor %} }
	}
{%- if !friends.is_empty() %}
	set friends {
		type ipv4_addr
		flags interval
		auto-merge
		elements = { {% for net in friends %}{% if !loop.first %}, {% endif %}{{ net }}{% endfor %} }
	}
{%- endif %}
	chain input {
		type filter hook input priority filter - 5; policy accept;
		iifname "{{ bridge }}" jump guest_to_host
		iifname "{{ mesh }}" jump mesh_to_host
	}
	chain guest_to_host {
		ct state established,related accept
		udp sport 68 udp dport 67 accept
		meta nfproto != ipv4 drop
		ip saddr != {{ subnet }} drop
		ip daddr {{ gateway }} udp dport 53 accept
		ip daddr {{ gateway }} tcp dport 53 accept
		ip protocol icmp accept
		reject with icmpx admin-prohibited
	}
	chain mesh_to_host {
		ct state established,related accept
		meta nfproto != ipv4 drop
		ip saddr != {{ cluster }} drop
		ip daddr {{ gateway }} udp dport 53 accept
		ip daddr {{ gateway }} tcp dport 53 accept
		ip protocol icmp accept
		reject with icmpx admin-prohibited
	}
	chain clamp {
		type filter hook forward priority mangle; policy accept;
		oifname "{{ mesh }}" tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu
		iifname "{{ mesh }}" tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu
	}
	chain forward {
		type filter hook forward priority filter - 5; policy accept;
		iifname "{{ bridge }}" goto guest_to_world
		oifname "{{ bridge }}" goto world_to_guest
		iifname "{{ mesh }}" goto mesh_to_world
		oifname "{{ mesh }}" goto world_to_mesh
	}
	chain guest_to_world {
		meta nfproto != ipv4 drop
		ip saddr != {{ subnet }} drop
		ip daddr {{ link_local }} goto guest_to_metadata
		accept
	}
	chain guest_to_metadata {
		oifname "{{ mesh }}" ip daddr {{ metadata }} tcp dport 80 accept
		reject with icmpx admin-prohibited
	}
	chain world_to_guest {
		ct state established,related accept
		iifname "{{ mesh }}" ip saddr {{ cluster }} accept
{%- if !friends.is_empty() %}
		ip saddr @friends accept
{%- endif %}
		reject with icmpx admin-prohibited
	}
	chain mesh_to_world {
		ct state established,related accept
		oifname "{{ mesh }}" ip saddr {{ cluster }} ip daddr {{ cluster }} accept
		reject with icmpx admin-prohibited
	}
	chain world_to_mesh {
		ct state established,related accept
		reject with icmpx admin-prohibited
	}
	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr {{ subnet }} ip daddr != @direct oifname != { "{{ bridge }}", "{{ mesh }}" } masquerade
	}
}
"#
)]
struct Ruleset<'a> {
    bridge: &'a str,
    mesh: &'static str,
    subnet: Ipv4Net,
    cluster: Ipv4Net,
    gateway: Ipv4Addr,
    metadata: Ipv4Addr,
    link_local: Ipv4Net,
    /// Reached under the guest's own address.
    direct: Vec<Ipv4Net>,
    /// May begin conversations with guests.
    friends: &'a [Ipv4Net],
}

/// The ruleset as one transaction for `nft -f`.
pub(super) fn ruleset(layout: &NetworkLayout) -> String {
    // Multicast and broadcast have no way back that masquerade could mend.
    let groups = [Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 4), Ipv4Net::from(Ipv4Addr::BROADCAST)];
    let direct = [layout.cluster].into_iter().chain(layout.no_masquerade.iter().copied()).chain(groups);
    let ruleset = Ruleset {
        bridge: &layout.bridge,
        mesh: MESH,
        subnet: layout.subnet.trunc(),
        cluster: layout.cluster.trunc(),
        gateway: layout.gateway(),
        metadata: METADATA,
        link_local: LINK_LOCAL,
        direct: direct.map(|net| net.trunc()).collect(),
        friends: &layout.no_masquerade,
    };
    // Rendering into memory has nothing to fail on.
    ruleset.render().unwrap_or_default()
}

/// Puts the ruleset in force, in the place of the last one.
pub(super) async fn apply(layout: &NetworkLayout) -> Result<(), NetworkError> {
    nft(&["-f", "-"], &ruleset(layout)).await
}

/// Takes the table away. Guests then reach what the host's other rules let them.
pub(super) async fn remove() -> Result<(), NetworkError> {
    nft(&["-f", "-"], "table inet waifud\ndelete table inet waifud\n").await
}

async fn nft(arguments: &[&str], input: &str) -> Result<(), NetworkError> {
    let failed = |source| NetworkError::Firewall { source };
    let mut child = Command::new("nft")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let mut stdin = child.stdin.take();
    let work = async {
        if let Some(mut stdin) = stdin.take() {
            stdin.write_all(input.as_bytes()).await?;
            stdin.shutdown().await?;
        }
        child.wait_with_output().await
    };
    let output = tokio::time::timeout(PATIENCE, work)
        .await
        .map_err(|_| NetworkError::FirewallHung { after: PATIENCE })?
        .map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).split_whitespace().collect::<Vec<_>>().join(" ");
    Err(NetworkError::Ruleset { said })
}

#[cfg(test)]
mod tests;

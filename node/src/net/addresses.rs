//! The addresses of this host's own interfaces.

use super::{NetworkError, netlink::Netlink};
use ipnet::Ipv4Net;
use std::net::Ipv4Addr;

/// Makes this host answer to `address` on `interface` too, as for questions that systemd-resolved sends through it. Does no harm
/// when it does already.
///
/// # Errors
/// If there is no such interface, or the kernel refuses.
pub async fn reach_by(interface: &str, address: Ipv4Addr) -> Result<(), NetworkError> {
    let failed = |source| NetworkError::Address { address, interface: interface.to_owned(), source };
    let unknown = |error: nix::Error| failed(rtnetlink::Error::NamespaceError(error.to_string()));
    let index = nix::net::if_::if_nametoindex(interface).map_err(unknown)?;
    let netlink = Netlink::open().map_err(failed)?;
    let prefix = Ipv4Net::from(address).prefix_len();
    netlink.address().add(index, address.into(), prefix).replace().execute().await.map_err(failed)
}

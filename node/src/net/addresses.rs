//! The addresses of this host's own interfaces.

use super::NetworkError;
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
    let (connection, handle, _) =
        rtnetlink::new_connection().map_err(|error| failed(rtnetlink::Error::NamespaceError(error.to_string())))?;
    let connection = tokio::spawn(connection);
    let prefix = Ipv4Net::from(address).prefix_len();
    let added = handle.address().add(index, address.into(), prefix).replace().execute().await;
    connection.abort();
    added.map_err(failed)
}

//! The leases that guests took, from libvirt. The `virt` crate has no wrapper for them; all `unsafe` of this room is here.

#![allow(unsafe_code, reason = "libvirt is a C library")]

use std::{
    ffi::{CStr, c_char, c_void},
    net::Ipv4Addr,
    ptr,
};
use virt::{error::Error, network::Network, sys};

/// A lease that is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lease {
    /// The address, as libvirt writes it; none if it is not an IPv4 one.
    pub(super) ip: Option<Ipv4Addr>,
    /// When it ends, in seconds since 1970.
    pub(super) ends: i64,
}

/// All leases of the network.
pub(super) fn leases(network: &Network) -> Result<Vec<Lease>, Error> {
    let mut list: *mut sys::virNetworkDHCPLeasePtr = ptr::null_mut();
    // SAFETY: the network's handle is valid for the call, a null MAC asks for all, and `list` is a local that libvirt points
    // to an array of its own.
    let count = unsafe { sys::virNetworkGetDHCPLeases(network.as_ptr(), ptr::null(), &mut list, 0) };
    let Ok(count) = usize::try_from(count) else { return Err(Error::last_error()) };
    // SAFETY: the array has `count` valid leases until they are freed below; a slice needs a pointer that is not null.
    let found = if count == 0 { &[][..] } else { unsafe { std::slice::from_raw_parts(list, count) } };
    let read = found.iter().map(|lease| {
        // SAFETY: each element points to a lease that libvirt filled in; its text is a C string or null.
        unsafe { Lease { ip: text((**lease).ipaddr).and_then(|ip| ip.parse().ok()), ends: (**lease).expirytime } }
    });
    let read = read.collect();
    for lease in found {
        // SAFETY: each lease is the caller's to free, once.
        unsafe { sys::virNetworkDHCPLeaseFree(*lease) };
    }
    // SAFETY: the array was allocated by libvirt with malloc, and is the caller's to free.
    unsafe { nix::libc::free(list.cast::<c_void>()) };
    Ok(read)
}

/// # Safety
/// The pointer must be null or of a C string that outlives the call.
unsafe fn text(pointer: *const c_char) -> Option<String> {
    if pointer.is_null() {
        return None;
    }
    // SAFETY: as the caller promises.
    unsafe { CStr::from_ptr(pointer) }.to_str().ok().map(str::to_owned)
}

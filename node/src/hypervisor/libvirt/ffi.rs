//! The calls for which the `virt` crate has no wrapper, or one that cannot be used: lifecycle events, lost connections,
//! statistics in bulk (its wrapper leaks every record), a domain's state (its wrapper drops the error), a screen (its wrapper
//! gives a bare number), unplugging without waiting (it has none), and closing (its `Drop` panics). All that is `unsafe` about libvirt is in this file; nothing here decides
//! anything.

#![allow(unsafe_code, reason = "libvirt is a C library")]

use std::{
    ffi::{CStr, CString, c_int, c_uint, c_void},
    mem::ManuallyDrop,
    ops::Deref,
    os::fd::{FromRawFd as _, OwnedFd},
    ptr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use virt::{connect::Connect, domain::Domain, error::Error, sys};

/// Told of every lifecycle event: the domain's UUID and libvirt's number for what happened. Called on the event loop's
/// thread: it must neither block nor call libvirt.
pub(super) type Listener = Box<dyn Fn([u8; 16], u32) + Send + Sync>;

/// A connection that closes itself, without a panic if libvirt objects.
#[derive(Debug)]
pub(super) struct Connection {
    connect: ManuallyDrop<Connect>,
    lifecycle: Option<c_int>,
    lost: Option<Arc<AtomicBool>>,
}

impl Deref for Connection {
    type Target = Connect;

    fn deref(&self) -> &Connect {
        &self.connect
    }
}

impl Connection {
    pub(super) fn new(connect: Connect) -> Self {
        Self { connect: ManuallyDrop::new(connect), lifecycle: None, lost: None }
    }

    /// False as soon as libvirt noticed that the other side is gone. Asks nobody.
    pub(super) fn is_alive(&self) -> bool {
        let lost = self.lost.as_ref().is_some_and(|lost| lost.load(Ordering::Acquire));
        !lost && self.connect.is_alive().unwrap_or(false)
    }

    /// From now on `listener` hears of every domain's lifecycle.
    pub(super) fn listen(&mut self, listener: Listener) -> Result<(), Error> {
        // A box in a box: the outer pointer is thin and fits libvirt's `void *`.
        let opaque = Box::into_raw(Box::new(listener)).cast::<c_void>();
        let callback = on_lifecycle as unsafe extern "C" fn(_, _, _, _, _) -> _;
        // SAFETY: libvirt's API takes every event's callback as a generic function pointer and calls it with the
        // signature that belongs to the event id: for LIFECYCLE that is `virConnectDomainEventCallback`, which is
        // exactly the type of `on_lifecycle`. Function pointers are of one size.
        let generic = unsafe {
            std::mem::transmute::<
                unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, c_int, c_int, *mut c_void) -> c_int,
                unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *mut c_void),
            >(callback)
        };
        // SAFETY: the connection is open; a null domain means all of them; `opaque` stays valid until libvirt calls
        // `free_listener` with it, once, when the callback is deregistered or the connection closed.
        let id = unsafe {
            sys::virConnectDomainEventRegisterAny(
                self.connect.as_ptr(),
                ptr::null_mut(),
                sys::VIR_DOMAIN_EVENT_ID_LIFECYCLE as c_int,
                Some(generic),
                opaque,
                Some(free_listener),
            )
        };
        if id < 0 {
            let error = Error::last_error();
            // SAFETY: nothing was registered, so libvirt keeps no copy of the pointer and will not free it.
            unsafe { free_listener(opaque) };
            return Err(error);
        }
        self.lifecycle = Some(id);
        Ok(())
    }

    /// From now on [`Self::is_alive`] knows of a lost connection at once, keep-alive timeouts included.
    pub(super) fn notice_loss(&mut self) -> Result<(), Error> {
        let lost = Arc::new(AtomicBool::new(false));
        let opaque = Arc::into_raw(Arc::clone(&lost)).cast_mut().cast::<c_void>();
        // SAFETY: the connection is open; `opaque` is one strong count of the flag, which libvirt gives back by calling
        // `free_flag` once, when the callback is unregistered.
        let registered = unsafe {
            sys::virConnectRegisterCloseCallback(self.connect.as_ptr(), Some(on_close), opaque, Some(free_flag))
        };
        if registered < 0 {
            let error = Error::last_error();
            // SAFETY: nothing was registered, so this count is still ours.
            unsafe { free_flag(opaque) };
            return Err(error);
        }
        self.lost = Some(lost);
        Ok(())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Deregistering asks libvirtd; a dead connection would only add an error.
        let deregister = self.lifecycle.take().filter(|_| self.is_alive());
        // SAFETY: the pointer is the open connection's, and it is given up last. The close callback holds a reference to
        // the connection of its own, so it has to go first or the connection would never be freed.
        let closed = unsafe {
            let connection = self.connect.as_ptr();
            if let Some(id) = deregister {
                sys::virConnectDomainEventDeregisterAny(connection, id);
            }
            if self.lost.take().is_some() {
                sys::virConnectUnregisterCloseCallback(connection, Some(on_close));
            }
            sys::virConnectClose(connection)
        };
        if closed < 0 {
            tracing::warn!(error = Error::last_error().message(), "a libvirt connection could not be closed");
        }
    }
}

/// A domain's handle that frees itself, without a panic if libvirt objects.
#[derive(Debug)]
pub(super) struct Handle(ManuallyDrop<Domain>);

impl Handle {
    pub(super) fn new(domain: Domain) -> Self {
        Self(ManuallyDrop::new(domain))
    }

    /// libvirt's numbers for the state and the reason.
    pub(super) fn state(&self) -> Result<(u32, u32), Error> {
        let (mut state, mut reason) = (0, 0);
        // SAFETY: the handle is valid, and both out-pointers are to locals that live across the call.
        let result = unsafe { sys::virDomainGetState(self.0.as_ptr(), &mut state, &mut reason, 0) };
        if result < 0 { Err(Error::last_error()) } else { Ok((state.cast_unsigned(), reason.cast_unsigned())) }
    }
}

impl Handle {
    /// A new connection to the domain's first screen, that asks for no password: whoever has it was let in already.
    pub(super) fn screen(&self) -> Result<OwnedFd, Error> {
        // SAFETY: the handle is valid for the call.
        let fd = unsafe {
            sys::virDomainOpenGraphicsFD(self.0.as_ptr(), 0, sys::VIR_DOMAIN_OPEN_GRAPHICS_SKIPAUTH as c_uint)
        };
        if fd < 0 {
            return Err(Error::last_error());
        }
        // SAFETY: libvirt made this descriptor for the caller, who alone has it and is to close it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// From now on the agent in this guest has so many seconds for an answer.
    pub(super) fn limit_agent(&self, seconds: c_int) -> Result<(), Error> {
        // SAFETY: the handle is valid for the call.
        let result = unsafe { sys::virDomainAgentSetResponseTimeout(self.0.as_ptr(), seconds, 0) };
        if result < 0 { Err(Error::last_error()) } else { Ok(()) }
    }
}

impl Deref for Handle {
    type Target = Domain;

    fn deref(&self) -> &Domain {
        &self.0
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: the handle holds one reference, which is given back here and not used again.
        if unsafe { sys::virDomainFree(self.0.as_ptr()) } < 0 {
            tracing::warn!(error = Error::last_error().message(), "a libvirt domain handle could not be freed");
        }
    }
}

impl Handle {
    /// Asks the guest to let go of the device that libvirt calls so. Returns when it was asked.
    pub(super) fn unplug(&self, alias: &str) -> Result<(), Error> {
        // A name of libvirt's own has no null in it; one with is nobody's.
        let Ok(alias) = CString::new(alias) else { return Ok(()) };
        // SAFETY: the handle and the text are valid for the call.
        let result = unsafe {
            sys::virDomainDetachDeviceAlias(self.0.as_ptr(), alias.as_ptr(), sys::VIR_DOMAIN_AFFECT_LIVE as c_uint)
        };
        if result < 0 { Err(Error::last_error()) } else { Ok(()) }
    }

    /// The disks of a running guest by libvirt's names, and the sizes that the guest sees, in bytes. Does not wait: what cannot
    /// be told at once, because something else is being done with the guest, is left out.
    pub(super) fn disk_sizes(&self) -> Result<Vec<(String, u64)>, Error> {
        let flags = sys::VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT as c_uint;
        let mut list: *mut sys::virDomainStatsRecordPtr = ptr::null_mut();
        // SAFETY: the handle is valid; the array of domains ends with a null, as libvirt wants it, and `list` is a local that
        // libvirt points to an array of its own.
        let count = unsafe {
            let mut domains = [self.0.as_ptr(), ptr::null_mut()];
            sys::virDomainListGetStats(domains.as_mut_ptr(), sys::VIR_DOMAIN_STATS_BLOCK as c_uint, &mut list, flags)
        };
        let records = take_records(list, count)?;
        let Some(record) = records.first() else { return Ok(Vec::new()) };
        let disks = 0..record.get("block.count").unwrap_or(0);
        let read = |n| {
            Some((record.text(&format!("block.{n}.name"))?.to_owned(), record.get(&format!("block.{n}.capacity"))?))
        };
        Ok(disks.filter_map(read).collect())
    }
}

/// One domain's statistics, and a handle to ask more.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) handle: Handle,
    pub(super) uuid: [u8; 16],
    values: Vec<(String, Value)>,
}

/// A statistic: whole numbers that are not negative, and texts; others are of no use here.
#[derive(Debug)]
enum Value {
    Number(u64),
    Text(String),
}

impl Record {
    /// A value by libvirt's name for it, such as `state.state`.
    pub(super) fn get(&self, name: &str) -> Option<u64> {
        self.find(name).and_then(|value| if let Value::Number(number) = value { Some(*number) } else { None })
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.find(name).and_then(|value| if let Value::Text(text) = value { Some(text.as_str()) } else { None })
    }

    fn find(&self, name: &str) -> Option<&Value> {
        self.values.iter().find(|(n, _)| n == name).map(|(_, value)| value)
    }
}

/// The statistics of all domains in one request.
pub(super) fn statistics(connect: &Connect, what: u32, flags: u32) -> Result<Vec<Record>, Error> {
    let mut list: *mut sys::virDomainStatsRecordPtr = ptr::null_mut();
    // SAFETY: the connection is open, and `list` is a local that libvirt points to an array of its own.
    let count =
        unsafe { sys::virConnectGetAllDomainStats(connect.as_ptr(), what as c_uint, &mut list, flags as c_uint) };
    take_records(list, count)
}

/// Reads what libvirt answered, and gives it back.
fn take_records(list: *mut sys::virDomainStatsRecordPtr, count: c_int) -> Result<Vec<Record>, Error> {
    let Ok(count) = usize::try_from(count) else { return Err(Error::last_error()) };
    // SAFETY: the array has `count` valid records until it is freed below; a slice needs a pointer that is not null.
    let records = if count == 0 { &[][..] } else { unsafe { std::slice::from_raw_parts(list, count) } };
    let read = records
        .iter()
        // SAFETY: each element points to a record of this array.
        .filter_map(|record| unsafe { read_record(&**record) })
        .collect();
    // SAFETY: `list` came from libvirt and is not used again; the handles taken out of it have references of their own.
    unsafe { sys::virDomainStatsRecordListFree(list) };
    Ok(read)
}

/// # Safety
/// The record must be one that libvirt filled in and has not freed.
unsafe fn read_record(record: &sys::virDomainStatsRecord) -> Option<Record> {
    let mut uuid = [0; 16];
    // SAFETY: the record's domain is valid and `uuid` has VIR_UUID_BUFLEN (16) bytes. The reference that is added belongs
    // to the `Domain` made from the pointer, which gives it back.
    let handle = unsafe {
        if sys::virDomainGetUUID(record.dom, uuid.as_mut_ptr()) < 0 || sys::virDomainRef(record.dom) < 0 {
            return None;
        }
        Handle::new(Domain::from_ptr(record.dom))
    };
    let count = usize::try_from(record.nparams).unwrap_or(0);
    // SAFETY: the record has `nparams` parameters; a slice needs a pointer that is not null.
    let params = if count == 0 { &[][..] } else { unsafe { std::slice::from_raw_parts(record.params, count) } };
    // SAFETY: each parameter was filled in by libvirt.
    let values = params.iter().filter_map(|param| unsafe { read_value(param) }).collect();
    Some(Record { handle, uuid, values })
}

/// A parameter of a kind that is of use here.
///
/// # Safety
/// The parameter must be one that libvirt filled in.
unsafe fn read_value(param: &sys::virTypedParameter) -> Option<(String, Value)> {
    let kind = u32::try_from(param.type_).ok()?;
    // SAFETY: `type` says which member of the union was written.
    let value = unsafe {
        match kind {
            sys::VIR_TYPED_PARAM_INT => Value::Number(u64::try_from(param.value.i).ok()?),
            sys::VIR_TYPED_PARAM_UINT => Value::Number(u64::from(param.value.ui)),
            sys::VIR_TYPED_PARAM_LLONG => Value::Number(u64::try_from(param.value.l).ok()?),
            sys::VIR_TYPED_PARAM_ULLONG => Value::Number(param.value.ul),
            // A C string of libvirt's, that lives as long as the parameter.
            sys::VIR_TYPED_PARAM_STRING => Value::Text(CStr::from_ptr(param.value.s).to_str().ok()?.to_owned()),
            _ => return None,
        }
    };
    // SAFETY: `field` is a fixed array in which libvirt wrote a C string with its terminator.
    let name = unsafe { CStr::from_ptr(param.field.as_ptr()) };
    Some((name.to_str().ok()?.to_owned(), value))
}

unsafe extern "C" fn on_lifecycle(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    event: c_int,
    _: c_int,
    opaque: *mut c_void,
) -> c_int {
    let mut uuid = [0; 16];
    // SAFETY: libvirt calls this with a domain that is valid for the call; the UUID is in the handle, no request is made.
    let known = unsafe { sys::virDomainGetUUID(domain, uuid.as_mut_ptr()) } == 0;
    // SAFETY: `opaque` is the box that `listen` made; it lives until `free_listener`, which libvirt never calls while a
    // callback runs.
    let listener = unsafe { &*opaque.cast::<Listener>() };
    if known && let Ok(event) = u32::try_from(event) {
        listener(uuid, event);
    }
    0
}

unsafe extern "C" fn free_listener(opaque: *mut c_void) {
    // SAFETY: `opaque` is the box that `listen` made, given back once.
    drop(unsafe { Box::from_raw(opaque.cast::<Listener>()) });
}

unsafe extern "C" fn on_close(_: sys::virConnectPtr, reason: c_int, opaque: *mut c_void) {
    // SAFETY: `opaque` is the flag's count that `notice_loss` gave away; it lives until `free_flag`.
    let lost = unsafe { &*opaque.cast::<AtomicBool>() };
    lost.store(true, Ordering::Release);
    tracing::warn!(reason, "the connection to libvirt was lost");
}

unsafe extern "C" fn free_flag(opaque: *mut c_void) {
    // SAFETY: `opaque` is one strong count of an `Arc<AtomicBool>`, given back once.
    drop(unsafe { Arc::from_raw(opaque.cast::<AtomicBool>().cast_const()) });
}

//! One open connection, and what is done with it. Everything here blocks; it runs on a [lane](super::lane)'s thread only.
//!
//! A session never touches a domain before it has read its mark and found it to be of its own cluster.

use super::{
    event_loop,
    explain::{cause, is},
    ffi::{Connection, Handle, Listener, statistics},
    live::{Description, digest},
    state::domain_state,
};
use crate::{
    faults::lock,
    hypervisor::{
        Cause, Domain, DomainSpec, DomainState, DomainType, HypervisorError, Live, LiveDisk, Mark, domain_xml,
        mark::{NAMESPACE, PREFIX},
    },
};
use quick_xml::events::Event;
use std::{
    collections::HashMap,
    net::Ipv4Addr,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};
use uuid::Uuid;
use virt::{
    connect::Connect,
    error::{Error, ErrorNumber},
    sys,
};
use waifud_model::{
    ids::{ClusterId, VmId},
    size::ByteSize,
};

pub(super) type Result<T> = std::result::Result<T, HypervisorError>;

/// Keep-alive: a libvirtd that is silent for this many seconds is asked, and given up after so many questions.
const KEEP_ALIVE: (i32, u32) = (5, 3);

/// How long the agent in a guest may take, in seconds.
const AGENT_S: i32 = 2;

/// What is not among the answers of a bulk request: each domain's mark, remembered until its definition changes. None is
/// remembered too: a domain whose name is an id but that is not ours. For listings only; before a domain is touched its
/// mark is read afresh.
pub(super) type Marks = Arc<Mutex<HashMap<VmId, Option<Marked>>>>;

/// A mark, and whether it is in a definition that survives the guest's stop.
#[derive(Debug, Clone)]
pub(super) struct Marked {
    pub(super) mark: Mark,
    pub(super) persistent: bool,
}

impl Marked {
    fn domain(self, state: DomainState) -> Domain {
        let Mark { vm, generation, started, since, booted, cloud_init_done, ip, .. } = self.mark;
        let defined = self.persistent.then_some(generation);
        let (edited, disks, live) = (false, Vec::new(), None);
        Domain { vm, state, defined, started, since, ip, booted, cloud_init_done, edited, disks, live }
    }
}

/// An open connection.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) connection: Connection,
    cluster: ClusterId,
    /// libvirt's mock driver knows only its own type of domain, and fewer flags.
    pub(super) mock: bool,
    marks: Marks,
}

/// The VM a UUID belongs to, if it has the shape of ours. Most foreign domains end here.
pub(super) fn vm_of(uuid: [u8; 16]) -> Option<VmId> {
    Uuid::from_bytes(uuid).to_string().parse().ok()
}

impl Session {
    /// Connects. With a listener, lifecycle events go there.
    pub(super) fn open(
        uri: &str,
        cluster: ClusterId,
        marks: Marks,
        listener: Option<Listener>,
    ) -> std::result::Result<Self, Cause> {
        event_loop::start()?;
        let mut connection = Connection::new(Connect::open(Some(uri)).map_err(|e| cause(&e))?);
        let unsupported = |e: Error| if is(&e, ErrorNumber::NoSupport) { Ok(()) } else { Err(cause(&e)) };
        connection.set_keep_alive(KEEP_ALIVE.0, KEEP_ALIVE.1).or_else(unsupported)?;
        connection.notice_loss().or_else(unsupported)?;
        if let Some(listener) = listener {
            connection.listen(listener).map_err(|e| cause(&e))?;
        }
        // Definitions may have changed while nobody listened.
        lock(&marks).clear();
        Ok(Self { connection, cluster, mock: uri.starts_with("test:"), marks })
    }

    pub(super) fn is_alive(&self) -> bool {
        self.connection.is_alive()
    }

    pub(super) fn list(&self) -> Result<Vec<Domain>> {
        let what = "list the domains";
        let records = statistics(&self.connection, sys::VIR_DOMAIN_STATS_STATE, 0).map_err(|e| failed(what, &e))?;
        let mut domains = Vec::new();
        for record in records {
            let Some(vm) = vm_of(record.uuid) else { continue };
            let Some(marked) = self.remembered(vm, &record.handle)? else { continue };
            let number = |name| record.get(name).and_then(|n| u32::try_from(n).ok());
            // The bulk answer leaves out what it could not get; one question more, then.
            let state = match (number("state.state"), number("state.reason")) {
                (Some(state), Some(reason)) => domain_state(state, reason),
                _ => match record.handle.state() {
                    Ok((state, reason)) => domain_state(state, reason),
                    Err(e) if is(&e, ErrorNumber::NoDomain) => continue,
                    Err(e) => return Err(refused("look at", vm, &e)),
                },
            };
            domains.push(marked.domain(state));
        }
        domains.sort_by_key(|domain| domain.vm);
        Ok(domains)
    }

    pub(super) fn find(&self, vm: VmId) -> Result<Option<Domain>> {
        match self.ours(vm) {
            Ok((handle, marked)) => match self.look_closely(&handle, marked) {
                // It went meanwhile.
                Err(e) if is(&e, ErrorNumber::NoDomain) => Ok(None),
                Err(e) => Err(refused("look at", vm, &e)),
                Ok((domain, definition)) => {
                    let unread = |source| HypervisorError::Refused { what: "look at", vm, source };
                    let definition = Description::parse(&definition).map_err(unread)?;
                    let disks = definition.disks().into_iter();
                    let disks = disks.filter_map(|(_, disk)| disk.path().map(Path::to_owned)).collect();
                    Ok(Some(Domain { disks, ..domain }))
                }
            },
            Err(HypervisorError::NoDomain(_) | HypervisorError::Foreign(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The domain, whether its definition is still ours, and what its guest has; and the definition.
    fn look_closely(&self, handle: &Handle, marked: Marked) -> std::result::Result<(Domain, String), Error> {
        let (state, reason) = handle.state()?;
        // Of a guest that runs without one it is what it would be.
        let definition = handle.xml_desc(sys::VIR_DOMAIN_XML_INACTIVE)?;
        let ours = marked.mark.digest.filter(|_| marked.persistent);
        let edited = ours.is_some_and(|ours| digest(&definition) != ours);
        let domain = Domain { edited, ..marked.domain(domain_state(state, reason)) };
        if !domain.state.is_active() {
            return Ok((domain, definition));
        }
        // A running guest's description keeps the mark of the definition that it was started from.
        let Some(started_from) = self.read_mark(domain.vm, handle, sys::VIR_DOMAIN_AFFECT_LIVE)? else {
            return Ok((domain, definition));
        };
        let live = self.live(handle, &started_from)?;
        Ok((Domain { booted: started_from.boot, live, ..domain }, definition))
    }

    /// What the guest has; none if it cannot be told just now.
    fn live(&self, handle: &Handle, started_from: &Mark) -> std::result::Result<Option<Live>, Error> {
        let vm = started_from.vm;
        let guest = match Description::parse(&handle.xml_desc(0)?) {
            Ok(guest) if guest.is_active() => guest,
            Ok(_) => return Ok(None),
            Err(error) => {
                tracing::warn!(%vm, %error, "what the guest has is not known");
                return Ok(None);
            }
        };
        let sizes = if self.mock { Vec::new() } else { handle.disk_sizes()? };
        let mut disks = Vec::new();
        for (slot, disk) in guest.disks() {
            let size = sizes.iter().find(|(name, _)| *name == disk.target.dev).map(|(_, size)| *size);
            // The mock driver's disks have no size. Another's is missing while something else is done with the guest.
            let (Some(size), Some(path)) = (size.or(self.mock.then_some(0)), disk.path()) else { return Ok(None) };
            disks.push(LiveDisk { slot, size: ByteSize::bytes(size), path: path.to_owned() });
        }
        Ok(Some(Live {
            cpus: guest.cpus(),
            memory: guest.memory(),
            disks,
            cd: guest.drive().and_then(|drive| drive.path()).map(Path::to_owned),
            cards: guest.cards(),
            firmware: started_from.firmware,
            cpu_model: started_from.cpu_model.clone(),
            smbios: guest.smbios(),
            seed: guest.has_seed(),
        }))
    }

    pub(super) fn agent_addresses(&self, vm: VmId) -> Result<Vec<Ipv4Addr>> {
        let (handle, _) = self.ours(vm)?;
        // Asking an agent that is not there would be an error in libvirtd's own log each time.
        match handle.xml_desc(0) {
            Ok(xml) if has_agent(&xml) => {}
            Ok(_) => return Ok(Vec::new()),
            Err(e) => return Err(refused("look at", vm, &e)),
        }
        // Without a limit of its own libvirt waits for ever for an agent that is there and hangs.
        handle.limit_agent(AGENT_S).map_err(|e| refused("ask the agent of", vm, &e))?;
        let told = handle.interface_addresses(sys::VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT, 0);
        let interfaces = match told {
            Ok(interfaces) => interfaces,
            // No agent, one that does not answer, or a guest that is off: each driver has its own code for it.
            Err(error) => {
                tracing::trace!(%vm, error = error.message(), "no agent answers");
                return Ok(Vec::new());
            }
        };
        let addresses = interfaces.into_iter().flat_map(|interface| interface.addrs);
        Ok(addresses.filter_map(|address| address.addr.parse().ok()).collect())
    }

    pub(super) fn define(&self, spec: &DomainSpec) -> Result<()> {
        let before = match self.ours(spec.vm) {
            Ok((handle, marked)) => {
                show_title(&handle, spec).map_err(|e| refused("name", spec.vm, &e))?;
                Some(marked.mark)
            }
            Err(HypervisorError::NoDomain(_)) => None,
            Err(error) => return Err(error),
        };
        let kind = if self.mock { DomainType::Test } else { spec.accel.into() };
        let xml = domain_xml(spec, self.cluster, kind, before.as_ref())?;
        let defined = self.connection.define_domain_xml(&xml).map(Handle::new);
        self.forget(spec.vm);
        defined
            .and_then(|handle| {
                // Which guests are on after a boot of the host is not libvirt's to say.
                handle.set_autostart(false)?;
                self.remember_definition(spec.vm, &handle)
            })
            .map_err(|e| refused("define", spec.vm, &e))
    }

    /// Notes in the mark what libvirt made of the definition. Without that nobody would be seen to have changed it.
    fn remember_definition(&self, vm: VmId, handle: &Handle) -> std::result::Result<(), Error> {
        let digest = digest(&handle.xml_desc(sys::VIR_DOMAIN_XML_INACTIVE)?);
        match self.read_mark(vm, handle, sys::VIR_DOMAIN_AFFECT_CONFIG)? {
            Some(mark) => self.write_mark(vm, handle, &Mark { digest: Some(digest), ..mark }),
            // Somebody was faster; the next look shows it.
            None => Ok(()),
        }
    }

    /// The far end of the guest's serial port; none if the guest is off.
    pub(super) fn serial_port(&self, vm: VmId) -> Result<Option<PathBuf>> {
        let what = "find the serial port of";
        let Some(handle) = self.active(what, vm)? else { return Ok(None) };
        match handle.xml_desc(0) {
            Ok(xml) => Ok(serial_port(&xml)),
            Err(e) if is(&e, ErrorNumber::NoDomain) => Ok(None),
            Err(e) => Err(refused(what, vm, &e)),
        }
    }

    /// A new connection to the guest's screen; none if the guest is off.
    pub(super) fn screen(&self, vm: VmId) -> Result<Option<OwnedFd>> {
        let what = "open the screen of";
        let Some(handle) = self.active(what, vm)? else { return Ok(None) };
        handle.screen().map(Some).or_else(|error| {
            // It may have gone off in between, and drivers say that in several ways.
            if self.active(what, vm)?.is_none() { Ok(None) } else { Err(refused(what, vm, &error)) }
        })
    }

    /// The domain if it is one of ours that runs.
    pub(super) fn active(&self, what: &'static str, vm: VmId) -> Result<Option<Handle>> {
        let (handle, _) = match self.ours(vm) {
            Err(HypervisorError::NoDomain(_)) => return Ok(None),
            other => other?,
        };
        match handle.is_active() {
            Ok(active) => Ok(active.then_some(handle)),
            Err(e) if is(&e, ErrorNumber::NoDomain) => Ok(None),
            Err(e) => Err(refused(what, vm, &e)),
        }
    }

    /// The domain and its fresh mark; an error if there is none, or it is not ours.
    pub(super) fn ours(&self, vm: VmId) -> Result<(Handle, Marked)> {
        let handle = match self.connection.lookup_domain_by_uuid_string(&vm.to_string()) {
            Ok(domain) => Handle::new(domain),
            Err(e) if is(&e, ErrorNumber::NoDomain) => return Err(HypervisorError::NoDomain(vm)),
            Err(e) => return Err(refused("look up", vm, &e)),
        };
        match self.mark(vm, &handle) {
            Ok(Some(marked)) => Ok((handle, marked)),
            Ok(None) => Err(HypervisorError::Foreign(vm)),
            Err(e) if is(&e, ErrorNumber::NoDomain) => Err(HypervisorError::NoDomain(vm)),
            Err(e) => Err(refused("read the mark of", vm, &e)),
        }
    }

    /// The mark, if it is of this cluster and this VM. A broken one is nobody's.
    fn mark(&self, vm: VmId, handle: &Handle) -> std::result::Result<Option<Marked>, Error> {
        let persistent = handle.is_persistent()?;
        let which = if persistent { sys::VIR_DOMAIN_AFFECT_CONFIG } else { sys::VIR_DOMAIN_AFFECT_LIVE };
        Ok(self.read_mark(vm, handle, which)?.map(|mark| Marked { mark, persistent }))
    }

    fn read_mark(&self, vm: VmId, handle: &Handle, which: u32) -> std::result::Result<Option<Mark>, Error> {
        match handle.metadata(sys::VIR_DOMAIN_METADATA_ELEMENT.cast_signed(), Some(NAMESPACE), which) {
            Ok(xml) => Ok(Mark::parse(&xml).ok().filter(|mark| mark.cluster == self.cluster && mark.vm == vm)),
            Err(e) if is(&e, ErrorNumber::NoDomainMetadata) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Writes the mark into the definition. A running guest's own description keeps the one it was started with.
    pub(super) fn write_mark(&self, vm: VmId, handle: &Handle, mark: &Mark) -> std::result::Result<(), Error> {
        let written = handle.set_metadata(
            sys::VIR_DOMAIN_METADATA_ELEMENT.cast_signed(),
            Some(&mark.to_bare_xml()),
            Some(PREFIX),
            Some(NAMESPACE),
            sys::VIR_DOMAIN_AFFECT_CONFIG,
        );
        self.forget(vm);
        written.map(drop)
    }

    pub(super) fn remembered(&self, vm: VmId, handle: &Handle) -> Result<Option<Marked>> {
        if let Some(known) = lock(&self.marks).get(&vm) {
            return Ok(known.clone());
        }
        match self.mark(vm, handle) {
            Ok(marked) => {
                lock(&self.marks).insert(vm, marked.clone());
                Ok(marked)
            }
            // It went between the listing and the question.
            Err(e) if is(&e, ErrorNumber::NoDomain) => Ok(None),
            Err(e) => Err(refused("read the mark of", vm, &e)),
        }
    }

    pub(super) fn forget(&self, vm: VmId) {
        lock(&self.marks).remove(&vm);
    }
}

/// True if the domain's description says that somebody in the guest has opened the agent's channel.
pub(super) fn has_agent(xml: &str) -> bool {
    let mut reader = quick_xml::Reader::from_str(xml);
    loop {
        match reader.read_event() {
            Ok(Event::Start(tag) | Event::Empty(tag)) if tag.local_name().as_ref() == b"target" => {
                let is = |name: &str, value: &[u8]| {
                    tag.try_get_attribute(name).ok().flatten().is_some_and(|a| a.value.as_ref() == value)
                };
                if is("name", b"org.qemu.guest_agent.0") && is("state", b"connected") {
                    return true;
                }
            }
            Ok(Event::Eof) | Err(_) => return false,
            Ok(_) => {}
        }
    }
}

/// Where a running domain's description says that its first serial port ends.
fn serial_port(xml: &str) -> Option<PathBuf> {
    let mut reader = quick_xml::Reader::from_str(xml);
    let mut inside = false;
    loop {
        match reader.read_event() {
            Ok(Event::Start(tag)) if tag.local_name().as_ref() == b"serial" => inside = true,
            Ok(Event::End(tag)) if tag.local_name().as_ref() == b"serial" => return None,
            Ok(Event::Start(tag) | Event::Empty(tag)) if inside && tag.local_name().as_ref() == b"source" => {
                let path = tag.try_get_attribute("path").ok().flatten()?;
                return path.unescape_value().ok().map(|path| PathBuf::from(path.as_ref()));
            }
            Ok(Event::Eof) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}

/// A running guest shows its new name at once. That comes before the definition, which is not made twice.
fn show_title(handle: &Handle, spec: &DomainSpec) -> std::result::Result<(), Error> {
    if !handle.is_active()? {
        return Ok(());
    }
    let (kind, title) = (sys::VIR_DOMAIN_METADATA_TITLE.cast_signed(), spec.title.as_str());
    match handle.set_metadata(kind, Some(title), None, None, sys::VIR_DOMAIN_AFFECT_LIVE) {
        // It went off, and takes its title from the definition.
        Err(e) if handle.is_active()? => Err(e),
        _ => Ok(()),
    }
}

pub(super) fn refused(what: &'static str, vm: VmId, error: &Error) -> HypervisorError {
    HypervisorError::Refused { what, vm, source: cause(error) }
}

pub(super) fn failed(what: &'static str, error: &Error) -> HypervisorError {
    HypervisorError::Failed { what, source: cause(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_port_ends_where_the_running_domain_says() {
        let domain = |source: &str| {
            format!(
                "<domain><devices><disk><source path='/x'/></disk><serial type='pty'>{source}<log file='/a' append='on'/>\
                 </serial><console><source path='/dev/pts/9'/></console></devices></domain>"
            )
        };
        assert_eq!(serial_port(&domain("<source path='/dev/pts/7'/>")), Some(PathBuf::from("/dev/pts/7")));
        assert_eq!(serial_port(&domain("")), None, "that of a guest that is off is not known");
        assert_eq!(serial_port("<domain/>"), None);
    }

    #[test]
    fn an_agent_is_there_when_its_channel_is_open() {
        let domain = |state: &str| {
            format!(
                "<domain><devices><channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0' state='{state}'/>\
                 </channel><disk><target dev='vda'/></disk></devices></domain>"
            )
        };
        assert!(has_agent(&domain("connected")));
        assert!(!has_agent(&domain("disconnected")));
        assert!(!has_agent("<domain/>") && !has_agent("<dom"));
    }
}

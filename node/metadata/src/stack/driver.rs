//! The one task that moves packets: it owns the table of connections and all timers.
//!
//! Level-triggered: after every packet, ring and timer the connection's socket is looked at, whatever it was. Must not read or
//! write data, nor wait for anything but its own select.

use super::{
    Limits,
    admission::{Admission, Establishing, Opening},
    connection::{Bell, Connection},
    device::Device,
    entry::{Entry, Phase, Verdict},
    listener::Peer,
    segment,
    stream::Stream,
};
use smoltcp::{
    iface::{Config, Interface, SocketSet},
    wire::{HardwareAddress, IpAddress, IpCidr},
};
use std::{
    collections::{BTreeSet, HashMap},
    net::{Ipv4Addr, SocketAddrV4},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    time::Instant,
};

/// Packets taken at once, before rings and timers get their turn: what 16 connections send in one go.
const BATCH: usize = 64;
/// When smoltcp has something to do now and could have done it, it is asked again after this, not in a circle.
const SOON: Duration = Duration::from_millis(1);

/// The task's state.
pub(super) struct Driver<P> {
    tx: mpsc::Sender<P>,
    accepted: mpsc::Sender<(Stream, Peer)>,
    local: SocketAddrV4,
    started: Instant,
    device: Device<P>,
    interface: Interface,
    table: HashMap<SocketAddrV4, Entry>,
    admission: Admission,
    bell: Arc<Bell>,
    /// When to look at which connection again; each is in it once at the most.
    timers: BTreeSet<(Instant, SocketAddrV4)>,
    /// Connections that have packets to send for which there was no room; each is in it once.
    held_up: Vec<SocketAddrV4>,
}

impl<P: AsRef<[u8]> + From<Vec<u8>>> Driver<P> {
    pub(super) fn new(
        tx: mpsc::Sender<P>,
        accepted: mpsc::Sender<(Stream, Peer)>,
        local: SocketAddrV4,
        limits: Limits,
    ) -> Self {
        let mut device = Device::new();
        let interface = new_interface(&mut device, *local.ip());
        Self {
            tx,
            accepted,
            local,
            started: Instant::now(),
            device,
            interface,
            table: HashMap::new(),
            admission: Admission::new(limits),
            bell: Arc::default(),
            timers: BTreeSet::new(),
            held_up: Vec::new(),
        }
    }

    /// Runs until the channels are closed, or until nobody listens and all streams are gone.
    pub(super) async fn run(mut self, mut rx: mpsc::Receiver<P>) {
        let bell = self.bell.clone();
        let (mut packets, mut rung) = (Vec::with_capacity(BATCH), Vec::new());
        let (tx, accepted) = (self.tx.clone(), self.accepted.clone());
        let sleep = tokio::time::sleep_until(self.started);
        tokio::pin!(sleep);
        let mut listening = true;
        loop {
            let next = self.timers.first().map(|(at, _)| *at);
            // An earlier alarm than needed is harmless, and setting it for each packet is not free.
            if let Some(next) = next
                && (next < sleep.deadline() || sleep.is_elapsed())
            {
                sleep.as_mut().reset(next);
            }
            tokio::select! {
                taken = rx.recv_many(&mut packets, BATCH) => {
                    if taken == 0 {
                        break;
                    }
                    packets.drain(..).for_each(|packet| self.packet(packet));
                }
                room = tx.reserve(), if !self.device.outgoing.is_empty() => match (room, self.device.outgoing.pop_front()) {
                    (Ok(room), Some(packet)) => room.send(packet.into()),
                    (Ok(_), None) => {}
                    (Err(_), _) => break,
                },
                () = bell.rang() => {}
                () = &mut sleep, if next.is_some() => {}
                () = accepted.closed(), if listening => listening = false,
            }
            bell.take(&mut rung);
            rung.drain(..).for_each(|peer| self.attend(peer, None));
            self.due();
            if !self.flush() || (!listening && self.table.is_empty()) {
                break;
            }
        }
        // Whoever still has a stream must not wait for packets that cannot come.
        for entry in self.table.values() {
            entry.connection.lock().tcp().abort();
        }
    }

    /// Takes one packet from outside.
    fn packet(&mut self, packet: P) {
        if self.device.is_overfull() {
            return;
        }
        let Some(segment) = segment::read(packet.as_ref(), self.local) else { return };
        match self.table.get(&segment.peer) {
            // Its former connection is over and only waits for what may be late; the new one wants the place.
            Some(entry) if segment.opens && entry.is_over() => self.remove(segment.peer),
            Some(_) => return self.attend(segment.peer, Some(packet)),
            None => {}
        }
        if segment.opens {
            self.open(segment.peer, packet);
        } else {
            // smoltcp says RST to what belongs to no socket: after a restart, guests do not wait for a connection of the past.
            self.device.incoming = Some(packet);
            let now = self.now();
            self.interface.poll(now, &mut self.device, &mut SocketSet::new(Vec::new()));
        }
    }

    fn open(&mut self, peer: SocketAddrV4, packet: P) {
        if self.accepted.is_closed() {
            return;
        }
        match self.admission.opening(peer) {
            Opening::Take => {}
            Opening::Instead(oldest) => self.remove(oldest),
            Opening::Refuse => return,
        }
        let Some(connection) = Connection::listening(peer, self.local) else { return };
        let now = Instant::now();
        // A fresh seed for each initial sequence number: from one, smoltcp's generator would tell the next.
        self.interface = new_interface(&mut self.device, *self.local.ip());
        self.admission.opened(peer, now);
        self.table.insert(peer, Entry::new(connection, now));
        self.attend(peer, Some(packet));
    }

    /// Looks at a connection, after handing it a packet if there is one, and does what follows.
    fn attend(&mut self, peer: SocketAddrV4, packet: Option<P>) {
        let Some(entry) = self.table.get(&peer) else { return };
        Bell::heard(&entry.connection);
        self.device.incoming = packet;
        if !self.drive(peer) {
            return self.remove(peer);
        }
        let verdict = match self.table.get_mut(&peer) {
            Some(entry) => entry.judge(Instant::now()),
            None => return,
        };
        match verdict {
            Verdict::Keep => {}
            Verdict::Establish => self.establish(peer),
            Verdict::Linger => {
                if let Some(entry) = self.table.get_mut(&peer) {
                    (entry.phase, entry.since) = (Phase::Lingering, Instant::now());
                }
            }
            Verdict::Remove => return self.remove(peer),
            Verdict::Reset => return self.reset(peer),
        }
        self.rearm(peer);
    }

    /// Lets smoltcp work on a connection. False if that panicked: smoltcp does where sequence numbers contradict each other,
    /// and nobody but the sender of such packets shall notice.
    fn drive(&mut self, peer: SocketAddrV4) -> bool {
        let now = self.now();
        let Some(entry) = self.table.get(&peer) else { return false };
        let mut socket = entry.connection.lock();
        let (interface, device) = (&mut self.interface, &mut self.device);
        let worked = catch_unwind(AssertUnwindSafe(|| {
            interface.poll(now, device, &mut socket.set);
        }));
        if worked.is_err() {
            tracing::error!(%peer, "the TCP stack failed on a packet; its connection is dropped");
            socket.tcp().abort();
            drop(socket);
            self.device.incoming = None;
            self.interface = new_interface(&mut self.device, *self.local.ip());
        }
        worked.is_ok()
    }

    /// Hands a connection over, in whatever state it has reached by now: a short request may have ended already.
    fn establish(&mut self, peer: SocketAddrV4) {
        match self.admission.establishing(peer) {
            Establishing::Take => {}
            Establishing::InsteadOfOneOf(source) => self.reset_one_of(source),
            Establishing::Refuse => return self.reset(peer),
        }
        let Some(entry) = self.table.get_mut(&peer) else { return };
        let remote = entry.connection.lock().tcp().remote_endpoint();
        let Some(remote) = remote.map(|end| match end.addr {
            IpAddress::Ipv4(address) => SocketAddrV4::new(address, end.port),
        }) else {
            return self.remove(peer);
        };
        self.admission.established(peer, entry.since);
        (entry.phase, entry.since) = (Phase::Open, Instant::now());
        let stream = Stream::new(entry.connection.clone(), self.bell.clone());
        // There is room for as many as may be open. If not even so, or if nobody listens, the stream closes as it drops.
        if let Err(TrySendError::Full(_)) = self.accepted.try_send((stream, Peer(remote))) {
            tracing::warn!(%peer, "nobody accepts connections");
        }
    }

    /// The source's oldest connection makes room.
    fn reset_one_of(&mut self, source: Ipv4Addr) {
        let of_source =
            self.table.iter().filter(|(peer, entry)| *peer.ip() == source && entry.phase != Phase::HalfOpen);
        if let Some(peer) = of_source.min_by_key(|(peer, entry)| (entry.since, **peer)).map(|(peer, _)| *peer) {
            self.reset(peer);
        }
    }

    /// Says RST and forgets the connection. Its stream, if it has one, finds it closed.
    fn reset(&mut self, peer: SocketAddrV4) {
        if let Some(entry) = self.table.get(&peer) {
            entry.connection.lock().tcp().abort();
            self.drive(peer);
            self.remove(peer);
        }
    }

    fn remove(&mut self, peer: SocketAddrV4) {
        let Some(entry) = self.table.remove(&peer) else { return };
        if let Some(at) = entry.wake_at {
            self.timers.remove(&(at, peer));
        }
        match entry.phase {
            Phase::HalfOpen => self.admission.half_open_ended(peer, entry.since),
            Phase::Open | Phase::Lingering => self.admission.established_ended(peer),
        }
    }

    /// Sets when to look at a connection again.
    fn rearm(&mut self, peer: SocketAddrV4) {
        let (now, started) = (Instant::now(), self.started);
        let Some(entry) = self.table.get_mut(&peer) else { return };
        let asked = self.interface.poll_at(instant(started, now), &entry.connection.lock().set);
        let mut wake_at = entry.deadline();
        if let Some(asked) = asked {
            let at = started + Duration::from_micros(u64::try_from(asked.total_micros()).unwrap_or(0));
            if at > now {
                wake_at = Some(wake_at.map_or(at, |wake_at| wake_at.min(at)));
            } else if !self.device.is_full() {
                wake_at = Some(now + SOON);
            } else if !entry.held_up {
                entry.held_up = true;
                self.held_up.push(peer);
            }
        }
        if entry.wake_at != wake_at {
            if let Some(old) = entry.wake_at {
                self.timers.remove(&(old, peer));
            }
            if let Some(new) = wake_at {
                self.timers.insert((new, peer));
            }
            entry.wake_at = wake_at;
        }
    }

    /// Looks at all connections whose time has come.
    fn due(&mut self) {
        let now = Instant::now();
        while let Some((at, peer)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, peer));
            if let Some(entry) = self.table.get_mut(&peer) {
                entry.wake_at = None;
            }
            self.attend(peer, None);
        }
    }

    /// Moves packets on to the channel, and lets connections that were held up go on. False if the channel is closed.
    fn flush(&mut self) -> bool {
        loop {
            while !self.device.outgoing.is_empty() {
                match self.tx.try_reserve() {
                    Ok(room) => {
                        if let Some(packet) = self.device.outgoing.pop_front() {
                            room.send(packet.into());
                        }
                    }
                    Err(TrySendError::Full(())) => break,
                    Err(TrySendError::Closed(())) => return false,
                }
            }
            if self.held_up.is_empty() || !self.device.has_drained() {
                return true;
            }
            for peer in std::mem::take(&mut self.held_up) {
                if let Some(entry) = self.table.get_mut(&peer) {
                    entry.held_up = false;
                    self.attend(peer, None);
                }
            }
        }
    }

    fn now(&self) -> smoltcp::time::Instant {
        instant(self.started, Instant::now())
    }
}

fn instant(started: Instant, now: Instant) -> smoltcp::time::Instant {
    let micros = now.saturating_duration_since(started).as_micros();
    smoltcp::time::Instant::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
}

/// smoltcp's side of the tunnel. It keeps nothing of any connection, so it can be made anew at any time.
fn new_interface<P: AsRef<[u8]>>(device: &mut Device<P>, address: Ipv4Addr) -> Interface {
    let mut config = Config::new(HardwareAddress::Ip);
    // Without randomness sequence numbers can be guessed, which only helps who can already spoof addresses.
    config.random_seed = getrandom::u64().unwrap_or_default();
    let mut interface = Interface::new(config, device, smoltcp::time::Instant::ZERO);
    interface.update_ip_addrs(|addresses| {
        // The whole of IPv4 is beyond the tunnel: no routes needed.
        let fits = addresses.push(IpCidr::new(IpAddress::Ipv4(address), 0)).is_ok();
        debug_assert!(fits, "an interface has room for one address");
    });
    interface
}

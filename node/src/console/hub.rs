//! The console of one guest: one reader of its serial port, several viewers, one of whom writes.
//!
//! ```text
//!            ┌───────────── hub (one task) ─────────────┐
//!   guest ──►│ port ─► screen ─► every viewer (bounded) │──► WebSockets
//!         ◄──│ typed ◄─ the viewer in the seat          │◄──
//!            └──────────────────────────────────────────┘
//!   opening ──► open ──(guest off)──► closed, looked for ──(started)──► opening …
//!                 └──(nobody has looked for a while)──► no hub
//! ```
//!
//! In: joins, what viewers type, the guest's output, the hypervisor's events. Out: output to all. It must never wait for one
//! viewer, for a guest that does not read, or for a hypervisor that does not answer: all three are polled side by side. What
//! the guest writes goes into its log whether or not there is a hub.

use super::{
    logs::SerialLogs,
    opening::{self, Open, Opened, Opening},
    screen::Screen,
    viewer::{State, Viewer},
};
use crate::hypervisor::{DomainEvent, Happening, Hypervisor, HypervisorError, Line};
use bytes::{Buf as _, Bytes, BytesMut};
use std::{
    fmt,
    future::{pending, poll_fn},
    io,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf},
    sync::{broadcast, mpsc, oneshot},
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;
use waifud_api::console::{FromConsole, Seat, ToConsole};
use waifud_model::{ids::VmId, name::NodeName};
use waifud_web::console::{Attached, ConsoleError, Heard, Viewer as Who};

/// What is read of a port at once.
const CHUNK: usize = 8 << 10;
/// Viewers of one guest. More people than this do not look at one console; programs that lost their way do.
pub(super) const VIEWERS: usize = 32;
/// How long a hub stays open when the last viewer has gone, so that one who comes back finds the screen as it was.
pub(super) const LINGER: Duration = Duration::from_secs(60);
/// How often a guest that is off is looked for while somebody waits: its start is heard of, unless that was lost.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// How often it is looked whether a viewer that is behind has room again, or one whose typing waits has left.
const TEND: Duration = Duration::from_millis(100);

/// Somebody wants to look.
#[derive(Debug)]
pub(super) struct Join {
    pub(super) who: Who,
    pub(super) reply: oneshot::Sender<Result<Attached, ConsoleError>>,
}

/// What a hub works with.
#[derive(Debug, Clone)]
pub(super) struct Needs {
    pub(super) vm: VmId,
    pub(super) node: NodeName,
    pub(super) hypervisor: Arc<dyn Hypervisor>,
    pub(super) logs: SerialLogs,
    pub(super) stop: CancellationToken,
}

/// See the module.
pub(super) struct Hub {
    needs: Needs,
    joins: mpsc::Receiver<Join>,
    events: broadcast::Receiver<DomainEvent>,
    port: Option<Port>,
    /// How far in the guest's log its output was shown: what comes before a new port is read from there.
    seen: Option<u64>,
    opening: Option<Opening>,
    /// Those who wait for the opening.
    waiting: Vec<Join>,
    look_at: Instant,
    screen: Screen,
    viewers: Vec<Viewer>,
    next_id: u64,
    /// Whose typing is looked at first, so that one who floods holds up nobody.
    turn: usize,
    writer: Option<u64>,
    /// Typed, and not yet taken by the guest.
    typed: BytesMut,
    empty_since: Instant,
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("vm", &self.needs.vm).field("viewers", &self.viewers.len()).finish_non_exhaustive()
    }
}

struct Port {
    from_guest: ReadHalf<Box<dyn Line>>,
    to_guest: WriteHalf<Box<dyn Line>>,
}

/// What woke the hub.
enum Wake {
    Join(Option<Join>),
    Heard(u64, Option<Heard>),
    Read(io::Result<Bytes>),
    Written(io::Result<usize>),
    Opened(Opened),
    Event(Result<DomainEvent, broadcast::error::RecvError>),
    Look,
    Tend,
    Stop,
}

impl Hub {
    /// Opens nothing before the first viewer.
    pub(super) fn new(needs: Needs, joins: mpsc::Receiver<Join>) -> Self {
        let events = needs.hypervisor.events();
        let now = Instant::now();
        Self {
            needs,
            joins,
            events,
            port: None,
            seen: None,
            opening: None,
            waiting: Vec::new(),
            look_at: now,
            screen: Screen::default(),
            viewers: Vec::new(),
            next_id: 0,
            turn: 0,
            writer: None,
            typed: BytesMut::new(),
            empty_since: now,
        }
    }

    /// Works until nobody has looked for a while, or the node stops.
    pub(super) async fn run(mut self) {
        loop {
            match self.wake().await {
                Wake::Join(Some(join)) => self.join(join),
                Wake::Heard(id, Some(heard)) => self.heard(id, heard),
                Wake::Heard(id, None) => self.left(id),
                Wake::Read(Ok(bytes)) if !bytes.is_empty() => self.show(&bytes),
                Wake::Read(end) => self.off(end.err()),
                Wake::Written(Ok(count)) => self.typed.advance(count),
                // The reader finds the end too, and says it.
                Wake::Written(Err(_)) => self.typed.clear(),
                Wake::Opened(opened) => self.opened(opened),
                Wake::Event(event) => self.event(event),
                Wake::Look => self.open(),
                Wake::Tend => {}
                Wake::Join(None) | Wake::Stop => return,
            }
            self.tend();
            if self.viewers.is_empty() && self.port.is_none() && self.opening.is_none() {
                return;
            }
        }
    }

    async fn wake(&mut self) -> Wake {
        let looks = self.port.is_none() && self.opening.is_none();
        let empty = self.viewers.is_empty();
        let Self { needs, joins, events, port, opening, look_at, viewers, turn, writer, typed, empty_since, .. } = self;
        let (reads, writes) = match port {
            Some(Port { from_guest, to_guest }) => (Some(from_guest), Some(to_guest)),
            None => (None, None),
        };
        let stuck = !typed.is_empty();
        let read = async {
            let Some(port) = reads else { return pending().await };
            let mut chunk = BytesMut::with_capacity(CHUNK);
            port.read_buf(&mut chunk).await.map(|_| chunk.freeze())
        };
        let write = async {
            match writes {
                Some(port) if stuck => port.write(typed).await,
                _ => pending().await,
            }
        };
        let opened = async {
            match opening {
                Some(opening) => opening.await,
                None => pending().await,
            }
        };
        let tends = stuck || viewers.iter().any(Viewer::is_behind);
        let deaf = writer.filter(|_| stuck);
        tokio::select! {
            () = needs.stop.cancelled() => Wake::Stop,
            join = joins.recv() => Wake::Join(join),
            (id, heard) = poll_fn(|cx| next_heard(viewers, turn, deaf, cx)) => Wake::Heard(id, heard),
            read = read => Wake::Read(read),
            written = write => Wake::Written(written),
            opened = opened => Wake::Opened(opened),
            event = events.recv() => Wake::Event(event),
            () = sleep_until(*look_at), if looks => Wake::Look,
            () = sleep(TEND), if tends => Wake::Tend,
            () = sleep_until(*empty_since + LINGER), if empty => Wake::Stop,
        }
    }

    fn join(&mut self, join: Join) {
        if self.viewers.len() + self.waiting.len() >= VIEWERS {
            // Nobody is left who would miss the answer.
            let _ = join.reply.send(Err(ConsoleError::Full(VIEWERS)));
        } else if self.port.is_some() {
            self.admit(join);
        } else {
            self.waiting.push(join);
            self.open();
        }
    }

    fn admit(&mut self, Join { who, reply }: Join) {
        let id = self.next_id;
        self.next_id += 1;
        let wants = !who.read_only && (who.take || self.writer.is_none());
        let (viewer, ends) = Viewer::new(id, who);
        if reply.send(Ok(ends)).is_err() {
            return;
        }
        self.viewers.push(viewer);
        let hello = |hub: &Self, viewer: &Viewer, seat| FromConsole::Hello {
            vm: viewer.who.vm.clone(),
            node: hub.needs.node.clone(),
            seat,
        };
        if wants {
            self.writer = Some(id);
            self.typed.clear();
            self.tell_seats(Some(id));
        }
        let seat = self.seat(id);
        if let Some(mut viewer) = self.viewers.pop() {
            viewer.welcome(hello(self, &viewer, seat), &mut self.screen);
            self.viewers.push(viewer);
        }
    }

    fn heard(&mut self, id: u64, heard: Heard) {
        let Some(viewer) = self.viewers.iter_mut().find(|viewer| viewer.id == id) else { return };
        let may = !viewer.who.read_only;
        match heard {
            Heard::Bytes(bytes) if self.writer == Some(id) => self.type_in(&bytes),
            Heard::Bytes(bytes) if may && self.writer.is_none() => {
                self.take_seat(id);
                self.type_in(&bytes);
            }
            Heard::Bytes(_) => {
                // Once for each holder of the seat: not for every key.
                if !std::mem::replace(&mut viewer.warned, true) {
                    let seat = self.seat(id);
                    self.tell(id, FromConsole::Seat { seat });
                }
            }
            Heard::Told(ToConsole::Take) if may => self.take_seat(id),
            Heard::Told(ToConsole::Resize(size)) => {
                viewer.size = Some(size);
                if self.writer == Some(id) {
                    self.screen.resize(size);
                }
            }
            Heard::Told(ToConsole::Take | ToConsole::Other) => {}
        }
    }

    /// What is typed at a guest that is off goes where it would on a real one.
    fn type_in(&mut self, bytes: &[u8]) {
        if self.port.is_some() {
            self.typed.extend_from_slice(bytes);
        }
    }

    fn take_seat(&mut self, id: u64) {
        if self.writer != Some(id) {
            self.writer = Some(id);
            self.typed.clear();
            self.tell_seats(None);
        }
        let size = self.viewers.iter().find(|viewer| viewer.id == id).and_then(|viewer| viewer.size);
        if let Some(size) = size {
            self.screen.resize(size);
        }
    }

    fn left(&mut self, id: u64) {
        self.viewers.retain(|viewer| viewer.id != id);
        if self.writer == Some(id) {
            self.writer = None;
            self.typed.clear();
            self.tell_seats(None);
        }
        if self.viewers.is_empty() {
            self.empty_since = Instant::now();
        }
    }

    fn show(&mut self, bytes: &Bytes) {
        self.seen = self.seen.map(|seen| seen + bytes.len() as u64);
        self.screen.write(bytes);
        for viewer in &mut self.viewers {
            viewer.show(bytes);
        }
    }

    fn off(&mut self, error: Option<io::Error>) {
        if let Some(error) = error {
            tracing::debug!(vm = %self.needs.vm, %error, "a serial port broke off");
        }
        self.port = None;
        self.typed.clear();
        self.look_at = Instant::now() + LOOK_AGAIN;
        self.tell_all(&FromConsole::Power { on: false });
    }

    fn open(&mut self) {
        if self.opening.is_none() && self.port.is_none() {
            let Needs { vm, hypervisor, logs, .. } = self.needs.clone();
            self.opening = Some(Box::pin(opening::open(hypervisor, logs, vm, self.seen)));
        }
    }

    fn opened(&mut self, opened: Opened) {
        self.opening = None;
        self.look_at = Instant::now() + LOOK_AGAIN;
        let refusal = match opened {
            Ok(Some(Open { line, before, at })) => {
                let (from_guest, to_guest) = tokio::io::split(line);
                self.port = Some(Port { from_guest, to_guest });
                self.tell_all(&FromConsole::Power { on: true });
                self.show(&before);
                self.seen = Some(at);
                for join in std::mem::take(&mut self.waiting) {
                    self.admit(join);
                }
                return;
            }
            Ok(None) => None,
            Err(error) => {
                tracing::debug!(vm = %self.needs.vm, error = &error as &dyn std::error::Error, "no serial port");
                Some(error)
            }
        };
        for join in self.waiting.drain(..) {
            let error = match &refusal {
                None => ConsoleError::Off,
                Some(error) => refused(error.clone()),
            };
            let _ = join.reply.send(Err(error));
        }
    }

    fn event(&mut self, event: Result<DomainEvent, broadcast::error::RecvError>) {
        let started = match event {
            Ok(DomainEvent { vm: Some(vm), what }) => vm == self.needs.vm && what == Happening::Started,
            // Anything may have happened.
            Ok(DomainEvent { vm: None, .. }) | Err(broadcast::error::RecvError::Lagged(_)) => true,
            Err(broadcast::error::RecvError::Closed) => false,
        };
        if started && !self.viewers.is_empty() {
            self.open();
        }
    }

    /// Lets those go who have left without a word, and tells those who were behind.
    fn tend(&mut self) {
        let gone: Vec<u64> = self.viewers.iter().filter(|viewer| viewer.is_gone()).map(|viewer| viewer.id).collect();
        for id in gone {
            self.left(id);
        }
        let on = self.port.is_some();
        for n in 0..self.viewers.len() {
            if self.viewers[n].is_behind() {
                let state = State { seat: self.seat(self.viewers[n].id), on };
                self.viewers[n].catch_up(&mut self.screen, state);
            }
        }
    }

    fn seat(&self, of: u64) -> Seat {
        match self.writer {
            None => Seat::Free,
            Some(writer) if writer == of => Seat::Yours,
            Some(writer) => {
                let holder = self.viewers.iter().find(|viewer| viewer.id == writer);
                Seat::Taken { by: holder.map(|viewer| viewer.who.who.clone()).unwrap_or_default() }
            }
        }
    }

    fn tell(&mut self, id: u64, told: FromConsole) {
        if let Some(viewer) = self.viewers.iter_mut().find(|viewer| viewer.id == id) {
            viewer.tell(told);
        }
    }

    fn tell_all(&mut self, told: &FromConsole) {
        for viewer in &mut self.viewers {
            viewer.tell(told.clone());
        }
    }

    /// Tells everybody who may write; but for one, who is told otherwise.
    fn tell_seats(&mut self, but: Option<u64>) {
        let seats: Vec<_> = self.viewers.iter().map(|viewer| self.seat(viewer.id)).collect();
        for (viewer, seat) in self.viewers.iter_mut().zip(seats).filter(|(viewer, _)| Some(viewer.id) != but) {
            viewer.warned = false;
            viewer.tell(FromConsole::Seat { seat });
        }
    }
}

/// What somebody says next; `deaf` is not listened to, for what they typed before still waits.
fn next_heard(
    viewers: &mut [Viewer],
    turn: &mut usize,
    deaf: Option<u64>,
    cx: &mut Context<'_>,
) -> Poll<(u64, Option<Heard>)> {
    let count = viewers.len();
    for n in (0..count).map(|n| (*turn + n) % count) {
        let viewer = &mut viewers[n];
        if Some(viewer.id) == deaf {
            continue;
        }
        if let Poll::Ready(heard) = viewer.poll_heard(cx) {
            *turn = n + 1;
            return Poll::Ready((viewer.id, heard));
        }
    }
    Poll::Pending
}

/// In the words of the web.
pub(super) fn refused(error: HypervisorError) -> ConsoleError {
    if error.is_silence() { ConsoleError::Silent } else { ConsoleError::Failed(Box::new(error)) }
}

#[cfg(test)]
mod tests;

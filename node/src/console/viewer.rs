//! One viewer of a console, as its hub sees them: what is still to be sent, what was lost, what they type.
//!
//! In: the guest's output and words about the console. Out: a bounded channel. A viewer that does not keep up loses output
//! and is told how much, and never holds anybody up.

use super::screen::Screen;
use bytes::Bytes;
use std::task::{Context, Poll};
use tokio::sync::mpsc;
use waifud_api::console::{FromConsole, Replay, Seat, Size};
use waifud_web::console::{Attached, Heard, Said, Viewer as Who};

/// Pieces of output that wait for a viewer: as much as the guest can write in some seconds, 2 MiB at the most.
const OUTPUT: usize = 256;
/// A viewer that lost some is sent more when so much has gone: not piece by piece with a word of loss for each.
const ROOM: usize = OUTPUT / 2;
/// What a viewer may have typed ahead: a paste comes in few pieces, and then they wait.
const INPUT: usize = 8;

/// One viewer.
#[derive(Debug)]
pub(super) struct Viewer {
    pub(super) id: u64,
    pub(super) who: Who,
    /// Their terminal's, if they said so.
    pub(super) size: Option<Size>,
    /// They were told that their typing goes nowhere.
    pub(super) warned: bool,
    output: mpsc::Sender<Said>,
    input: mpsc::Receiver<Heard>,
    lost: u64,
    /// Something was not told for want of room.
    untold: bool,
}

/// What the console is like, for one viewer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct State {
    pub(super) seat: Seat,
    pub(super) on: bool,
}

impl Viewer {
    /// A viewer, and their ends.
    pub(super) fn new(id: u64, who: Who) -> (Self, Attached) {
        let (output, to_viewer) = mpsc::channel(OUTPUT);
        let (from_viewer, input) = mpsc::channel(INPUT);
        let viewer = Self { id, who, size: None, warned: false, output, input, lost: 0, untold: false };
        (viewer, Attached { output: to_viewer, input: from_viewer })
    }

    /// Something of theirs; none when they have left.
    pub(super) fn poll_heard(&mut self, cx: &mut Context<'_>) -> Poll<Option<Heard>> {
        self.input.poll_recv(cx)
    }

    /// Have they left?
    pub(super) fn is_gone(&self) -> bool {
        self.output.is_closed()
    }

    /// Is there something that they still have to be told?
    pub(super) fn is_behind(&self) -> bool {
        self.lost > 0 || self.untold
    }

    /// The guest wrote this; the screen has it already.
    pub(super) fn show(&mut self, bytes: &Bytes) {
        if self.is_behind() || self.output.try_send(Said::Bytes(bytes.clone())).is_err() {
            self.lost += bytes.len() as u64;
        }
    }

    /// A word about the console.
    pub(super) fn tell(&mut self, told: FromConsole) {
        if self.is_behind() || self.output.try_send(Said::Told(told)).is_err() {
            self.untold = true;
        }
    }

    /// Sends what newcomers are sent.
    pub(super) fn welcome(&mut self, hello: FromConsole, screen: &mut Screen) {
        self.tell(hello);
        let replay = match self.who.replay {
            Replay::Screen => screen.appended(),
            Replay::Text => screen.text(),
            Replay::None => Vec::new(),
        };
        if !replay.is_empty() {
            self.show(&replay.into());
        }
    }

    /// If there is room again: how much was lost, and everything as it is now.
    pub(super) fn catch_up(&mut self, screen: &mut Screen, state: State) {
        if !self.is_behind() || self.output.capacity() < ROOM {
            return;
        }
        self.untold = false;
        let lost = std::mem::take(&mut self.lost);
        let State { seat, on } = state;
        if lost > 0 {
            self.tell(FromConsole::Lost { bytes: lost });
        }
        self.tell(FromConsole::Seat { seat });
        self.tell(FromConsole::Power { on });
        if lost > 0 && self.who.replay == Replay::Screen {
            self.show(&screen.drawn().into());
        }
    }
}

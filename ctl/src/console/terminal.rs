//! This terminal in raw mode, and back.
//!
//! In: stdin, if it is a terminal. Out: the same, passing every key on. However it ends it is put back: by a drop, by a
//! panic before its message is written, by a signal that the session turns into an end. What the guest may have switched on
//! (another screen, the mouse, a hidden cursor) is switched off again.

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use std::{
    io::{self, Write as _},
    panic,
    sync::{Mutex, PoisonError},
};
use waifud_api::console::Size;

/// The terminal as it was; there is one a process.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// Keys and pad as usual, no mouse, no marked paste, the first screen (by the switch that leaves the cursor where it is), a cursor,
/// no colours.
const SANE: &[u8] =
    b"\x1b[?1l\x1b>\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l\x1b[?1047l\x1b[?25h\x1b[0m\r\n";

/// The terminal in raw mode, as long as this is kept.
#[derive(Debug)]
pub(super) struct Raw(());

impl Raw {
    /// Puts it into raw mode.
    pub(super) fn enter() -> io::Result<Self> {
        let stdin = io::stdin();
        let before = tcgetattr(&stdin)?;
        let mut raw = before.clone();
        raw.make_raw();
        let hook = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            restore();
            hook(info);
        }));
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        tcsetattr(&stdin, OptionalActions::Drain, &raw)?;
        Ok(Self(()))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
    }
}

/// Does nothing if it is as it was.
fn restore() {
    let before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(before) = before {
        // A terminal that is gone needs nothing any more.
        let _ = io::stdout().lock().write_all(SANE).and_then(|()| io::stdout().lock().flush());
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &before);
    }
}

/// The size of the terminal that stdout is.
pub(super) fn size() -> Option<Size> {
    let size = tcgetwinsize(io::stdout()).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some(Size { rows: size.ws_row, cols: size.ws_col })
}

//! What the terminal shows of the keys that are pressed: less, for as long as something else is drawn or a secret is typed.

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use std::io;

/// A terminal that shows less of what is typed, until this is dropped.
pub(crate) struct Echo(Termios);

impl Echo {
    /// Nothing is shown, and what was typed ahead is thrown away.
    pub(crate) fn nothing() -> io::Result<Self> {
        Self::without(LocalModes::ECHO, OptionalActions::Flush)
    }

    /// `^C` is not shown: it would stand behind a line that is drawn anew, push the cursor on, and leave half of the line behind.
    pub(crate) fn no_signals() -> io::Result<Self> {
        Self::without(LocalModes::ECHOCTL, OptionalActions::Now)
    }

    fn without(modes: LocalModes, when: OptionalActions) -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut less = before.clone();
        less.local_modes.remove(modes);
        tcsetattr(io::stdin(), when, &less)?;
        Ok(Self(before))
    }
}

impl std::fmt::Debug for Echo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Echo").finish_non_exhaustive()
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        // A terminal that is gone shows nothing more anyway.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

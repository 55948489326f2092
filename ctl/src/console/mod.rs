//! A guest's console on this terminal, or in a pipe.
//!
//! ```text
//!   stdin ─ keys.rs ─┐                      ┌─ terminal.rs  raw, and as it was before, however this ends
//!     (a thread)     ├── session.rs ◄──► API
//!   stdout ◄─ text.rs (where it is no terminal: without escape sequences)
//! ```
//!
//! In: a client, what the user said. Out: bytes both ways, and a line on stderr for whatever happens to the connection. It
//! must leave the terminal as it was.

mod keys;
mod session;
mod terminal;
mod text;

pub(crate) use keys::Escape;
pub(crate) use session::{Wishes, run};

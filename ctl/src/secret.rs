//! Secrets that a person types or pipes in: never by an option, which everybody on the machine can read, and never shown.

use crate::{confirm, context::Terms, exit::Failure, output::Echo};
use std::io::{self, Read as _};

/// A secret is one line; more is not one.
const MAX: u64 = 64 << 10;

/// All of stdin, without the spaces around it.
pub(crate) fn from_stdin() -> Result<String, Failure> {
    let mut text = String::new();
    io::stdin().lock().take(MAX).read_to_string(&mut text).map_err(|source| Failure::Io { what: "stdin", source })?;
    Ok(text.trim().to_owned())
}

/// What is typed at `question`, unseen. Whoever asks has made sure that there is a terminal.
pub(crate) async fn ask(terms: &Terms, question: &str) -> Result<Option<String>, Failure> {
    let hidden = Echo::nothing().map_err(|source| Failure::Io { what: "the terminal", source })?;
    let typed = confirm::ask(question).await;
    drop(hidden);
    // The line that was ended unseen is ended for the eyes, too.
    terms.progress.say("");
    typed
}

//! Asks before something is lost. Where nobody can be asked, nothing is lost.

use crate::{context::Context, exit::Failure, output};
use std::io::{self, BufRead as _};
use waifud_api::exit::Exit;

/// Returns if the user agrees, by `--yes` or at the prompt.
pub(crate) fn agree(context: &Context, question: &str) -> Result<(), Failure> {
    if context.yes {
        return Ok(());
    }
    if !context.terminal.can_ask() {
        return Err(Failure::Usage(format!(
            "{question} Nobody can be asked, because this is not a terminal: give --yes to agree"
        )));
    }
    output::stderr(&format!("{question} [y/N] "));
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).map_err(|source| Failure::Io { what: "the answer", source })?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        Ok(())
    } else {
        Err(Failure::Ended { exit: Exit::Failed, message: "nothing was done".to_owned(), hint: None })
    }
}

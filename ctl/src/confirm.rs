//! Asks a person: before something is lost, or where only a person can choose. Where nobody can be asked, nothing is lost.

use crate::{context::Terms, exit::Failure, output};
use std::io::{self, BufRead as _};
use tokio::sync::oneshot;
use waifud_api::exit::Exit;

/// Returns if the user agrees, by `--yes` or at the prompt.
pub(crate) async fn agree(terms: &Terms, question: &str) -> Result<(), Failure> {
    if terms.yes {
        return Ok(());
    }
    if !terms.terminal.can_ask() {
        return Err(Failure::Usage(format!(
            "{question} Nobody can be asked, because this is not a terminal: give --yes to agree"
        )));
    }
    match ask(&format!("{question} [y/N] ")).await?.as_deref() {
        Some("y" | "Y" | "yes") => Ok(()),
        _ => Err(Failure::Ended { exit: Exit::Failed, message: "nothing was done".to_owned(), hint: None }),
    }
}

/// The line that is typed after `question`, without spaces around it; none if stdin has ended. Whoever asks has made sure that
/// there is a terminal. Ctrl-C is an answer too: nothing is done.
pub(crate) async fn ask(question: &str) -> Result<Option<String>, Failure> {
    output::stderr(question);
    let (give, answer) = oneshot::channel();
    // A thread of its own, which the end of the process does not wait for: reading a terminal cannot be called off.
    std::thread::spawn(move || {
        let mut line = String::new();
        let read = io::stdin().lock().read_line(&mut line);
        // Nobody waits for the answer any more after a Ctrl-C.
        let _ = give.send(read.map(|bytes| (bytes > 0).then(|| line.trim().to_owned())));
    });
    let fault = |source| Failure::Io { what: "the answer", source };
    tokio::select! {
        line = answer => line.map_err(|lost| fault(io::Error::other(lost)))?.map_err(fault),
        _ = tokio::signal::ctrl_c() => {
            output::stderr("\n");
            Err(Failure::Ended { exit: Exit::Failed, message: "interrupted; nothing was done".to_owned(), hint: None })
        }
    }
}

//! Where words go: results to stdout, everything else to stderr. The one place of this binary that prints.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line prints")]

use std::error::Error;
use tracing_subscriber::{EnvFilter, fmt::format::FmtSpan};

/// What was asked for.
pub(super) fn result(text: &str) {
    println!("{text}");
}

/// What to do next.
pub(super) fn hint(text: &str) {
    eprintln!("{text}");
}

/// What went wrong, with its causes; a cause that only repeats is left out.
pub(super) fn error(error: &dyn Error) {
    let mut said = error.to_string();
    eprintln!("waifud: {said}");
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !said.contains(&text) {
            eprintln!("  because: {text}");
        }
        said = text;
        cause = error.source();
    }
}

/// What is logged unless somebody says otherwise. openraft warns of every heartbeat to a node that is away, eight times a second;
/// boringtun of every packet that a stranger sends. What matters of either is said by whoever watches members and peers.
const QUIET: &str = "info,openraft=error,boringtun=off,chitchat=warn";

/// The daemon's log goes to stderr, where systemd picks it up; `WAIFUD_LOG` chooses what (as tracing's `EnvFilter`).
pub(super) fn log_to_stderr() {
    let filter = EnvFilter::try_from_env("WAIFUD_LOG").unwrap_or_else(|_| EnvFilter::new(QUIET));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_span_events(FmtSpan::NONE)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
}

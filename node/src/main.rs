//! `waifud`: the daemon and its few commands. Parses, calls the library, and says what became of it.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}

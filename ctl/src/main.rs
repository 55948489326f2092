//! `waifuctl`: the command line of waifud. Everything is in the library, so that tests can reach it.

fn main() -> std::process::ExitCode {
    waifuctl::run(std::env::args_os())
}

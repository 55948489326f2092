//! The data plane and the host's side of it, on real namespaces. Needs root and `ip`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, missing_docs, unreachable_pub)]

#[path = "../lab/mod.rs"]
mod lab;

mod hosts;
mod interop;
mod metadata;
mod peers;
mod traffic;

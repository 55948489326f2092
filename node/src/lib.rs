//! the daemon.

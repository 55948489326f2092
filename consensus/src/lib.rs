//! the replicated state: openraft over SQLite.

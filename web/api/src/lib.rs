//! The HTTP interface of waifud: what goes over the wire, how failures look, and a typed client.
//!
//! In: the ids, names, sizes and closed enums of `waifud-model`. Out: the JSON of `/api/v1`, its paths and headers, the
//! codes of its problems with the HTTP status and the command line's exit status of each, and (feature `client`) a
//! [`client::Client`] that speaks all of it.
//!
//! The log format and the HTTP format are never the same struct: a field can be added here without touching what is
//! kept for ever, and the other way round. So nothing here is a `Command` or a stored record, and nothing here decides:
//! types, their text forms, and pure functions on them.

#[cfg(feature = "client")]
pub mod client;
pub mod cloud_init;
pub mod cluster;
pub mod console;
pub mod doctor;
pub mod document;
pub mod event;
pub mod exit;
pub mod filter;
pub mod headers;
pub mod history;
pub mod metrics;
pub mod net;
pub mod node;
pub mod page;
pub mod paths;
pub mod problem;
pub mod schema;
pub mod select;
pub mod template;
mod text;
pub mod time;
pub mod token;
pub mod user_data;
pub mod vm;
pub mod vm_change;

//! The verbs: parse, decide, propose.
//!
//! In: a caller who may, a request key, and what is wanted, already parsed. Out: what became of it. Each verb reads what it
//! must know in one transaction of the local replica, decides in a pure function where there is anything to decide, and
//! proposes one command. What the replica says may be old: apply checks everything again, so no verb refuses a command for
//! what only looks taken; and a repetition must reach apply, which remembers the first one's reply.

pub(crate) mod cloud_init_set;
pub(crate) mod console_open;
mod documents;
pub(crate) mod join_token_create;
pub(crate) mod net_peer_change;
pub(crate) mod node_change;
pub(crate) mod place;
mod propose;
pub(crate) mod template_add;
pub(crate) mod template_delete;
pub(crate) mod token_change;
pub(crate) mod vm_change;
pub(crate) mod vm_create;
pub(crate) mod vm_power;

pub(crate) use propose::{Author, Done};

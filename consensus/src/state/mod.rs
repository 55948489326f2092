//! The applied state: `state.db`, and the only code that changes or reads its tables.
//!
//! In: committed [`Envelope`](waifud_model::command::Envelope)s, one at a time in log order, within a transaction of the
//! caller, who also notes there (table `raft`) how far the log is applied. Out: a reply or a reject for each, and a
//! [`View`] for readers. It must not look at a clock, at gossip, at the node it runs on, or at anything else that another
//! node might see differently: equal logs give equal [digests](View::digest).
//!
//! ```text
//!   Envelope ──> apply ──> who asks, may they? ──> asked before? ──> the command ──> rows, events, remembered reply
//!                  │               │                    │                 │
//!                  │               └────── Reject ──────┴─────────────────┘   the state is as it was
//!                  └── Halt: the database fails, or this build is too old; the node stops applying
//! ```

mod apply;
mod brief;
mod digest;
mod events;
mod ledger;
mod read;
mod requests;
mod rows;
mod schema;
mod stop;
mod view;

pub use apply::{Accepted, FEATURE_LEVEL, apply};
pub use brief::{DocumentBrief, VmBrief};
pub use digest::{TABLES, Table};
pub use events::{ByActor, BySubject, EventQuery, SubjectKey};
pub use ledger::Ledger;
pub use read::ReadError;
pub(crate) use schema::complete;
pub use schema::{OpenError, open, open_reader};
pub use stop::Halt;
pub use view::View;

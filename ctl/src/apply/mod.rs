//! The cluster as files describe it: `waifuctl apply`, and back again, `waifuctl export`.
//!
//! ```text
//!   files ──> read/    YAML and TOML as trees with line numbers ──> typed documents, or all that is wrong with them
//!               │
//!               v
//!   API ──> survey.rs  what is there, and what the cluster says of what would be ──> plan.rs  one step an object
//!               │        compare.rs  (pure) a document and a VM: what differs
//!               v
//!             show.rs  the plan for eyes ──> agreed ──> execute.rs  step by step; one that fails does not stop the others
//!
//!   API ──> export.rs  (pure) VMs as documents ──> YAML, TOML
//! ```
//!
//! Nothing is remembered between two runs: the plan is what the files say against what the cluster says now. What a file does
//! not name is left alone, and nothing is deleted that was not asked for by name or by label.

pub(crate) mod compare;
pub(crate) mod execute;
pub(crate) mod export;
pub(crate) mod plan;
pub(crate) mod read;
pub(crate) mod show;
pub(crate) mod survey;

//! What is seen of a VM.

use crate::{schema, time::Time};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use waifud_model::{
    observed::{Sighting, VmState, Waiting},
    size::ByteSize,
};

/// What is seen of a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VmStatus {
    /// The last state its owner told; `pending` if it has not told any.
    #[schema(value_type = schema::VmState)]
    pub state: VmState,
    /// Since when, by the owner's clock.
    pub since: Option<Time>,
    /// True while the owner has not caught up with the last change of what is wanted.
    pub pending: bool,
    /// What the running guest has not taken up, and will at its next start. `changes` tells more where the owner was asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<schema::Waiting>)]
    pub waits: Vec<Waiting>,
    /// The same with what is and what shall be. Lists leave it out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<PendingChange>,
    /// How much of its template's version is on its node, while that is fetched. Lists leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fetching: Option<Fetching>,
    /// What its owner is doing about it. Lists leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doing: Option<String>,
    /// Why its owner does nothing although not all is as wanted. Lists leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
    /// How often the guest died and was started again since it last ran well. Lists leave it out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub restarts: u32,
    /// By what its owner has met the guest since it was started: none yet means that only its allocation is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<schema::Sighting>)]
    pub met: Vec<Sighting>,
    /// The guest has told its owner that its cloud-init is done in this life of the VM (see `instance_id`): all of it was run,
    /// which does not say that all went well. Not there: it has not, or nobody asked it to, or it runs no cloud-init.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cloud_init_done: bool,
    /// How busy all its CPUs are together, in percent, by its owner's measurement of every half minute. Absent while the guest
    /// does not run, until it was measured twice, and while its owner is silent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_percent: Option<u8>,
    /// Bytes of memory that its kernel could not give to another program. Absent where nothing in the guest tells: it takes
    /// a driver for the balloon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub memory_used: Option<ByteSize>,
    /// Present while the owner is silent: `state` is then what was last heard, not what is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent: Option<Silent>,
    /// Why the wanted state could not be reached, where that is known. Lists leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<LastError>,
}

/// A change that waits for the guest's next start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PendingChange {
    /// The field.
    pub field: String,
    /// What the running guest has.
    pub now: String,
    /// What it will have.
    pub wanted: String,
    /// Why it has to wait.
    pub why: String,
}

/// How far a template's version is on its way to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Fetching {
    /// Bytes that are there.
    #[schema(value_type = u64)]
    pub done: ByteSize,
    /// Bytes in all.
    #[schema(value_type = u64)]
    pub total: ByteSize,
}

/// A node that is not heard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Silent {
    /// Since when, as far as the answering node knows.
    pub since: Option<Time>,
}

/// What keeps a VM from its wanted state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LastError {
    /// The error, in the owner's words.
    pub message: String,
    /// When it happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Time>,
    /// How often it was tried in vain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// When it is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_try: Option<Time>,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

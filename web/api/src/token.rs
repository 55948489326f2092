//! Join tokens and API tokens on the wire. A secret is shown once, in the answer that makes it.

use crate::{schema, time::Time};
use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::ToSchema;
use waifud_model::{ids::TokenId, labels::Labels, token::Role};

/// A token with which machines join, to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JoinTokenCreate {
    /// For how long it is valid.
    #[serde(default = "JoinTokenCreate::default_seconds")]
    pub valid_seconds: u64,
    /// How many machines it lets in.
    #[serde(default = "JoinTokenCreate::default_uses")]
    pub uses: u32,
}

impl JoinTokenCreate {
    /// One hour: long enough to walk to the other machine, short enough not to lie about.
    #[must_use]
    pub const fn default_seconds() -> u64 {
        3600
    }

    /// One machine.
    #[must_use]
    pub const fn default_uses() -> u32 {
        1
    }
}

impl Default for JoinTokenCreate {
    fn default() -> Self {
        Self { valid_seconds: Self::default_seconds(), uses: Self::default_uses() }
    }
}

/// A join token that was made.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JoinTokenCreated {
    /// The token itself, for `waifud join`. It is not shown again.
    pub token: String,
    /// What is kept of it.
    pub info: JoinToken,
}

impl fmt::Debug for JoinTokenCreated {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinTokenCreated").field("info", &self.info).finish_non_exhaustive()
    }
}

/// What is kept of a join token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JoinToken {
    /// Its public part.
    #[schema(value_type = String)]
    pub id: TokenId,
    /// How many more machines it lets in.
    pub uses_left: u32,
    /// Not valid from this moment on.
    pub expires_at: Time,
    /// When it was made.
    pub created_at: Time,
}

/// A token for the API, to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiTokenCreate {
    /// What it allows.
    #[schema(value_type = schema::Role)]
    pub role: Role,
    /// What it is for.
    #[serde(default)]
    pub description: String,
    /// For how long it is valid; until revoked if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_seconds: Option<u64>,
    /// Which VMs it is for: those with all of these labels, and no others are there for its bearer. All VMs if not given.
    /// Not for the role admin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<std::collections::BTreeMap<String, String>>)]
    pub scope: Option<Labels>,
}

/// An API token that was made.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApiTokenCreated {
    /// The token itself, for `Authorization: Bearer`. It is not shown again.
    pub token: String,
    /// What is kept of it.
    pub info: ApiToken,
}

impl fmt::Debug for ApiTokenCreated {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiTokenCreated").field("info", &self.info).finish_non_exhaustive()
    }
}

/// What is kept of an API token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApiToken {
    /// Its public part.
    #[schema(value_type = String)]
    pub id: TokenId,
    /// What it is for.
    pub description: String,
    /// What it allows.
    #[schema(value_type = schema::Role)]
    pub role: Role,
    /// Not valid from this moment on; none means until revoked.
    pub expires_at: Option<Time>,
    /// When it was made.
    pub created_at: Time,
    /// The labels of the VMs that it is for; none means all VMs.
    #[serde(default)]
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    pub scope: Labels,
}

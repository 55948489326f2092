//! Of whom `/metrics` tells. What it tells is text for monitoring systems, not for this crate.

use serde::{Deserialize, Serialize};
use utoipa::IntoParams;

/// The query of `/metrics`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct MetricsQuery {
    /// Of all nodes: the one that answers asks the others, which have a second.
    #[serde(default)]
    pub cluster: bool,
}

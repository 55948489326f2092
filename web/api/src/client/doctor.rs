//! The call that has a node look at itself.

use super::{Answer, Client, ClientError};
use crate::{doctor::NodeReport, paths};
use waifud_model::name::NodeName;

impl Client {
    /// What a node finds when it looks at itself.
    ///
    /// # Errors
    /// As every call: see [`ClientError`]; a node that is silent is a problem of its own.
    pub async fn node_doctor(&self, name: &NodeName) -> Result<Answer<NodeReport>, ClientError> {
        self.get(paths::node(paths::NODE_DOCTOR, name)).await
    }
}

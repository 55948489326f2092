//! The calls about what guests are told: a VM's own documents, and the cluster's defaults.
//!
//! Documents are replaced as a whole. So reading them gives the generation they are of, and writing says which generation the
//! change was made to: a change that somebody else made in between is then refused, and never overwritten unseen.

use super::{Answer, Client, ClientError, IdempotencyKey, answer, calls::with_query};
use crate::{
    cloud_init::{CloudDefaults, CloudInit, CloudInitQuery, CloudInitSaved},
    headers, paths,
};
use reqwest::Method;
use serde::{Serialize, de::DeserializeOwned};
use waifud_model::{ids::Generation, name::VmName};

impl Client {
    /// What one VM's guest is told, and the generation this is of.
    ///
    /// # Errors
    /// As every call: see [`ClientError`]; and [`ClientError::Protocol`] if the answer does not tell its generation.
    pub async fn cloud_init(&self, name: &VmName) -> Result<Answer<(CloudInit, Generation)>, ClientError> {
        self.versioned(paths::vm(paths::VM_CLOUD_INIT, name)).await
    }

    /// Replaces what one VM's guest is told, if the VM still is at generation `expect`.
    ///
    /// # Errors
    /// As every call: see [`ClientError`]. [`Stale`](crate::problem::ProblemCode::Stale) if it was changed in between,
    /// [`Invalid`](crate::problem::ProblemCode::Invalid) with the line if a document cannot be right.
    pub async fn set_cloud_init(
        &self,
        name: &VmName,
        documents: &CloudInit,
        query: CloudInitQuery,
        expect: Generation,
        key: &IdempotencyKey,
    ) -> Result<Answer<CloudInitSaved>, ClientError> {
        let path = queried(&paths::vm(paths::VM_CLOUD_INIT, name), query);
        self.replace(path, documents, expect, key).await
    }

    /// What every guest is told beside its own, and the generation this is of: zero before the first change.
    ///
    /// # Errors
    /// As every call: see [`ClientError`]; and [`ClientError::Protocol`] if the answer does not tell its generation.
    pub async fn cloud_defaults(&self) -> Result<Answer<(CloudDefaults, Generation)>, ClientError> {
        self.versioned(paths::CLUSTER_CLOUD_INIT.to_owned()).await
    }

    /// Replaces what every guest is told beside its own, if that still is of generation `expect`.
    ///
    /// # Errors
    /// As [`Client::set_cloud_init`].
    pub async fn set_cloud_defaults(
        &self,
        documents: &CloudDefaults,
        expect: Generation,
        key: &IdempotencyKey,
    ) -> Result<Answer<CloudInitSaved>, ClientError> {
        self.replace(paths::CLUSTER_CLOUD_INIT.to_owned(), documents, expect, key).await
    }

    async fn versioned<T: DeserializeOwned>(&self, path: String) -> Result<Answer<(T, Generation)>, ClientError> {
        let answer: Answer<T> = self.get(path).await?;
        let Some(generation) = answer.freshness.generation else {
            let what = "its answer does not tell the generation of the documents (ETag)".to_owned();
            return Err(ClientError::Protocol { endpoint: self.endpoint().clone(), what });
        };
        Ok(answer.map(|value| (value, generation)))
    }

    async fn replace(
        &self,
        path: String,
        documents: &impl Serialize,
        expect: Generation,
        key: &IdempotencyKey,
    ) -> Result<Answer<CloudInitSaved>, ClientError> {
        let request = self.write(Method::PUT, path, self.json(documents)?, key);
        let request = request.header(headers::IF_MATCH, format!("\"{}\"", expect.0));
        let (endpoint, response) = self.send(&request).await?;
        answer::json(&endpoint, response).await
    }
}

/// Only what is wanted is said: a server that knows less of the query then still understands the plain request.
fn queried(path: &str, query: CloudInitQuery) -> String {
    let said = [("rerun", query.rerun), ("dry_run", query.dry_run)];
    let pairs: Vec<_> = said.into_iter().filter(|(_, on)| *on).map(|(name, on)| (name, on.to_string())).collect();
    with_query(path, &pairs)
}

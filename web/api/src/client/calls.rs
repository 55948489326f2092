//! One method for each call of the API, but for those of `cloud_init.rs`, `history.rs`, `vm_change.rs` and `net.rs`. Each says in its types what goes in
//! and out; how it is sent is `request.rs`.

use super::{
    Answer, Client, ClientError, answer,
    request::{Body, Request},
};
use crate::{
    cluster::ClusterStatus,
    filter::Filter,
    headers,
    node::{Node, NodeUpdate},
    paths,
    template::{Template, TemplateAdd, TemplateSelector, TemplateVersion},
    token::{ApiToken, ApiTokenCreate, ApiTokenCreated, JoinToken, JoinTokenCreate, JoinTokenCreated},
    vm::{PlacementPreview, Vm, VmCreate, VmCreated},
};
use reqwest::Method;
use serde::{Serialize, de::DeserializeOwned};
use std::{fmt, str::FromStr};
use waifud_model::{
    ids::TokenId,
    name::{NodeName, TemplateName, VmName},
};

/// Makes a write harmless to repeat: the same key with the same request gives the first one's answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// A fresh key, which nobody else has: 128 random bits.
    #[must_use]
    pub fn random() -> Self {
        Self(format!("{:032x}", rand::random::<u128>()))
    }
}

/// A text that is no idempotency key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an idempotency key has 1 to 128 visible ASCII characters")]
pub struct IdempotencyKeyError;

impl FromStr for IdempotencyKey {
    type Err = IdempotencyKeyError;

    fn from_str(text: &str) -> Result<Self, IdempotencyKeyError> {
        let visible = text.bytes().all(|b| b.is_ascii_graphic());
        if visible && (1..=128).contains(&text.len()) { Ok(Self(text.to_owned())) } else { Err(IdempotencyKeyError) }
    }
}

impl fmt::Display for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A path with a query made of a serialisable value; nothing is added where the value says nothing.
pub(super) fn with_query(path: &str, query: &[(&str, String)]) -> String {
    if query.is_empty() {
        return path.to_owned();
    }
    // A URL is the one place that knows how a query is escaped; the base falls away again.
    let escaped = reqwest::Url::parse_with_params("http://localhost", query);
    let query = escaped.ok().and_then(|url| url.query().map(str::to_owned)).unwrap_or_default();
    format!("{path}?{query}")
}

fn template_path(template: &TemplateSelector, dry_run: bool) -> String {
    let mut query: Vec<_> = template.version.iter().map(|version| ("version", version.to_string())).collect();
    query.extend(dry_run.then(|| ("dry_run", true.to_string())));
    with_query(&paths::template(paths::TEMPLATE, &template.name), &query)
}

fn node_path(name: &NodeName, force: bool, dry_run: bool) -> String {
    let asked = [("force", force), ("dry_run", dry_run)].into_iter().filter(|(_, asked)| *asked);
    let query: Vec<_> = asked.map(|(key, asked)| (key, asked.to_string())).collect();
    with_query(&paths::node(paths::NODE, name), &query)
}

impl Client {
    pub(super) async fn get<T: DeserializeOwned>(&self, path: impl Into<String>) -> Result<Answer<T>, ClientError> {
        let request = Request { answer_timeout: Some(self.inner.config.answer_timeout), ..Request::get(path) };
        let (endpoint, response) = self.send(&request).await?;
        answer::json(&endpoint, response).await
    }

    pub(super) fn write(&self, method: Method, path: String, body: Body, key: &IdempotencyKey) -> Request {
        let request = Request {
            method,
            path,
            headers: Vec::new(),
            body,
            repeatable: true,
            answer_timeout: Some(self.inner.config.answer_timeout),
        };
        request.header(headers::IDEMPOTENCY_KEY, key)
    }

    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: String,
        body: Body,
        key: &IdempotencyKey,
    ) -> Result<Answer<T>, ClientError> {
        let (endpoint, response) = self.send(&self.write(Method::POST, path, body, key)).await?;
        answer::json(&endpoint, response).await
    }

    pub(super) async fn remove(&self, path: String) -> Result<Answer<()>, ClientError> {
        let request = self.write(Method::DELETE, path, Body::Empty, &IdempotencyKey::random());
        let (_, response) = self.send(&request).await?;
        Ok(Answer { value: (), freshness: answer::Freshness::of(response.headers()) })
    }

    pub(super) fn json(&self, value: &impl Serialize) -> Result<Body, ClientError> {
        let fault = |e: serde_json::Error| ClientError::Protocol {
            endpoint: self.endpoint().clone(),
            what: format!("the request cannot be written: {e}"),
        };
        serde_json::to_vec(value).map(|json| Body::Json(json.into())).map_err(fault)
    }

    /// All VMs that match, by name.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn vms(&self, filter: &Filter) -> Result<Answer<Vec<Vm>>, ClientError> {
        let query = if filter.is_empty() { vec![] } else { vec![("filter", filter.to_string())] };
        self.get(with_query(paths::VMS, &query)).await
    }

    /// One VM.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn vm(&self, name: &VmName) -> Result<Answer<Vm>, ClientError> {
        self.get(paths::vm(paths::VM, name)).await
    }

    /// Makes a VM. The answer comes when the cluster has agreed; its node is then at work.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn create_vm(&self, vm: &VmCreate, key: &IdempotencyKey) -> Result<Answer<VmCreated>, ClientError> {
        self.post(paths::VMS.to_owned(), self.json(vm)?, key).await
    }

    /// Says where a VM would go. Nothing is made.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn preview_vm(&self, vm: &VmCreate) -> Result<Answer<PlacementPreview>, ClientError> {
        let path = with_query(paths::VMS, &[("dry_run", true.to_string())]);
        self.post(path, self.json(vm)?, &IdempotencyKey::random()).await
    }

    /// Away with a VM, disk included. The answer comes when the cluster has agreed; its node is then at work.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn delete_vm(&self, name: &VmName) -> Result<Answer<Vm>, ClientError> {
        let request = self.write(Method::DELETE, paths::vm(paths::VM, name), Body::Empty, &IdempotencyKey::random());
        let (endpoint, response) = self.send(&request).await?;
        answer::json(&endpoint, response).await
    }

    /// All templates, by name.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn templates(&self) -> Result<Answer<Vec<Template>>, ClientError> {
        self.get(paths::TEMPLATES).await
    }

    /// One template.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn template(&self, name: &TemplateName) -> Result<Answer<Template>, ClientError> {
        self.get(paths::template(paths::TEMPLATE, name)).await
    }

    /// Has a node download a version. The answer comes when it is there and verified, however long that takes.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn download_template(
        &self,
        name: &TemplateName,
        add: &TemplateAdd,
    ) -> Result<Answer<TemplateVersion>, ClientError> {
        let path = paths::template(paths::TEMPLATE_VERSIONS, name);
        let request = self.write(Method::POST, path, self.json(add)?, &IdempotencyKey::random());
        let (endpoint, response) = self.send(&Request { answer_timeout: None, ..request }).await?;
        answer::json(&endpoint, response).await
    }

    /// Away with a template, or one version of it.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn delete_template(&self, template: &TemplateSelector) -> Result<Answer<()>, ClientError> {
        self.remove(template_path(template, false)).await
    }

    /// Says whether a template, or one version of it, could be deleted. Nothing is kept.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn preview_delete_template(&self, template: &TemplateSelector) -> Result<Answer<()>, ClientError> {
        self.remove(template_path(template, true)).await
    }

    /// All nodes, by name.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn nodes(&self) -> Result<Answer<Vec<Node>>, ClientError> {
        self.get(paths::NODES).await
    }

    /// One node.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn node(&self, name: &NodeName) -> Result<Answer<Node>, ClientError> {
        self.get(paths::node(paths::NODE, name)).await
    }

    /// Changes the labels of a node: those named, and no others.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn update_node(&self, name: &NodeName, update: &NodeUpdate) -> Result<Answer<Node>, ClientError> {
        let path = paths::node(paths::NODE, name);
        let request = self.write(Method::PATCH, path, self.json(update)?, &IdempotencyKey::random());
        let (endpoint, response) = self.send(&request).await?;
        answer::json(&endpoint, response).await
    }

    /// No new VMs on this node, or again some.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn cordon_node(&self, name: &NodeName, cordoned: bool) -> Result<Answer<Node>, ClientError> {
        let template = if cordoned { paths::NODE_CORDON } else { paths::NODE_UNCORDON };
        self.post(paths::node(template, name), Body::Empty, &IdempotencyKey::random()).await
    }

    /// A node leaves for good; with `force` even though VMs are lost with it.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn remove_node(&self, name: &NodeName, force: bool) -> Result<Answer<()>, ClientError> {
        self.remove(node_path(name, force, false)).await
    }

    /// Says whether a node could leave. Nothing is kept.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn preview_remove_node(&self, name: &NodeName, force: bool) -> Result<Answer<()>, ClientError> {
        self.remove(node_path(name, force, true)).await
    }

    /// How the cluster is.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn cluster(&self) -> Result<Answer<ClusterStatus>, ClientError> {
        self.get(paths::CLUSTER).await
    }

    /// Makes a token with which machines join.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn create_join_token(&self, token: &JoinTokenCreate) -> Result<Answer<JoinTokenCreated>, ClientError> {
        self.post(paths::JOIN_TOKENS.to_owned(), self.json(token)?, &IdempotencyKey::random()).await
    }

    /// All join tokens.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn join_tokens(&self) -> Result<Answer<Vec<JoinToken>>, ClientError> {
        self.get(paths::JOIN_TOKENS).await
    }

    /// Machines may no longer join with it.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn revoke_join_token(&self, id: TokenId) -> Result<Answer<()>, ClientError> {
        self.remove(paths::token(paths::JOIN_TOKEN, id)).await
    }

    /// Makes a token for the API.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn create_api_token(&self, token: &ApiTokenCreate) -> Result<Answer<ApiTokenCreated>, ClientError> {
        self.post(paths::TOKENS.to_owned(), self.json(token)?, &IdempotencyKey::random()).await
    }

    /// All API tokens.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn api_tokens(&self) -> Result<Answer<Vec<ApiToken>>, ClientError> {
        self.get(paths::TOKENS).await
    }

    /// Clients may no longer use the API with it.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn revoke_api_token(&self, id: TokenId) -> Result<Answer<()>, ClientError> {
        self.remove(paths::token(paths::TOKEN, id)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_escaped() {
        let filter = "node=n1 label.team=\"a & b\"".to_owned();
        assert_eq!(with_query("/x", &[("filter", filter)]), "/x?filter=node%3Dn1+label.team%3D%22a+%26+b%22");
        assert_eq!(with_query("/x", &[]), "/x");
    }

    #[test]
    fn keys_are_checked() {
        assert_eq!(IdempotencyKey::random().to_string().len(), 32);
        for bad in ["", "a b", "ä", "a\n", &"x".repeat(129)] {
            assert!(bad.parse::<IdempotencyKey>().is_err(), "{bad}");
        }
    }
}

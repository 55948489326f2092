//! The calls that do something to a VM that is there.

use super::{
    Answer, Client, ClientError, IdempotencyKey, answer,
    calls::with_query,
    request::{Body, Request},
};
use crate::{
    headers, paths,
    template::TemplateSelector,
    vm::Vm,
    vm_change::{VmRename, VmUpdate, VmUpdatePreview},
};
use reqwest::Method;
use serde::de::DeserializeOwned;
use waifud_model::{ids::Generation, name::VmName};

impl Client {
    /// The VM shall run: from off, or from being held still.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn start_vm(&self, name: &VmName) -> Result<Answer<Vm>, ClientError> {
        self.verb(paths::VM_START, name, &[]).await
    }

    /// The VM shall not run. Its guest has `grace` seconds to go off before its power is taken away, or as long as is usual.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn stop_vm(&self, name: &VmName, grace: Option<u32>) -> Result<Answer<Vm>, ClientError> {
        self.verb(paths::VM_STOP, name, &within(grace)).await
    }

    /// Off and on again, with what waits for that. `grace` is as for [`Client::stop_vm`].
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn reboot_vm(&self, name: &VmName, grace: Option<u32>) -> Result<Answer<Vm>, ClientError> {
        self.verb(paths::VM_REBOOT, name, &within(grace)).await
    }

    /// The VM shall be held still, its memory kept.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn pause_vm(&self, name: &VmName) -> Result<Answer<Vm>, ClientError> {
        self.verb(paths::VM_PAUSE, name, &[]).await
    }

    /// A VM that is held still shall go on.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn resume_vm(&self, name: &VmName) -> Result<Answer<Vm>, ClientError> {
        self.verb(paths::VM_RESUME, name, &[]).await
    }

    /// The VM is made anew: a fresh disk of the newest version of its template, or of `template`; all that was on the root
    /// disk is lost. With `dry_run` it only says what the VM would be.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn reinit_vm(
        &self,
        name: &VmName,
        template: Option<&TemplateSelector>,
        dry_run: bool,
    ) -> Result<Answer<Vm>, ClientError> {
        let mut query: Vec<_> = template.map(|template| ("template", template.to_string())).into_iter().collect();
        query.extend(said(dry_run));
        self.verb(paths::VM_REINIT, name, &query).await
    }

    /// The VM gets another name.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn rename_vm(&self, name: &VmName, new: &VmName) -> Result<Answer<Vm>, ClientError> {
        let body = self.json(&VmRename { name: new.clone() })?;
        self.post(paths::vm(paths::VM_RENAME, name), body, &IdempotencyKey::random()).await
    }

    /// Changes what a VM is made of; with `expect` only if it still is of that generation.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn update_vm(
        &self,
        name: &VmName,
        update: &VmUpdate,
        expect: Option<Generation>,
        key: &IdempotencyKey,
    ) -> Result<Answer<Vm>, ClientError> {
        self.patch(paths::vm(paths::VM, name), update, expect, key).await
    }

    /// Says what a change would come to. Nothing is kept.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn preview_update(
        &self,
        name: &VmName,
        update: &VmUpdate,
    ) -> Result<Answer<VmUpdatePreview>, ClientError> {
        let path = with_query(&paths::vm(paths::VM, name), &said(true));
        self.patch(path, update, None, &IdempotencyKey::random()).await
    }

    /// Says whether a VM could be deleted. Nothing is kept.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn preview_delete(&self, name: &VmName) -> Result<Answer<Vm>, ClientError> {
        let path = with_query(&paths::vm(paths::VM, name), &said(true));
        let request = self.write(Method::DELETE, path, Body::Empty, &IdempotencyKey::random());
        self.answered(request).await
    }

    /// Away with a VM, disks included, if it still is of that generation: then it is the one that was meant, and nobody has
    /// changed it since.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn delete_vm_at(
        &self,
        name: &VmName,
        expect: Generation,
        key: &IdempotencyKey,
    ) -> Result<Answer<Vm>, ClientError> {
        let request = self.write(Method::DELETE, paths::vm(paths::VM, name), Body::Empty, key);
        self.answered(request.header(headers::IF_MATCH, format!("\"{}\"", expect.0))).await
    }

    async fn verb(
        &self,
        path: &'static str,
        name: &VmName,
        query: &[(&str, String)],
    ) -> Result<Answer<Vm>, ClientError> {
        self.post(with_query(&paths::vm(path, name), query), Body::Empty, &IdempotencyKey::random()).await
    }

    async fn patch<T: DeserializeOwned>(
        &self,
        path: String,
        update: &VmUpdate,
        expect: Option<Generation>,
        key: &IdempotencyKey,
    ) -> Result<Answer<T>, ClientError> {
        let mut request = self.write(Method::PATCH, path, self.json(update)?, key);
        if let Some(expect) = expect {
            request = request.header(headers::IF_MATCH, format!("\"{}\"", expect.0));
        }
        self.answered(request).await
    }

    async fn answered<T: DeserializeOwned>(&self, request: Request) -> Result<Answer<T>, ClientError> {
        let (endpoint, response) = self.send(&request).await?;
        answer::json(&endpoint, response).await
    }
}

fn within(grace: Option<u32>) -> Vec<(&'static str, String)> {
    grace.map(|seconds| ("grace", seconds.to_string())).into_iter().collect()
}

fn said(dry_run: bool) -> Vec<(&'static str, String)> {
    dry_run.then(|| ("dry_run", true.to_string())).into_iter().collect()
}

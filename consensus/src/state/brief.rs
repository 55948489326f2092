//! VMs as lists need them: without their guests' documents, which may be many times as large as all the rest and lie in
//! pages of their own.

use serde::{Deserialize, Serialize};
use waifud_model::{cloud_init::UserData, digest::Blake3, vm::Vm};

/// A VM, and of its guest's documents only what may be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmBrief {
    /// The record; `spec.cloud_init` is without its documents.
    pub vm: Vm,
    /// Of its user-data.
    pub user_data: Option<DocumentBrief>,
    /// Of its network-config.
    pub network_config: Option<DocumentBrief>,
}

/// What may be known of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentBrief {
    /// BLAKE3 of its bytes.
    pub digest: Blake3,
    /// How many bytes.
    pub size: u64,
}

impl From<&UserData> for DocumentBrief {
    fn from(document: &UserData) -> Self {
        Self { digest: Blake3::of(document.as_bytes()), size: document.as_bytes().len() as u64 }
    }
}

impl From<Vm> for VmBrief {
    /// Leaves the documents behind.
    fn from(mut vm: Vm) -> Self {
        let told = &mut vm.spec.cloud_init;
        let (user_data, network_config) = (told.user_data.take(), told.network_config.take());
        Self {
            vm,
            user_data: user_data.as_ref().map(Into::into),
            network_config: network_config.as_ref().map(Into::into),
        }
    }
}

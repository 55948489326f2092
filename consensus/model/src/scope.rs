//! API tokens that are for some VMs only: the labels that tell which, and what each command is about, seen from there.

use crate::{command::Command, ids::VmId, labels::Labels};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Which VMs somebody may know of: those that have all of these labels. Without any it is all VMs, which is what everybody
/// has who has no such token.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Scope(Labels);

impl Scope {
    /// Of VMs with all of `labels`.
    #[must_use]
    pub const fn new(labels: Labels) -> Self {
        Self(labels)
    }

    /// True if it leaves nothing out.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.0.is_empty()
    }

    /// True if a VM with these labels is one of its own.
    #[must_use]
    pub fn has(&self, labels: &Labels) -> bool {
        labels.contains_all(&self.0)
    }

    /// What its VMs have in common.
    #[must_use]
    pub const fn labels(&self) -> &Labels {
        &self.0
    }
}

impl fmt::Display for Scope {
    /// `env=prod, team=web`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (key, value)) in self.0.iter().enumerate() {
            write!(f, "{}{key}={value}", if n == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// What a command is about, as far as a scope is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// A VM that is there.
    Vm(VmId),
    /// A VM to be, with these labels.
    NewVm(&'a Labels),
    /// Anything else: nothing that a scope has a part in.
    Other,
}

impl Command {
    /// What it is about. Without a wildcard: whoever adds a command says it here.
    #[must_use]
    pub fn target(&self) -> Target<'_> {
        match self {
            Self::CreateVm(create) => Target::NewVm(&create.spec.labels),
            Self::SetPower { vm, .. }
            | Self::RebootVm { vm, .. }
            | Self::ChangeVm { vm, .. }
            | Self::RenameVm { vm, .. }
            | Self::ReinitVm { vm, .. }
            | Self::DeleteVm { vm, .. }
            | Self::ConfirmVmGone { vm }
            | Self::OpenConsole { vm, .. } => Target::Vm(*vm),
            Self::SetCloudInit(set) => Target::Vm(set.vm),
            Self::InitCluster(_)
            | Self::AddNode(_)
            | Self::UpdateNode { .. }
            | Self::RotateNodeKey { .. }
            | Self::SetMeshEnd { .. }
            | Self::SetCordon { .. }
            | Self::RemoveNode { .. }
            | Self::CreateJoinToken(_)
            | Self::RevokeJoinToken(_)
            | Self::CreateApiToken(_)
            | Self::RevokeApiToken(_)
            | Self::SetNodeLabels { .. }
            | Self::SetCloudDefaults(_)
            | Self::AddNetPeer { .. }
            | Self::RemoveNetPeer(_)
            | Self::AddTemplateVersion(_)
            | Self::DeleteTemplate { .. }
            | Self::ReportVmEvents(_)
            | Self::RaiseFeatureLevel(_) => Target::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(json: &str) -> Labels {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_vm_needs_all_labels_and_may_have_more() {
        let scope = Scope::new(labels(r#"{"team":"web","env":"prod"}"#));
        assert!(scope.has(&labels(r#"{"team":"web","env":"prod","tier":"1"}"#)));
        for other in ["{}", r#"{"team":"web"}"#, r#"{"team":"web","env":"test"}"#, r#"{"team":"Web","env":"prod"}"#] {
            assert!(!scope.has(&labels(other)), "{other}");
        }
        assert_eq!(scope.to_string(), "env=prod, team=web");
        assert!(!scope.is_whole());
    }

    #[test]
    fn without_labels_it_leaves_nothing_out() {
        assert!(Scope::default().is_whole());
        assert!(Scope::default().has(&Labels::default()));
    }
}

//! What commands are called where people read of them: in the audit trail and in logs. The words are part of the API: they
//! are kept in events for as long as those are, so a command that is renamed keeps its word.

use crate::command::Command;

impl Command {
    /// The command in a word.
    #[must_use]
    pub const fn verb(&self) -> &'static str {
        match self {
            Self::InitCluster(_) => "init_cluster",
            Self::AddNode(_) => "add_node",
            Self::UpdateNode { .. } => "update_node",
            Self::RotateNodeKey { .. } => "rotate_node_key",
            Self::SetMeshEnd { .. } => "set_mesh_end",
            Self::SetCordon { .. } => "set_cordon",
            Self::RemoveNode { .. } => "remove_node",
            Self::CreateJoinToken(_) => "create_join_token",
            Self::RevokeJoinToken(_) => "revoke_join_token",
            Self::CreateApiToken(_) => "create_api_token",
            Self::RevokeApiToken(_) => "revoke_api_token",
            Self::CreateVm(_) => "create_vm",
            Self::SetPower { .. } => "set_power",
            Self::RebootVm { .. } => "reboot_vm",
            Self::ChangeVm { .. } => "change_vm",
            Self::RenameVm { .. } => "rename_vm",
            Self::ReinitVm { .. } => "reinit_vm",
            Self::SetNodeLabels { .. } => "set_node_labels",
            Self::SetCloudInit(_) => "set_cloud_init",
            Self::SetCloudDefaults(_) => "set_cloud_defaults",
            Self::AddNetPeer { .. } => "add_net_peer",
            Self::RemoveNetPeer(_) => "remove_net_peer",
            Self::DeleteVm { .. } => "delete_vm",
            Self::ConfirmVmGone { .. } => "confirm_vm_gone",
            Self::OpenConsole { .. } => "open_console",
            Self::AddTemplateVersion(_) => "add_template_version",
            Self::DeleteTemplate { .. } => "delete_template",
            Self::ReportVmEvents(_) => "report_vm_events",
            Self::RaiseFeatureLevel(_) => "raise_feature_level",
        }
    }
}

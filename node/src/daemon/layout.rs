//! Where everything lies in a node's data directory.
//!
//! ```text
//!   <data>/cluster/identity   key, certificate, CA certificate
//!   <data>/cluster/raft       log.db, state.db, snapshots
//!   <data>/cluster/mesh.key   the private key of this node's end of the mesh
//!   <data>/cluster/overrides.json  power that was asked for without quorum, until the cluster has been told
//!   <data>/cluster/peers      who to ask first, until the replicated state says it better
//!   <data>/cluster.new/       the same while a cluster is made or joined; renamed in one step, so that a machine is
//!                             either a member or not
//!   <data>/images  <data>/volumes  <data>/serial
//! ```

use std::{
    fs::{self, File},
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

/// The paths of one data directory.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    data: PathBuf,
}

/// What belongs to the membership in a cluster.
#[derive(Debug, Clone)]
pub(super) struct ClusterDir {
    root: PathBuf,
}

impl Layout {
    /// Of this data directory.
    #[must_use]
    pub(super) fn new(data: impl Into<PathBuf>) -> Self {
        Self { data: data.into() }
    }

    /// The data directory itself.
    #[must_use]
    pub(super) fn data(&self) -> &Path {
        &self.data
    }

    /// The membership, where there is one.
    #[must_use]
    pub(super) fn cluster(&self) -> ClusterDir {
        ClusterDir { root: self.data.join("cluster") }
    }

    /// A membership in the making.
    #[must_use]
    pub(super) fn cluster_in_the_making(&self) -> ClusterDir {
        ClusterDir { root: self.data.join("cluster.new") }
    }

    /// True when this machine is a member of a cluster.
    #[must_use]
    pub(super) fn is_member(&self) -> bool {
        self.cluster().root.is_dir()
    }

    /// Makes the membership in the making the real one. What it consists of must be on disk by then; its names need not.
    ///
    /// # Errors
    /// If the directories cannot be renamed or synced.
    pub(super) fn commit_membership(&self) -> io::Result<()> {
        let making = self.cluster_in_the_making().root;
        File::open(&making)?.sync_all()?;
        fs::rename(making, self.cluster().root)?;
        File::open(&self.data)?.sync_all()
    }

    /// Template versions.
    #[must_use]
    pub(super) fn images(&self) -> PathBuf {
        self.data.join("images")
    }

    /// VMs' disks.
    #[must_use]
    pub(super) fn volumes(&self) -> PathBuf {
        self.data.join("volumes")
    }

    /// VMs' serial logs.
    #[must_use]
    pub(super) fn serial(&self) -> PathBuf {
        self.data.join("serial")
    }
}

impl ClusterDir {
    /// The directory itself.
    #[must_use]
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Makes it, and lets nobody else in: the node's key and the cluster's CA are below it. The data directory around it
    /// stays open, for the hypervisor's account has to reach images and disks.
    ///
    /// # Errors
    /// If the directory cannot be made.
    pub(super) fn make(&self) -> io::Result<()> {
        fs::create_dir_all(&self.root)?;
        fs::set_permissions(&self.root, fs::Permissions::from_mode(0o700))
    }

    /// Key and certificates.
    #[must_use]
    pub(super) fn identity(&self) -> PathBuf {
        self.root.join("identity")
    }

    /// The private key of this node's end of the mesh.
    #[must_use]
    pub(super) fn mesh_key(&self) -> PathBuf {
        self.root.join("mesh.key")
    }

    /// The replicated state.
    #[must_use]
    pub(super) fn raft(&self) -> PathBuf {
        self.root.join("raft")
    }

    /// Who to ask first.
    #[must_use]
    pub(super) fn peers(&self) -> PathBuf {
        self.root.join("peers")
    }

    /// What was asked of this node's VMs without the cluster.
    #[must_use]
    pub(super) fn overrides(&self) -> PathBuf {
        self.root.join("overrides.json")
    }

    /// Gossip's count of starts.
    #[must_use]
    pub(super) fn gossip_generation(&self) -> PathBuf {
        self.root.join("gossip-generation")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_membership_is_private_and_there_at_once_or_not_at_all() {
        let data = tempfile::tempdir().unwrap();
        let layout = Layout::new(data.path().join("below"));
        layout.cluster_in_the_making().make().unwrap();
        assert!(!layout.is_member());
        layout.commit_membership().unwrap();
        assert!(layout.is_member());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(layout.cluster().root()), 0o700);
        assert_ne!(mode(layout.data()), 0o700, "the hypervisor's account must reach what is beside it");
    }
}

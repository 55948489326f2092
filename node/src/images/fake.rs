//! Images that exist only by name, for simulations and the tests of whoever uses [`ImageStore`].

use super::{ImageError, ImageStore};
use crate::faults::{Faults, lock};
use async_trait::async_trait;
use std::{collections::BTreeSet, path::PathBuf, sync::Mutex};
use waifud_model::{digest::Blake3, template::TemplateVersion};

/// The operations that can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ImageOp {
    /// [`ImageStore::ensure`] of a version that is not here.
    Fetch,
}

/// Images in memory. Every version can be fetched, unless [`Faults`] says otherwise.
#[derive(Debug, Default)]
pub struct FakeImages {
    present: Mutex<BTreeSet<Blake3>>,
    /// What goes wrong.
    pub faults: Faults<ImageOp>,
}

impl FakeImages {
    /// Puts a version here, as an import would.
    pub fn add(&self, version: Blake3) {
        lock(&self.present).insert(version);
    }

    /// Takes a version away.
    pub fn remove(&self, version: Blake3) {
        lock(&self.present).remove(&version);
    }
}

#[async_trait]
impl ImageStore for FakeImages {
    async fn ensure(&self, version: &TemplateVersion) -> Result<PathBuf, ImageError> {
        let name = version.version;
        let path = PathBuf::from(format!("/fake/images/{name}"));
        if !self.present(name).await {
            let refuse = |source| ImageError::Io { doing: "fetch", path: path.clone(), source };
            self.faults.meet(ImageOp::Fetch).await.map_err(refuse)?;
            self.add(name);
        }
        Ok(path)
    }

    async fn present(&self, version: Blake3) -> bool {
        lock(&self.present).contains(&version)
    }
}

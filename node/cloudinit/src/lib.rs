//! cloud-init.

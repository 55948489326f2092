//! cloud-init as waifud speaks it: user-data checked and merged, and the documents of three datasources rendered.
//!
//! In: what the replica knows of a VM, as one [`Instance`]. Out: [`Documents`], which the metadata service only looks
//! paths up in, the bytes of a [`seed`] disk, and the verdict of a [`user_data::check`].
//!
//! ```text
//! Instance ─▶ Documents::render ─▶ nocloud("/user-data"), ec2("/latest/…"), openstack("/openstack/…")
//!          └▶ seed::image       ─▶ a disk labelled `cidata`, for a VM that brings its own network-config
//! ```
//!
//! Pure: no I/O, no clock, no randomness; the same input gives the same bytes on every node. User-data holds secrets,
//! so nothing here puts a byte of it in a message: messages name lines and keys.
//!
//! What guests read was taken from cloud-init's own sources, release 22.4 (Debian 12) and 24.4; each module names the file.

pub mod documents;
mod ec2;
pub mod instance;
pub mod merge;
mod nocloud;
mod openstack;
pub mod phone_home;
pub mod seed;
pub mod user_data;

pub use documents::{Document, Documents};
pub use instance::{Instance, InstanceId};

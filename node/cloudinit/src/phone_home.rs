//! The vendor-data of guests that nobody has given any: it asks cloud-init to tell the node when it is done.
//!
//! Read by cloud-init 22.4 `cloudinit/config/cc_phone_home.py`, once in each life of the guest, after all scripts and before
//! the final message: a form is posted, of which [`INSTANCE_ID`] counts here. User-data wins over vendor-data, but the
//! keys within `phone_home` are merged (`cloudinit/mergers/m_dict.py`: `_recurse_dict`). So what stands here beside the URL
//! is what cloud-init takes where nothing is said: anything else would change a `phone_home` of the user's own.
//!
//! EC2 has no vendor-data. A guest with a network-config is left alone: it has its documents from a disk that was written when
//! it was started.

use crate::Instance;
use std::borrow::Cow;

/// Where the form is posted.
pub const PATH: &str = "/waifud/cloud-init-done";

/// The field of the form that says of which life of the guest it is.
pub const INSTANCE_ID: &str = "instance_id";

/// The vendor-data that a guest gets; none if there is none for it.
pub(crate) fn vendor_data(instance: &Instance) -> Option<Cow<'_, [u8]>> {
    match &instance.defaults.vendor_data {
        Some(given) => Some(Cow::Borrowed(given.as_bytes())),
        None if instance.cloud_init.network_config.is_some() => None,
        None => Some(Cow::Owned(
            format!("#cloud-config\nphone_home: {{url: 'http://169.254.169.254{PATH}', post: all, tries: 10}}\n")
                .into(),
        )),
    }
}

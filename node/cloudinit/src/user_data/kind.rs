//! What cloud-init takes user-data for, by how it begins: the same tests in the same order as its own.
//!
//! 22.4 `cloudinit/user_data.py` (`convert_string`): compressed data is unpacked, then anything with `mime-version:` in
//! its first 4096 bytes is MIME. `cloudinit/handlers/__init__.py` (`type_from_starts_with`): of the rest the beginning
//! counts, without leading white space and in any case of letters.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A kind of user-data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Kind {
    /// `#cloud-config`: YAML.
    CloudConfig,
    /// `#cloud-config-archive`: a YAML list of parts.
    CloudConfigArchive,
    /// `#cloud-config-jsonp`: a JSON patch to the cloud-config of the parts before it.
    CloudConfigJsonPatch,
    /// `#!`: run once, late in the first boot.
    Script,
    /// `#cloud-boothook`: run at every boot, early.
    Boothook,
    /// `#include` and `#include-once`: URLs to fetch more from.
    Include,
    /// `#part-handler`: Python that handles other parts.
    PartHandler,
    /// `## template: jinja`: rendered in the guest, then taken for what it begins with.
    Jinja,
    /// A MIME message.
    Multipart,
    /// Compressed by gzip.
    Gzip,
    /// Nothing that cloud-init knows. It ignores it, with a warning in its log.
    Unknown,
}

/// The beginnings, the longer of two before the shorter.
const BEGINNINGS: [(&str, Kind); 9] = [
    ("#cloud-config-archive", Kind::CloudConfigArchive),
    ("#cloud-config-jsonp", Kind::CloudConfigJsonPatch),
    ("## template: jinja", Kind::Jinja),
    ("#cloud-boothook", Kind::Boothook),
    ("#include-once", Kind::Include),
    ("#cloud-config", Kind::CloudConfig),
    ("#part-handler", Kind::PartHandler),
    ("#include", Kind::Include),
    ("#!", Kind::Script),
];

/// How far cloud-init looks for a MIME header.
const MIME_WITHIN: usize = 4096;

impl Kind {
    /// What cloud-init takes `bytes` for.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        if bytes.starts_with(&[0x1f, 0x8b]) {
            return Self::Gzip;
        }
        let start = bytes.get(..MIME_WITHIN).unwrap_or(bytes);
        let mime = b"mime-version:";
        if start.windows(mime.len()).any(|w| w.eq_ignore_ascii_case(mime)) {
            return Self::Multipart;
        }
        let text = bytes.trim_ascii_start();
        let begins = |with: &str| text.get(..with.len()).is_some_and(|b| b.eq_ignore_ascii_case(with.as_bytes()));
        BEGINNINGS.into_iter().find(|(beginning, _)| begins(beginning)).map_or(Self::Unknown, |(_, kind)| kind)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::CloudConfig => "cloud-config",
            Self::CloudConfigArchive => "cloud-config archive",
            Self::CloudConfigJsonPatch => "cloud-config JSON patch",
            Self::Script => "script",
            Self::Boothook => "boothook",
            Self::Include => "include",
            Self::PartHandler => "part handler",
            Self::Jinja => "Jinja template",
            Self::Multipart => "MIME multipart",
            Self::Gzip => "compressed by gzip",
            Self::Unknown => "unknown",
        })
    }
}

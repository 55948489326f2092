//! Why bytes are not taken as an image. Each reason stands by itself, so that the person who brought the file knows what
//! to mend; the API shows these texts as they are.

use std::io;
use waifud_model::size::ByteSize;

/// What is wrong with the bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There are none.
    #[error("the file is empty")]
    Empty,
    /// An archive or a compressed file.
    #[error("the file is {kind}; unpack it and give the image in it")]
    Packed {
        /// What it is, with its article.
        kind: &'static str,
    },
    /// A disk image, but in another hypervisor's format.
    #[error("the image is in {format} format; convert it first: qemu-img convert -O qcow2 IN OUT")]
    OtherFormat {
        /// The format's name.
        format: &'static str,
    },
    /// Nothing that a machine could start from.
    #[error("the file is neither qcow2 nor a disk with a partition table: {why}")]
    NotAnImage {
        /// What was found instead.
        why: &'static str,
    },
    /// A version of qcow2 that is not known.
    #[error("the image is qcow2 version {0}; only 2 and 3 are known")]
    Version(u32),
    /// It continues in another file, which would be read from this host with the hypervisor's rights.
    #[error("the image stands on a backing file ({0:?}); flatten it first: qemu-img convert -O qcow2 IN OUT")]
    BackingFile(String),
    /// Its data is in another file, which would be read from this host with the hypervisor's rights.
    #[error(
        "the image keeps its data in another file{}; convert it first: qemu-img convert -O qcow2 IN OUT",
        .0.as_ref().map(|name| format!(" ({name:?})")).unwrap_or_default()
    )]
    ExternalData(Option<String>),
    /// The disk would be larger than allowed.
    #[error("the image makes a disk of {size}; at most {max} is allowed ([images] max_virtual_size)")]
    TooLarge {
        /// The disk's size.
        size: ByteSize,
        /// The limit.
        max: ByteSize,
    },
    /// Its contents are encrypted, and no one here has the key.
    #[error("the image is encrypted; decrypt it first")]
    Encrypted,
    /// It needs something that this version cannot know.
    #[error("the image needs {} that are not known here", .0.join(", "))]
    UnknownFeatures(Vec<String>),
    /// The end is missing.
    #[error("the image is cut off: {what} would end at byte {end}, but there are only {have}")]
    Truncated {
        /// What lies beyond the end.
        what: &'static str,
        /// Where it would end.
        end: u64,
        /// The file's length.
        have: u64,
    },
    /// Its tables are made to exhaust whoever reads them.
    #[error("the image's tables are out of all proportion: {0}")]
    Bomb(&'static str),
    /// Its tables contradict each other.
    #[error("the image is corrupt: {0}")]
    Corrupt(String),
    /// Verified bytes turned out as something other than the template says.
    #[error("the image is {found}, but its template says {recorded}")]
    OtherThanRecorded {
        /// What was found.
        found: String,
        /// What was expected.
        recorded: String,
    },
}

/// Why looking at an image came to no good end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LookError {
    /// The file could not be read.
    #[error("the file cannot be read")]
    Read(#[from] io::Error),
    /// It was read, and refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

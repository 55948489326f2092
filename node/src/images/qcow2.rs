//! The qcow2 format, as far as is needed to know whether a file may be trusted: the header, and that every table lies where
//! it says. In: an open file; out: a [`Header`], or the [`Refusal`] that names what is wrong.
//!
//! We look ourselves before any QEMU program opens the file: QEMU follows a backing or data file while it opens an image, and
//! by then it has read a file of this host. Layout: `docs/interop/qcow2.rst` in QEMU's sources; limits: `block/qcow2.h`.

use super::refusal::{LookError, Refusal};
use std::{collections::BTreeSet, fs::File, io, os::unix::fs::FileExt};
use waifud_model::size::ByteSize;

/// The first four bytes of every qcow2 file.
pub(crate) const MAGIC: [u8; 4] = *b"QFI\xfb";

/// Largest L1 table QEMU opens (`QCOW_MAX_L1_SIZE`).
const L1_BYTES_MAX: u64 = 32 << 20;
/// Largest reference count table QEMU opens (`QCOW_MAX_REFTABLE_SIZE`).
const REFTABLE_BYTES_MAX: u64 = 8 << 20;
/// Most internal snapshots QEMU opens (`QCOW_MAX_SNAPSHOTS`).
const SNAPSHOTS_MAX: u32 = 65_536;
/// Longest backing file name the format allows.
const BACKING_NAME_MAX: u32 = 1023;
/// More header extensions than any version of QEMU has ever written, by far.
const EXTENSIONS_MAX: usize = 64;

/// Incompatible features: who does not know one must not open the image.
mod incompatible {
    /// Not closed cleanly: reference counts may be wrong.
    pub(super) const DIRTY: u64 = 1;
    /// QEMU found it corrupt.
    pub(super) const CORRUPT: u64 = 1 << 1;
    /// Guest data is in another file.
    pub(super) const EXTERNAL_DATA: u64 = 1 << 2;
    /// Clusters are compressed by something other than zlib.
    pub(super) const COMPRESSION: u64 = 1 << 3;
    /// L2 entries of 16 bytes, with subclusters.
    pub(super) const EXTENDED_L2: u64 = 1 << 4;
    /// All of the above.
    pub(super) const KNOWN: u64 = DIRTY | CORRUPT | EXTERNAL_DATA | COMPRESSION | EXTENDED_L2;
}

/// Types of header extensions.
mod extension {
    pub(super) const END: u32 = 0;
    pub(super) const EXTERNAL_DATA_NAME: u32 = 0x4441_5441;
    pub(super) const FEATURE_NAMES: u32 = 0x6803_f857;
}

/// Bits of an L1 or L2 entry that are an offset in the file.
const OFFSET_MASK: u64 = 0x00ff_ffff_ffff_fe00;
/// Set in the L2 entry of a compressed cluster.
const COMPRESSED: u64 = 1 << 62;

/// What the header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    /// Size of the disk a guest sees.
    pub(crate) virtual_size: u64,
    /// The file this one continues, if there is one.
    pub(crate) backing: Option<String>,
    cluster_bits: u32,
    l1_entries: u32,
    l1_offset: u64,
    refcount_offset: u64,
    refcount_clusters: u32,
    snapshots: u32,
    encryption: u32,
    incompatible: u64,
    data_file: Option<String>,
    unknown_features: Vec<String>,
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_be_bytes)
}

fn be64(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_be_bytes)
}

/// Reads `len` bytes at `at`, or says that `what` is cut off.
fn read(file: &File, what: &'static str, at: u64, len: usize) -> Result<Vec<u8>, LookError> {
    let mut bytes = vec![0; len];
    match file.read_exact_at(&mut bytes, at) {
        Ok(()) => Ok(bytes),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
            let have = file.metadata()?.len();
            Err(Refusal::Truncated { what, end: at.saturating_add(len as u64), have }.into())
        }
        Err(e) => Err(e.into()),
    }
}

impl Header {
    /// Reads the header. Says nothing yet about whether the image is acceptable; its tables are not looked at.
    pub(crate) fn read(file: &File) -> Result<Self, LookError> {
        const LEN_V2: usize = 72;
        const LEN_V3: usize = 104;
        let fixed = read(file, "the header", 0, LEN_V2)?;
        if fixed[..4] != MAGIC {
            return Err(Refusal::NotAnImage { why: "it does not begin like a qcow2 file" }.into());
        }
        let (incompatible, header_len) = match be32(&fixed, 4) {
            2 => (0, LEN_V2 as u64),
            3 => {
                let more = read(file, "the header", 0, LEN_V3)?;
                (be64(&more, 72), u64::from(be32(&more, 100)))
            }
            other => return Err(Refusal::Version(other).into()),
        };
        let cluster_bits = be32(&fixed, 20);
        if !(9..=21).contains(&cluster_bits) {
            return Err(Refusal::Corrupt(format!("clusters of 2^{cluster_bits} bytes")).into());
        }
        let cluster = 1u64 << cluster_bits;
        if header_len > cluster {
            return Err(Refusal::Corrupt(format!("a header of {header_len} bytes")).into());
        }
        let (backing_at, backing_len) = (be64(&fixed, 8), be32(&fixed, 16));
        let backing = match backing_at {
            0 => None,
            _ if backing_len > BACKING_NAME_MAX => {
                return Err(Refusal::Corrupt("a backing file name that is too long".to_owned()).into());
            }
            at => Some(text(&read(file, "the backing file's name", at, backing_len as usize)?)),
        };
        // Extensions end where the backing file's name begins, or with the first cluster.
        let end = if backing_at == 0 { cluster } else { backing_at.min(cluster) };
        let extensions = Extensions::read(file, header_len, end)?;
        let unknown = incompatible & !incompatible::KNOWN;
        Ok(Self {
            virtual_size: be64(&fixed, 24),
            backing,
            cluster_bits,
            l1_entries: be32(&fixed, 36),
            l1_offset: be64(&fixed, 40),
            refcount_offset: be64(&fixed, 48),
            refcount_clusters: be32(&fixed, 56),
            snapshots: be32(&fixed, 60),
            encryption: be32(&fixed, 32),
            incompatible,
            unknown_features: (0..64).filter(|bit| unknown >> bit & 1 == 1).map(|b| extensions.feature(b)).collect(),
            data_file: extensions.data_file,
        })
    }

    /// Everything that can be refused without looking at a table.
    pub(crate) fn check(&self, max_virtual: ByteSize) -> Result<(), Refusal> {
        if let Some(name) = &self.backing {
            return Err(Refusal::BackingFile(name.clone()));
        }
        if self.has(incompatible::EXTERNAL_DATA) || self.data_file.is_some() {
            return Err(Refusal::ExternalData(self.data_file.clone()));
        }
        if !self.unknown_features.is_empty() {
            return Err(Refusal::UnknownFeatures(self.unknown_features.clone()));
        }
        if self.encryption != 0 {
            return Err(Refusal::Encrypted);
        }
        if self.has(incompatible::CORRUPT) {
            return Err(Refusal::Corrupt("it is marked so".to_owned()));
        }
        if self.has(incompatible::DIRTY) {
            return Err(Refusal::Corrupt(
                "it was not closed cleanly; repair it: qemu-img check -r all FILE".to_owned(),
            ));
        }
        if self.virtual_size > max_virtual.as_bytes() {
            return Err(Refusal::TooLarge { size: ByteSize::bytes(self.virtual_size), max: max_virtual });
        }
        if self.virtual_size == 0 {
            return Err(Refusal::Corrupt("a disk of no size".to_owned()));
        }
        if u64::from(self.l1_entries) * 8 > L1_BYTES_MAX {
            return Err(Refusal::Bomb("an L1 table of more than 32 MiB"));
        }
        if u64::from(self.refcount_clusters) << self.cluster_bits > REFTABLE_BYTES_MAX {
            return Err(Refusal::Bomb("a reference count table of more than 8 MiB"));
        }
        if self.snapshots > SNAPSHOTS_MAX {
            return Err(Refusal::Bomb("more than 65536 snapshots"));
        }
        let covered = self.virtual_size.div_ceil(self.entries_per_l2() << self.cluster_bits);
        if u64::from(self.l1_entries) < covered {
            return Err(Refusal::Corrupt("the L1 table is too short for the disk".to_owned()));
        }
        Ok(())
    }

    /// Walks the tables: every one of them, and every cluster of the guest, must lie in the file, and no L2 table may
    /// serve twice. Reads at most the file once, and holds one table at a time.
    pub(crate) fn check_tables(&self, file: &File) -> Result<(), LookError> {
        let have = file.metadata()?.len();
        let within = |what, at: u64, len: u64| {
            let end = at.saturating_add(len);
            if end > have { Err(Refusal::Truncated { what, end, have }) } else { Ok(()) }
        };
        let aligned = |what: &str, at: u64| {
            if at.is_multiple_of(self.cluster()) {
                Ok(())
            } else {
                Err(Refusal::Corrupt(format!("{what} at byte {at} does not begin with a cluster")))
            }
        };
        aligned("the L1 table", self.l1_offset)?;
        within("the L1 table", self.l1_offset, u64::from(self.l1_entries) * 8)?;
        aligned("the reference count table", self.refcount_offset)?;
        let refcounts = u64::from(self.refcount_clusters) << self.cluster_bits;
        within("the reference count table", self.refcount_offset, refcounts)?;

        let l1 = read(file, "the L1 table", self.l1_offset, self.l1_entries as usize * 8)?;
        let mut seen = BTreeSet::new();
        for entry in l1.chunks_exact(8) {
            let at = be64(entry, 0) & OFFSET_MASK;
            if at == 0 {
                continue;
            }
            aligned("an L2 table", at)?;
            within("an L2 table", at, self.cluster())?;
            if !seen.insert(at) {
                return Err(Refusal::Bomb("an L2 table that is used twice").into());
            }
            let table = read(file, "an L2 table", at, 1 << self.cluster_bits)?;
            for entry in table.chunks_exact(self.l2_entry_bytes()) {
                // A file may end within its last cluster, but not before it begins.
                match self.cluster_of(be64(entry, 0)) {
                    Some(at) => within("a cluster of the disk", at, 1)?,
                    None => continue,
                }
            }
        }
        Ok(())
    }

    /// Where the cluster of an L2 entry begins in the file, if it is there at all.
    fn cluster_of(&self, entry: u64) -> Option<u64> {
        let at = if entry & COMPRESSED == 0 {
            entry & OFFSET_MASK
        } else {
            // The offset has the low 62 - (cluster_bits - 8) bits; the sector count is above it.
            entry & ((1 << (62 - (self.cluster_bits - 8))) - 1)
        };
        (at != 0).then_some(at)
    }

    fn has(&self, feature: u64) -> bool {
        self.incompatible & feature != 0
    }

    fn cluster(&self) -> u64 {
        1 << self.cluster_bits
    }

    fn l2_entry_bytes(&self) -> usize {
        if self.has(incompatible::EXTENDED_L2) { 16 } else { 8 }
    }

    fn entries_per_l2(&self) -> u64 {
        self.cluster() / self.l2_entry_bytes() as u64
    }
}

/// What we want of the header extensions.
#[derive(Debug, Default)]
struct Extensions {
    data_file: Option<String>,
    /// Entries of 48 bytes: the kind of feature, its bit, its name.
    names: Vec<u8>,
}

impl Extensions {
    fn read(file: &File, mut at: u64, end: u64) -> Result<Self, LookError> {
        let mut found = Self::default();
        for _ in 0..EXTENSIONS_MAX {
            if at + 8 > end {
                return Ok(found);
            }
            let head = read(file, "a header extension", at, 8)?;
            let (kind, len) = (be32(&head, 0), be32(&head, 4));
            if kind == extension::END {
                return Ok(found);
            }
            at += 8;
            if u64::from(len) > end - at {
                return Err(Refusal::Corrupt("a header extension is longer than the header".to_owned()).into());
            }
            let body = read(file, "a header extension", at, len as usize)?;
            match kind {
                extension::EXTERNAL_DATA_NAME => found.data_file = Some(text(&body)),
                extension::FEATURE_NAMES => found.names = body,
                _ => {}
            }
            at += u64::from(len).next_multiple_of(8);
        }
        Err(Refusal::Bomb("more than 64 header extensions").into())
    }

    /// The name of an incompatible feature, which the image itself may bring.
    fn feature(&self, bit: u8) -> String {
        const INCOMPATIBLE: u8 = 0;
        let named = self.names.chunks_exact(48).find(|entry| entry[0] == INCOMPATIBLE && entry[1] == bit);
        named.map_or_else(|| format!("feature {bit}"), |entry| format!("feature {bit} ({:?})", text(&entry[2..])))
    }
}

/// Text that an image brought, to be shown to people.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

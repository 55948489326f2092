//! The BLAKE3 tree of an image: made from its bytes, used to prove parts of them to a peer, and to check what a peer sends.
//! In: files; out: hashes, encoded parts, valid ranges. All of it blocks; callers bring a thread that may.
//!
//! Parts travel as Bao encodes them (the hashes from the root down, then the bytes), with groups of 16 KiB as leaves: the
//! tree is then 0.4 % of the image.

use bao_tree::{
    BaoTree, BlockSize, ByteRanges, ChunkRanges,
    io::{
        DecodeError, EncodeError,
        outboard::PreOrderOutboard,
        round_up_to_chunks,
        sync::{decode_ranges, encode_ranges_validated, outboard, valid_ranges},
    },
};
use std::{
    fs::{File, OpenOptions},
    io,
    ops::Range,
    path::Path,
};
use waifud_model::digest::Blake3;

/// Leaves of 2^4 chunks of 1 KiB.
const GROUP: BlockSize = BlockSize::from_chunk_log(4);

/// Bytes in a leaf: parts begin at a multiple of this.
pub(super) const GROUP_BYTES: u64 = 16 << 10;

/// An image, or what is here of it, and its tree.
#[derive(Debug)]
pub(super) struct Tree {
    data: File,
    outboard: PreOrderOutboard<File>,
}

/// The most bytes that the encoding of `len` bytes can have: leaves, the hashes between them, and those up to the root.
pub(super) const fn encoded_max(len: u64) -> u64 {
    const PAIR: u64 = 64;
    const DEPTH: u64 = 64;
    // A part may begin and end within a group, whose bytes then travel with it.
    len + 2 * GROUP_BYTES + (len / GROUP_BYTES + 2 + 2 * DEPTH) * PAIR
}

impl Tree {
    /// Makes the tree of a whole file, written to `tree`, and gives the root.
    pub(super) fn build(data: &Path, tree: &Path) -> io::Result<Blake3> {
        let data = File::open(data)?;
        let geometry = BaoTree::new(data.metadata()?.len(), GROUP);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(tree)?;
        file.set_len(geometry.outboard_size())?;
        // The root is not known yet; it is not stored, so any stands in its place.
        let hashes = PreOrderOutboard { root: blake3::Hash::from_bytes([0; 32]), tree: geometry, data: file };
        let root = outboard(io::BufReader::new(&data), geometry, hashes)?;
        Ok(Blake3(*root.as_bytes()))
    }

    /// Opens a whole image.
    pub(super) fn open(version: Blake3, data: &Path, tree: &Path) -> io::Result<Self> {
        let data = File::open(data)?;
        let len = data.metadata()?.len();
        Ok(Self::of(version, len, data, File::open(tree)?))
    }

    /// Opens what is here of an image that has `len` bytes, or begins it.
    pub(super) fn part(version: Blake3, len: u64, data: &Path, tree: &Path) -> io::Result<Self> {
        let open = |path| OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let (data, hashes) = (open(data)?, open(tree)?);
        // Both become sparse; what was never written reads as zeros, which prove nothing.
        data.set_len(len)?;
        hashes.set_len(BaoTree::new(len, GROUP).outboard_size())?;
        Ok(Self::of(version, len, data, hashes))
    }

    fn of(version: Blake3, len: u64, data: File, hashes: File) -> Self {
        let tree = BaoTree::new(len, GROUP);
        let root = blake3::Hash::from_bytes(version.0);
        Self { data, outboard: PreOrderOutboard { root, tree, data: hashes } }
    }

    /// How many bytes the image has.
    pub(super) fn len(&self) -> u64 {
        self.outboard.tree.size()
    }

    /// A part of the image with its proof. Reads it and checks it first: a failing disk here is not passed on.
    pub(super) fn encode(&self, range: Range<u64>) -> Result<Vec<u8>, EncodeError> {
        let mut encoded = Vec::with_capacity(encoded_max(range.end - range.start) as usize);
        encode_ranges_validated(&self.data, &self.outboard, &chunks(range), &mut encoded)?;
        Ok(encoded)
    }

    /// Checks a part that came from a peer, and writes down what is proven.
    pub(super) fn decode(&mut self, range: Range<u64>, encoded: &[u8]) -> Result<(), DecodeError> {
        decode_ranges(io::Cursor::new(encoded), &chunks(range), &mut self.data, &mut self.outboard)
    }

    /// The parts that are not here, or not proven. Reads and hashes all that is.
    pub(super) fn missing(&self) -> io::Result<Vec<Range<u64>>> {
        let mut missing = ChunkRanges::from(..bao_tree::ChunkNum::chunks(self.len()));
        for valid in valid_ranges(&self.outboard, &self.data, &ChunkRanges::all()) {
            missing -= ChunkRanges::from(valid?);
        }
        let ends = missing.boundaries().iter().map(|chunk| chunk.to_bytes().min(self.len())).collect::<Vec<_>>();
        Ok(ends.chunks_exact(2).map(|ends| ends[0]..ends[1]).collect())
    }
}

fn chunks(range: Range<u64>) -> ChunkRanges {
    round_up_to_chunks(&ByteRanges::from(range))
}

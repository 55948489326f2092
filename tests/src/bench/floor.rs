//! What the disk takes to make a small write durable: no system that answers for its writes can be faster.

use super::load::Measured;
use anyhow::Result;
use std::{fs::File, io::Write as _, path::Path, time::Instant};

/// As much as an entry of the log.
const BYTES: [u8; 256] = [7; 256];

/// Appends and syncs, one write after the other, to a file in `dir`.
pub(super) fn measure(dir: &Path, writes: usize) -> Result<Measured> {
    let path = dir.join("floor");
    let mut file = File::create(&path)?;
    let mut took = Vec::with_capacity(writes);
    for _ in 0..writes {
        let begun = Instant::now();
        file.write_all(&BYTES)?;
        file.sync_data()?;
        took.push(begun.elapsed());
    }
    std::fs::remove_file(&path)?;
    Ok(Measured::of(took))
}

//! Values that people type, where what reads is not always what can be meant.

use waifud_model::size::{ByteSize, SizeError};

/// Less than this of memory or disk is nothing that anybody wants: the unit was forgotten.
const BYTES: ByteSize = ByteSize::mib(1);

/// A count, of which none would be nonsense.
pub(crate) fn one_or_more(text: &str) -> Result<u32, String> {
    text.parse().ok().filter(|count| *count > 0).ok_or_else(|| "write a whole number, 1 or more".to_owned())
}

/// A size of memory or of a disk.
pub(crate) fn size(text: &str) -> Result<ByteSize, String> {
    let size: ByteSize = text.parse().map_err(|e: SizeError| e.to_string())?;
    if size > ByteSize::ZERO && size < BYTES && text.bytes().all(|c| c.is_ascii_digit()) {
        return Err(format!("{text} alone are bytes; write {text}G, or {text}M"));
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_meant_is_told() {
        assert_eq!(one_or_more("4"), Ok(4));
        for none in ["0", "-1", "x", ""] {
            assert!(one_or_more(none).is_err(), "{none:?}");
        }
        assert_eq!(size("4").unwrap_err(), "4 alone are bytes; write 4G, or 4M");
        assert!(size("4x").unwrap_err().contains("512M"));
        // What a list in a pipe has told is bytes and is meant, and what is too small is the cluster's to say.
        for (text, bytes) in [("268435456", 256 << 20), ("4K", 4 << 10), ("0", 0), ("1.5G", 3 << 29)] {
            assert_eq!(size(text).unwrap().as_bytes(), bytes, "{text}");
        }
    }
}

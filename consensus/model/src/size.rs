//! Amounts of memory and disk, in bytes.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::{fmt, ops::Add, ops::Sub, str::FromStr};

/// A number of bytes. Written by people with binary suffixes: `512M`, `10G`, `1.5GiB`, `1048576`.
///
/// In JSON it is the plain number of bytes, so that every client can compute with it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteSize(u64);

/// Why a text is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a size; write a number with K, M, G or T, for example 512M or 10G")]
pub struct SizeError(String);

const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

impl ByteSize {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// From a number of bytes.
    #[must_use]
    pub const fn bytes(n: u64) -> Self {
        Self(n)
    }

    /// From mebibytes (2^20 bytes); saturates.
    #[must_use]
    pub const fn mib(n: u64) -> Self {
        Self(n.saturating_mul(1 << 20))
    }

    /// From gibibytes (2^30 bytes); saturates.
    #[must_use]
    pub const fn gib(n: u64) -> Self {
        Self(n.saturating_mul(1 << 30))
    }

    /// The number of bytes.
    #[must_use]
    pub const fn as_bytes(self) -> u64 {
        self.0
    }

    /// Whole kibibytes, rounded down: libvirt's unit of memory.
    #[must_use]
    pub const fn as_kib(self) -> u64 {
        self.0 >> 10
    }

    /// The difference, or nothing if `other` is more.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Add for ByteSize {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for ByteSize {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self.saturating_sub(other)
    }
}

impl std::iter::Sum for ByteSize {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::ZERO, Add::add)
    }
}

impl ByteSize {
    /// The largest binary unit of which this is at least one.
    fn unit(self) -> (&'static str, u64) {
        UNITS.into_iter().find(|(_, size)| self.0 >= *size).unwrap_or(("B", 1))
    }

    /// How many units, with a decimal where that is not whole.
    fn count(self, unit: u64) -> String {
        if self.0.is_multiple_of(unit) {
            (self.0 / unit).to_string()
        } else {
            // Display only: a double holds every size we can have to far more than one decimal.
            format!("{:.1}", self.0 as f64 / unit as f64)
        }
    }

    /// This part of `all`, in its unit: `3.1/8 GiB`.
    #[must_use]
    pub fn part_of(self, all: Self) -> String {
        format!("{}/{all}", self.count(all.unit().1))
    }
}

impl fmt::Display for ByteSize {
    /// The largest binary unit that is at least one, with a decimal where it is not whole: `512 MiB`, `1.5 GiB`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, size) = self.unit();
        f.pad(&format!("{} {unit}", self.count(size)))
    }
}

impl fmt::Debug for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ByteSize {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let refuse = || SizeError(text.to_owned());
        let trimmed = text.trim();
        let split = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
        let (number, suffix) = trimmed.split_at(split);
        let multiplier = match suffix.trim_start().to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "k" | "kib" | "kb" => 1u64 << 10,
            "m" | "mib" | "mb" => 1 << 20,
            "g" | "gib" | "gb" => 1 << 30,
            "t" | "tib" | "tb" => 1 << 40,
            _ => return Err(refuse()),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let whole: u64 = whole.parse().map_err(|_| refuse())?;
        let bytes = whole.checked_mul(multiplier).ok_or_else(refuse)?;
        if number.contains('.') && (fraction.is_empty() || fraction.len() > 6) {
            return Err(refuse());
        }
        let mut part = 0;
        if !fraction.is_empty() {
            let digits: u64 = fraction.parse().map_err(|_| refuse())?;
            part = (u128::from(digits) * u128::from(multiplier) / 10u128.pow(fraction.len() as u32)) as u64;
        }
        bytes.checked_add(part).map(Self).ok_or_else(refuse)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    /// Takes the number of bytes; in human-readable formats also a text with a suffix.
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        if !d.is_human_readable() {
            return u64::deserialize(d).map(Self);
        }
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Number(u64),
            Text(String),
        }
        match Either::deserialize(d)? {
            Either::Number(n) => Ok(Self(n)),
            Either::Text(t) => t.parse().map_err(D::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_and_show() {
        let cases = [
            ("512M", 512 << 20, "512 MiB"),
            ("1.5G", 3 << 29, "1.5 GiB"),
            ("10 GiB", 10 << 30, "10 GiB"),
            ("1023", 1023, "1023 B"),
            ("0", 0, "0 B"),
        ];
        for (text, bytes, shown) in cases {
            let size: ByteSize = text.parse().unwrap();
            assert_eq!((size.as_bytes(), size.to_string().as_str()), (bytes, shown), "{text}");
        }
        for bad in ["", "G", "-1", "1X", "1e9", "18446744073709551616", "99999999999T", "1.", ".5G"] {
            assert!(bad.parse::<ByteSize>().is_err(), "{bad}");
        }
    }

    #[test]
    fn json_takes_numbers_and_text() {
        assert_eq!(serde_json::from_str::<ByteSize>("1048576").unwrap(), ByteSize::mib(1));
        assert_eq!(serde_json::from_str::<ByteSize>("\"1M\"").unwrap(), ByteSize::mib(1));
        assert_eq!(serde_json::to_string(&ByteSize::mib(1)).unwrap(), "1048576");
    }
}

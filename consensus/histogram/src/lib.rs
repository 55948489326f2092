//! Stands in for the crate `base2histogram`, in which openraft counts how large its batches are and how long its stages take.
//!
//! The crate computes tables for sixteen resolutions when the first histogram is made, 25 MB that stay resident; openraft uses
//! one of them, and with its feature `runtime-stats` off nobody can ask for what was counted. This is the part of the
//! interface that openraft compiles against, at one resolution: a bucket for each power of two. It must not grow beyond that:
//! who wants the statistics takes the real crate back.

use std::{fmt, marker::PhantomData};

/// One bucket for zero, and one for each length that a number has in bits.
const BUCKETS: usize = u64::BITS as usize + 1;

/// How often values of each magnitude were recorded. `T` is what the real crate lets callers attach to a window of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    counts: [u64; BUCKETS],
    of: PhantomData<T>,
}

impl<T> Histogram<T> {
    /// Nothing recorded yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { counts: [0; BUCKETS], of: PhantomData }
    }

    /// Counts a value.
    pub const fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// Counts a value as often as `n` says.
    pub const fn record_n(&mut self, value: u64, n: u64) {
        let bucket = &mut self.counts[(u64::BITS - value.leading_zeros()) as usize];
        *bucket = bucket.saturating_add(n);
    }

    /// How many values were recorded.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The usual percentiles. Each is the least value of the bucket it falls into: at least half of the true one.
    #[must_use]
    pub fn percentile_stats(&self) -> PercentileStats {
        let at = |per_mille| self.value_at(per_mille);
        PercentileStats {
            samples: self.total(),
            p0_1: at(1),
            p1: at(10),
            p5: at(50),
            p10: at(100),
            p50: at(500),
            p90: at(900),
            p99: at(990),
            p99_9: at(999),
        }
    }

    fn value_at(&self, per_mille: u128) -> u64 {
        let rank = (u128::from(self.total()) * per_mille).div_ceil(1000).max(1);
        let mut seen = 0;
        for (bits, count) in self.counts.iter().enumerate() {
            seen += u128::from(*count);
            if seen >= rank {
                return least_of(bits);
            }
        }
        0
    }
}

/// The least number that has so many bits.
fn least_of(bits: usize) -> u64 {
    bits.checked_sub(1).map_or(0, |shift| 1 << shift)
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Values that the given share of what was recorded does not exceed by much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PercentileStats {
    /// How many were recorded.
    pub samples: u64,
    /// 0.1 %.
    pub p0_1: u64,
    /// 1 %.
    pub p1: u64,
    /// 5 %.
    pub p5: u64,
    /// 10 %.
    pub p10: u64,
    /// Half.
    pub p50: u64,
    /// 90 %.
    pub p90: u64,
    /// 99 %.
    pub p99: u64,
    /// 99.9 %.
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { samples, p0_1, p1, p5, p10, p50, p90, p99, p99_9 } = self;
        write!(f, "{samples} values: P0.1 {p0_1}, P1 {p1}, P5 {p5}, P10 {p10}, ")?;
        write!(f, "P50 {p50}, P90 {p90}, P99 {p99}, P99.9 {p99_9}")
    }
}

/// Histograms with their names, to be printed.
#[derive(Debug, Clone, Default)]
pub struct AsciiChart(Vec<(String, Histogram)>);

impl AsciiChart {
    /// No histogram yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// With one more.
    #[must_use]
    pub fn add(mut self, name: impl ToString, histogram: Histogram) -> Self {
        self.0.push((name.to_string(), histogram));
        self
    }

    /// A line for each histogram: the least value of each bucket in use, and how many fell into it. The real crate has a
    /// shorter form, too.
    #[must_use]
    pub const fn detailed(&self) -> &Self {
        self
    }
}

impl fmt::Display for AsciiChart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, histogram) in &self.0 {
            write!(f, "{name}:")?;
            for (bits, count) in histogram.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
                write!(f, " {}+:{count}", least_of(bits))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_for_each_power_of_two() {
        let mut histogram = Histogram::<()>::new();
        [0, 1, 2, 3, 4, 255, 256, u64::MAX].into_iter().for_each(|value| histogram.record(value));
        assert_eq!(histogram.total(), 8);
        let chart = AsciiChart::new().add("sizes", histogram).to_string();
        assert_eq!(chart, "sizes: 0+:1 1+:1 2+:2 4+:1 128+:1 256+:1 9223372036854775808+:1\n");
    }

    #[test]
    fn percentiles_are_those_of_the_buckets() {
        let mut histogram = Histogram::<()>::new();
        assert_eq!(histogram.percentile_stats().p99, 0);
        histogram.record_n(1, 89);
        histogram.record_n(9, 10);
        histogram.record(1000);
        let PercentileStats { samples, p0_1, p50, p90, p99, p99_9, .. } = histogram.percentile_stats();
        assert_eq!((samples, p0_1, p50, p90, p99, p99_9), (100, 1, 1, 8, 8, 512));
    }
}

//! The simulation's random numbers: a generator that gives the same for the same seed, whatever the version of any library.

use std::{ops::Range, time::Duration};

/// `SplitMix64` (Steele, Lea and Flood 2014): small, and good enough to choose what goes wrong next.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// All throws follow from `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Dice of their own for one purpose, so that more throws there change nothing elsewhere.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        Self(self.number())
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number of a range; its start, if it is empty.
    pub fn within(&mut self, range: Range<u64>) -> u64 {
        let wide = range.end.saturating_sub(range.start).max(1);
        range.start + self.number() % wide
    }

    /// True so many times of a thousand.
    pub fn permille(&mut self, chance: u64) -> bool {
        self.within(0..1000) < chance
    }

    /// One of these, if there are any.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        let at = usize::try_from(self.within(0..from.len() as u64)).ok()?;
        from.get(at)
    }

    /// A time of a range, in milliseconds.
    pub fn millis(&mut self, range: Range<u64>) -> Duration {
        Duration::from_millis(self.within(range))
    }

    /// Sixteen bytes.
    pub fn bytes(&mut self) -> [u8; 16] {
        let (high, low) = (self.number(), self.number());
        ((u128::from(high) << 64) | u128::from(low)).to_be_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_throws_for_ever() {
        let mut dice = Dice::new(7);
        let throws = [dice.number(), dice.number()];
        assert_eq!(throws, [0x63cb_e1e4_5932_0dd7, 0x044c_3cd7_f43c_661c]);
        assert!((0..1000).all(|_| (3..5).contains(&dice.within(3..5))));
        assert_eq!(dice.pick::<u8>(&[]), None);
    }
}

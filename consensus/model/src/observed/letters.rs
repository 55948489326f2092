//! Small sets with a letter for each member, for texts that every node gossips.

use super::ObservedError;
use std::{fmt, marker::PhantomData, str::FromStr};

/// Something of which there are at most eight, each with a letter.
pub trait Letter: Copy + Eq + 'static {
    /// All there are, with their letters, in the order in which they are written.
    const ALL: &'static [(Self, char)];
}

/// A set of them. Its text is a letter for each, `-` for none.
#[derive(Debug, PartialEq, Eq)]
pub struct Letters<T>(u8, PhantomData<T>);

impl<T> Clone for Letters<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Letters<T> {}

impl<T> Default for Letters<T> {
    fn default() -> Self {
        Self::NONE
    }
}

impl<T> Letters<T> {
    /// The empty set.
    pub const NONE: Self = Self(0, PhantomData);

    /// True of the empty set.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl<T: Letter> Letters<T> {
    fn bit(one: T) -> u8 {
        T::ALL.iter().position(|(member, _)| *member == one).map_or(0, |at| 1 << at)
    }

    /// With one more.
    #[must_use]
    pub fn and(self, one: T) -> Self {
        Self(self.0 | Self::bit(one), PhantomData)
    }

    /// True if it is in.
    #[must_use]
    pub fn has(self, one: T) -> bool {
        self.0 & Self::bit(one) != 0
    }

    /// All that are in, in a fixed order.
    pub fn iter(self) -> impl Iterator<Item = T> {
        T::ALL.iter().map(|(one, _)| *one).filter(move |one| self.has(*one))
    }
}

impl<T: Letter> FromIterator<T> for Letters<T> {
    fn from_iter<I: IntoIterator<Item = T>>(all: I) -> Self {
        all.into_iter().fold(Self::NONE, Self::and)
    }
}

impl<T: Letter> fmt::Display for Letters<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("-");
        }
        T::ALL.iter().filter(|(one, _)| self.has(*one)).try_for_each(|(_, letter)| write!(f, "{letter}"))
    }
}

impl<T: Letter> FromStr for Letters<T> {
    type Err = ObservedError;

    /// Letters of a newer version's are left aside.
    fn from_str(text: &str) -> Result<Self, ObservedError> {
        if !text.chars().all(|c| c == '-' || c.is_ascii_lowercase()) {
            return Err(ObservedError(text.chars().take(80).collect()));
        }
        let known = |letter| T::ALL.iter().find(|(_, known)| *known == letter).map(|(one, _)| *one);
        Ok(text.chars().filter_map(known).collect())
    }
}

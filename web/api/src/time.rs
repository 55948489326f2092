//! Points in time as the interface shows them: RFC 3339, UTC, milliseconds.
//!
//! Items carry absolute times only, so that every node answers alike and an answer can be cached or compared.

use crate::text::serde_by_text;
use std::{borrow::Cow, fmt, str::FromStr, time::Duration};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{KnownFormat, ObjectBuilder, RefOr, Schema, SchemaFormat, Type},
};
use waifud_model::time::Timestamp;

/// A point in time, `2026-03-01T12:00:00.000Z` in text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub Timestamp);

/// A text that is not a point in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a time; write it like 2026-03-01T12:00:00Z")]
pub struct TimeError(String);

impl Time {
    /// How long before `now` this was; zero if it was not.
    #[must_use]
    pub const fn age(self, now: Self) -> Duration {
        now.0.since(self.0)
    }
}

impl From<Timestamp> for Time {
    fn from(at: Timestamp) -> Self {
        Self(at)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Milliseconds beyond the year 9999 cannot be written in RFC 3339; such a value is shown as the last that can.
        let at = i64::try_from(self.0.0)
            .ok()
            .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
            .unwrap_or(jiff::Timestamp::MAX);
        write!(f, "{at:.3}")
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Time {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<Self, TimeError> {
        let refuse = || TimeError(text.chars().take(80).collect());
        let at: jiff::Timestamp = text.parse().map_err(|_| refuse())?;
        u64::try_from(at.as_millisecond()).map(|ms| Self(Timestamp(ms))).map_err(|_| refuse())
    }
}

serde_by_text!(Time);

impl PartialSchema for Time {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .description(Some("RFC 3339, UTC, milliseconds"))
            .into()
    }
}

impl ToSchema for Time {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("Time")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339() {
        let at = Time(Timestamp(1_760_000_000_123));
        assert_eq!(at.to_string(), "2025-10-09T08:53:20.123Z");
        assert_eq!(at.to_string().parse(), Ok(at));
        assert_eq!("2025-10-09T10:53:20.123+02:00".parse(), Ok(at));
        assert_eq!(Time(Timestamp(0)).to_string(), "1970-01-01T00:00:00.000Z");
        assert!(Time(Timestamp(u64::MAX)).to_string().starts_with("9999-12-30"));
        for bad in ["", "yesterday", "2025-10-09", "1760000000", "1950-01-01T00:00:00Z"] {
            assert!(bad.parse::<Time>().is_err(), "{bad}");
        }
    }
}

//! Times and spans for people.

use jiff::SignedDuration;
use std::time::Duration;
use waifud_api::time::Time;
use waifud_model::time::Timestamp;

/// This moment by the clock of this machine.
pub(crate) fn now() -> Time {
    Time(Timestamp(u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0)))
}

/// A span in its one largest unit: `42s`, `12min`, `3h`, `41d`.
pub(crate) fn short_span(span: Duration) -> String {
    match span.as_secs() {
        s @ 0..60 => format!("{s}s"),
        s @ 60..3600 => format!("{}min", s / 60),
        s @ 3600..86_400 => format!("{}h", s / 3600),
        s => format!("{}d", s / 86_400),
    }
}

/// How long a step took: `0.1s`, `9.8s`, `83s`.
pub(crate) fn elapsed(span: Duration) -> String {
    if span < Duration::from_secs(60) { format!("{:.1}s", span.as_secs_f64()) } else { format!("{}s", span.as_secs()) }
}

/// Reads a span as people write it: `90`, `90s`, `5m`, `1h 30m`, `7d`.
pub(crate) fn parse_span(text: &str) -> Result<Duration, String> {
    let refuse = || format!("{text:?} is not a span of time; write it like 90s, 5m, 1h or 7d");
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(Duration::from_secs(seconds));
    }
    // Days are not of equal length everywhere on Earth; for a token's life or a wait, 24 hours will do.
    if let Some(days) = text.strip_suffix('d').and_then(|days| days.trim().parse::<u64>().ok()) {
        return days.checked_mul(86_400).map(Duration::from_secs).ok_or_else(refuse);
    }
    let span: SignedDuration = text.parse().map_err(|_| refuse())?;
    Duration::try_from(span).map_err(|_| refuse())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_and_show() {
        for (text, seconds, shown) in [
            ("0", 0, "0s"),
            ("90", 90, "1min"),
            ("59s", 59, "59s"),
            ("5m", 300, "5min"),
            ("1h 30m", 5400, "1h"),
            ("7d", 604_800, "7d"),
        ] {
            let span = parse_span(text).unwrap();
            assert_eq!((span.as_secs(), short_span(span).as_str()), (seconds, shown), "{text}");
        }
        for bad in ["", "soon", "-5m", "5 parsecs", "99999999999999999999d"] {
            assert!(parse_span(bad).is_err(), "{bad}");
        }
        assert_eq!(elapsed(Duration::from_millis(9_840)), "9.8s");
        assert_eq!(elapsed(Duration::from_secs(83)), "83s");
    }
}

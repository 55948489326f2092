//! How often one caller may ask over HTTPS: generous for whoever has a token, tight for whoever has none.
//!
//! In: who asks, now. Out: yes, or how long to wait. The local socket and other nodes are not counted: whoever is there may do
//! everything anyway. Each caller has one moment, which every request moves on by its share of a second and which may not
//! run too far ahead of the clock (the generic cell rate algorithm, ITU-T I.371). Must not remember who has been quiet.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;
use waifud_model::command::Actor;

/// Whose requests are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Who {
    /// A token's bearers.
    Caller(Actor),
    /// Those at an address who are nobody's bearers, or wherever the address is not known.
    Stranger(Option<IpAddr>),
}

/// What one of a kind may ask.
struct Limit {
    /// The share of each request: as many fit into a second as may come for ever.
    each: Duration,
    /// How many may come at once.
    burst: u32,
}

/// One node answers some 10,000 reads a second: one token, perhaps in many hands, may have a fifth of that.
const CALLER: Limit = Limit { each: Duration::from_micros(500), burst: 4_000 };

/// Enough for a monitoring system and for the files of the panel; too little to try tokens, of which there are 2^256, or to keep
/// a core busy with handshakes of HTTP.
const STRANGER: Limit = Limit { each: Duration::from_millis(20), burst: 200 };

/// From so many on, those that have been quiet are forgotten: a few hundred kilobytes.
const REMEMBERED: usize = 4_096;

/// Who asked lately.
#[derive(Debug, Default)]
pub struct Rates(Mutex<HashMap<Who, Instant>>);

impl Rates {
    /// Counts one request. An error is how long its sender should wait.
    pub(crate) fn admit(&self, who: Who) -> Result<(), Duration> {
        let now = Instant::now();
        let Limit { each, burst } = match who {
            Who::Caller(_) => CALLER,
            Who::Stranger(_) => STRANGER,
        };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            known.retain(|_, next| *next > now);
        }
        let next = known.entry(who).or_insert(now);
        let ahead = next.saturating_duration_since(now);
        match ahead.checked_sub(each * (burst - 1)) {
            Some(wait) if !wait.is_zero() => Err(wait),
            _ => {
                *next = now + ahead + each;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use waifud_model::ids::TokenId;

    fn taken(rates: &Rates, who: &Who) -> u32 {
        (0..10_000).filter(|_| rates.admit(who.clone()).is_ok()).count().try_into().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_and_then_a_steady_rate() {
        let rates = Rates::default();
        let bearer = |n| Who::Caller(Actor::Token(TokenId::from_random(n)));
        assert_eq!(taken(&rates, &bearer(1)), CALLER.burst);
        assert_eq!(taken(&rates, &bearer(2)), CALLER.burst, "each for itself");
        assert_eq!(taken(&rates, &Who::Stranger(None)), STRANGER.burst);
        assert!(rates.admit(bearer(1)).unwrap_err() <= CALLER.each);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(taken(&rates, &bearer(1)), 2_000);
        assert_eq!(taken(&rates, &Who::Stranger(None)), 50);
    }

    #[tokio::test(start_paused = true)]
    async fn the_quiet_are_forgotten() {
        let rates = Rates::default();
        for n in 0..u32::try_from(REMEMBERED).unwrap() {
            rates.admit(Who::Stranger(Some(IpAddr::from(n.to_be_bytes())))).unwrap();
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        rates.admit(Who::Stranger(None)).unwrap();
        assert_eq!(rates.0.lock().unwrap().len(), 1);
    }
}

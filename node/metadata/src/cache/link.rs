//! The connection to Redis: made when it is needed, with a deadline on every call and a breaker before it.
//!
//! ```text
//!   closed ──(a call failed or was too slow)──> open for 1 s, doubling to 30 s ──> one call is let through
//!     ^                                           ^                                   │ it failed
//!     └───────────────(it worked)─────────────────┼───────────────────────────────────┘
//! ```
//!
//! A server that refuses a command (full, read-only, no rights) is there: that opens nothing.

use redis::{
    AsyncConnectionConfig, Client, ErrorKind, FromRedisValue, Pipeline, RedisError, aio::MultiplexedConnection,
};
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::{Instant, timeout_at};

/// How long nobody tries again after the first failure, and at the most.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Why a call did not work.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    #[error("Redis did not work a moment ago")]
    Open,
    #[error("Redis took too long")]
    TooSlow,
    #[error("Redis failed")]
    Failed(#[source] RedisError),
    #[error("Redis refused the command")]
    Refused(#[source] RedisError),
}

pub(super) struct Link {
    client: Client,
    state: Mutex<State>,
}

struct State {
    connection: Option<MultiplexedConnection>,
    /// When the next call may be tried, and how long the pause after that would be; none while all is well.
    open: Option<(Instant, Duration)>,
}

impl Link {
    pub(super) fn new(client: Client) -> Self {
        Self { client, state: Mutex::new(State { connection: None, open: None }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a call may be tried now. While the breaker is open, one in each pause may.
    pub(super) fn admit(&self, now: Instant) -> Result<(), CallError> {
        let mut state = self.state();
        match state.open {
            Some((until, _)) if now < until => Err(CallError::Open),
            Some((_, pause)) => {
                state.open = Some((now + pause, pause));
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Sends the commands and reads the answers, until `deadline`. The breaker learns how it went, and is not asked.
    pub(super) async fn call<T: FromRedisValue>(&self, commands: &Pipeline, deadline: Instant) -> Result<T, CallError> {
        let result = match timeout_at(deadline, self.attempt(commands)).await {
            Ok(Ok(answer)) => Ok(answer),
            // What the server says has a code, or is the list of what it said to single commands; what is not understood is
            // neither, nor is it worth talking on.
            Ok(Err(error)) if error.code().is_some() || error.clone().into_server_errors().is_some() => {
                Err(CallError::Refused(error))
            }
            Ok(Err(error)) if error.kind() == ErrorKind::UnexpectedReturnType => Err(CallError::Refused(error)),
            Ok(Err(error)) => Err(CallError::Failed(error)),
            Err(_) => Err(CallError::TooSlow),
        };
        let mut state = self.state();
        if matches!(result, Ok(_) | Err(CallError::Refused(_))) {
            state.open = None;
        } else {
            state.connection = None;
            let pause = state.open.map_or(PAUSE.0, |(_, pause)| (pause * 2).min(PAUSE.1));
            state.open = Some((Instant::now() + pause, pause));
        }
        result
    }

    async fn attempt<T: FromRedisValue>(&self, commands: &Pipeline) -> Result<T, RedisError> {
        let known = self.state().connection.clone();
        let mut connection = match known {
            Some(connection) => connection,
            None => {
                // The caller's deadline is the only one.
                let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
                let connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
                self.state().connection = Some(connection.clone());
                connection
            }
        };
        commands.query_async(&mut connection).await
    }
}

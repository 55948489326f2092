//! tokio for openraft, with a random number generator that a simulation can seed, and with a say in how long a wait is.
//!
//! openraft draws election timeouts from its runtime. Real nodes take them from the operating system; a simulation calls
//! [`seed`] on its one thread, and the same seed gives the same elections.

use futures::future::{self, Either, Ready};
use openraft::{AsyncRuntime, Instant as _, OptionalSend, TokioRuntime};
use rand::{Rng, SeedableRng, TryRng, rngs::StdRng};
use std::{cell::RefCell, convert::Infallible, future::Future, time::Duration};

/// What is due within this is due now. tokio's timers have ticks of a millisecond, and openraft, to gather what the disk has
/// finished, waits for a microsecond: every such wait would hold up a commit for two milliseconds.
const AT_ONCE: Duration = Duration::from_millis(1);

/// Every other wait for a moment is longer by this. There is one: openraft looks at its timers five times in a heartbeat, every
/// 20 ms with ours, on every node, and finds nothing to do. Its looks are on a grid that such a delay does not move, so it now
/// takes every third of them. Heartbeats leave at every second look: see `raft_config`.
const LONGER: Duration = Duration::from_millis(50);

thread_local! {
    static SEEDED: RefCell<Option<StdRng>> = const { RefCell::new(None) };
}

/// From now on every random number that consensus draws on this thread follows from `seed`. For simulation.
pub fn seed(seed: u64) {
    SEEDED.with_borrow_mut(|rng| *rng = Some(StdRng::seed_from_u64(seed)));
}

/// This thread's generator: the seeded one, or the operating system's.
#[derive(Debug)]
pub(crate) struct Random;

impl Random {
    fn with<T>(draw: impl FnOnce(&mut dyn Rng) -> T) -> T {
        SEEDED.with_borrow_mut(|rng| match rng {
            Some(rng) => draw(rng),
            None => draw(&mut rand::rng()),
        })
    }
}

impl TryRng for Random {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(Self::with(|rng| rng.next_u32()))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(Self::with(|rng| rng.next_u64()))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        Self::with(|rng| rng.fill_bytes(bytes));
        Ok(())
    }
}

/// [`TokioRuntime`] in everything but the random numbers.
#[derive(Debug)]
pub(crate) struct Runtime(TokioRuntime);

impl AsyncRuntime for Runtime {
    type JoinError = <TokioRuntime as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::JoinHandle<T>;
    type Sleep = Either<Ready<()>, <TokioRuntime as AsyncRuntime>::Sleep>;
    type Instant = <TokioRuntime as AsyncRuntime>::Instant;
    type TimeoutError = <TokioRuntime as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = <TokioRuntime as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = Random;
    type Mpsc = <TokioRuntime as AsyncRuntime>::Mpsc;
    type Watch = <TokioRuntime as AsyncRuntime>::Watch;
    type Oneshot = <TokioRuntime as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::Mutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        TokioRuntime::spawn(future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        Either::Right(TokioRuntime::sleep(duration))
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        if deadline <= Self::Instant::now() + AT_ONCE {
            return Either::Left(future::ready(()));
        }
        Either::Right(TokioRuntime::sleep_until(deadline + LONGER))
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(duration: Duration, future: F) -> Self::Timeout<R, F> {
        TokioRuntime::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(deadline: Self::Instant, future: F) -> Self::Timeout<R, F> {
        TokioRuntime::timeout_at(deadline, future)
    }

    fn is_panic(error: &Self::JoinError) -> bool {
        TokioRuntime::is_panic(error)
    }

    fn thread_rng() -> Random {
        Random
    }

    fn new(threads: usize) -> Self {
        Self(TokioRuntime::new(threads))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers() {
        let draw = || std::array::from_fn::<_, 8, _>(|_| Random.try_next_u64().unwrap());
        seed(7);
        let first = draw();
        seed(7);
        assert_eq!(draw(), first);
        seed(8);
        assert_ne!(draw(), first);
    }
}

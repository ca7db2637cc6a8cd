//! What one server bears: so many queries at a time, so many a second, and a pause when it is too
//! much.
//!
//! The pause doubles from a second to a minute, with chance in it, so that a thousand runs do not
//! come back at once; `Retry-After` is obeyed. One query that the server cannot answer stops nobody
//! else: for failures the pause begins after several in a row.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::SignedDuration;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::{ProviderError, Server};

/// The first and the longest pause.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// A server's own `Retry-After` is obeyed for at most this long.
const OBEYED: Duration = Duration::from_mins(5);

/// Failures in a row after which a server is left alone.
const TROUBLES: u32 = 3;

/// A second's worth of queries may come at once.
const BURST: Duration = Duration::from_secs(1);

/// The gate of one server.
pub(super) struct Gate {
    shown: String,
    concurrent: usize,
    per_second: u32,
    places: Semaphore,
    state: Mutex<State>,
}

struct State {
    /// When the next query would be due if they came evenly.
    next: Instant,
    troubles: u32,
    pause: Option<(Instant, ProviderError)>,
}

impl Gate {
    /// The gate of `server`.
    pub(super) fn of(server: &Server) -> Self {
        Self {
            shown: server.shown(),
            concurrent: server.concurrent,
            per_second: server.per_second,
            places: Semaphore::new(server.concurrent),
            state: Mutex::new(State { next: Instant::now(), troubles: 0, pause: None }),
        }
    }

    /// Whether the server's limits are still those of this gate.
    pub(super) fn is_for(&self, server: &Server) -> bool {
        (self.concurrent, self.per_second) == (server.concurrent, server.per_second)
    }

    /// Waits for a place, for at most `limit`.
    ///
    /// # Errors
    /// The server is left alone, or the queue is longer than `limit`.
    pub(super) async fn enter(
        &self,
        limit: Duration,
    ) -> Result<SemaphorePermit<'_>, ProviderError> {
        let end = Instant::now() + limit;
        self.paused()?;
        let place = timeout_at(end, self.places.acquire()).await;
        let place = place.ok().and_then(Result::ok).ok_or_else(|| {
            let Self { shown, concurrent, .. } = self;
            ProviderError::Timeout(format!(
                "{shown}: {concurrent} queries were under way for {} s: raise limits.concurrent of \
                 its MetricProvider, or ask less",
                limit.as_secs_f64()
            ))
        })?;
        self.paused()?;
        sleep_until(self.turn(end)?).await;
        Ok(place)
    }

    /// Takes in how a query ended.
    pub(super) fn learn(&self, error: Option<&ProviderError>) {
        let mut state = self.state();
        let asked = match error {
            Some(ProviderError::RateLimited { retry_after, .. }) => {
                state.troubles = state.troubles.saturating_add(1);
                retry_after.and_then(|after| Duration::try_from(after).ok()).unwrap_or_default()
            }
            Some(ProviderError::Server(_) | ProviderError::Timeout(_)) => {
                state.troubles = state.troubles.saturating_add(1);
                if state.troubles < TROUBLES {
                    return;
                }
                Duration::ZERO
            }
            None | Some(ProviderError::Refused(_) | ProviderError::Malformed(_)) => {
                state.troubles = 0;
                return;
            }
            Some(ProviderError::Unreachable(_) | ProviderError::Misconfigured(_)) => return,
        };
        let (first, longest) = PAUSE;
        let doubled = first.saturating_mul(1 << state.troubles.saturating_sub(1).min(10));
        // Half of it is chance.
        let own = doubled.min(longest).mul_f64(0.5 + 0.5 * chance());
        let pause = own.max(asked.min(OBEYED).mul_f64(1.0 + 0.1 * chance()));
        if let Some(error) = error {
            state.pause = Some((Instant::now() + pause, error.clone()));
        }
    }

    fn paused(&self) -> Result<(), ProviderError> {
        let state = self.state();
        let Some((until, error)) = &state.pause else { return Ok(()) };
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        let words = format!("left alone for {:.1} s more after: {error}", left.as_secs_f64());
        Err(match error {
            ProviderError::RateLimited { .. } => ProviderError::RateLimited {
                message: words,
                retry_after: SignedDuration::try_from(left).ok(),
            },
            ProviderError::Timeout(_) => ProviderError::Timeout(words),
            _ => ProviderError::Server(words),
        })
    }

    /// When this query may be asked: evenly, after a burst.
    fn turn(&self, end: Instant) -> Result<Instant, ProviderError> {
        let spacing = BURST / self.per_second.max(1);
        let now = Instant::now();
        let mut state = self.state();
        let even = state.next.max(now);
        let at = even.checked_sub(BURST.saturating_sub(spacing)).unwrap_or(now).max(now);
        if at > now && at > end {
            let Self { shown, per_second, .. } = self;
            return Err(ProviderError::Timeout(format!(
                "{shown}: more than {per_second} queries a second wait: raise limits.perSecond of \
                 its MetricProvider, or ask less"
            )));
        }
        state.next = even + spacing;
        Ok(at)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A number from 0 to 1 that differs from process to process and from call to call.
fn chance() -> f64 {
    let noise = RandomState::new().build_hasher().finish();
    f64::from(u32::try_from(noise >> 32).unwrap_or_default()) / f64::from(u32::MAX)
}

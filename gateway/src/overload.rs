//! Turns requests away when there are more than the gateway can serve in time, so that those which it takes are served.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::exchange::{Door, Exchange};
use crate::refusal::Refusal;
use crate::runtime::Core;
use crate::tunnel::metadata;
use crate::workers::Number;

/// From one measurement to the next.
const TICK: Duration = Duration::from_millis(20);

/// What bounds the work that is taken on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// So many requests at once whose answers have not begun. What has an answer may go on for hours with nothing to do,
    /// as streams and switched connections do; connections bound that.
    pub requests: Option<usize>,
    /// Work may wait so long for its turn before new requests are turned away.
    pub lag: Option<Duration>,
}

/// Whether a request is taken on.
pub struct Overload {
    limits: Limits,
    /// As was last measured, by worker.
    measured: Box<[Measured]>,
    /// Requests whose answers have not begun.
    unanswered: AtomicUsize,
}

/// What a worker found.
#[derive(Default)]
struct Measured {
    /// The share of its requests to turn away, of 2³².
    share: AtomicU32,
    /// How long its work waits for its turn, in milliseconds.
    lag: AtomicI64,
}

/// A request that was taken on and whose answer has not begun, until dropped.
#[must_use]
pub struct Unanswered<'a>(&'a AtomicUsize);

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Overload {
    /// All are taken on, until something else was measured by one of so many workers.
    pub fn new(limits: Limits, workers: usize) -> Self {
        let measured = (0..workers).map(|_| Measured::default()).collect();
        Overload { limits, measured, unanswered: AtomicUsize::new(0) }
    }

    /// Whether a worker's work waits for longer than it may.
    pub fn lags(&self, worker: Number) -> bool {
        let lag = worker.of(&self.measured).map_or(0, |measured| measured.lag.load(Ordering::Relaxed));
        self.limits.lag.is_some_and(|most| u128::try_from(lag).is_ok_and(|lag| lag > most.as_millis()))
    }

    /// Whether the request is taken on. It counts until its answer begins.
    ///
    /// # Errors
    /// When it isn't.
    pub fn admit(&self, exchange: &impl Exchange) -> Result<Unanswered<'_>, Refusal> {
        let before = self.unanswered.fetch_add(1, Ordering::Relaxed);
        let unanswered = Unanswered(&self.unanswered);
        let share = Number::here().of(&self.measured).map_or(0, |here| here.share.load(Ordering::Relaxed));
        let too_many = self.limits.requests.is_some_and(|most| before >= most);
        let turned_away = too_many || (share > 0 && fastrand::u32(..) < share);
        match turned_away && !is_report(exchange) {
            true => Err(Refusal::Overloaded),
            false => Ok(unanswered),
        }
    }
}

/// Peers must hear that this gateway lives, above all when it has much to do.
fn is_report(exchange: &impl Exchange) -> bool {
    matches!(exchange.entry().door, Door::Tunnel { .. }) && !exchange.head().headers.contains_key(metadata::SERVICE)
}

/// The time that this process has had on all cores together. That of the worker would be too little to tell by where
/// workers share fewer cores.
fn worked() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}

/// Measures the calling worker, and adjusts its share, for ever.
pub async fn watch(core: Arc<Core>) {
    let (all, limits) = (&core.overload.measured, core.overload.limits);
    let (Some(here), Some(target)) = (Number::here().of(all), limits.lag) else { return };
    let mut overload = decide::overload::Overload::new(target, Instant::now());
    let mut before = worked();
    loop {
        let due = tokio::time::Instant::now() + TICK;
        tokio::time::sleep_until(due).await;
        let lag = due.elapsed();
        let now = worked();
        let share = overload.observe(lag, now.saturating_sub(before), Instant::now());
        before = now;
        here.lag.store(i64::try_from(lag.as_millis()).unwrap_or(i64::MAX), Ordering::Relaxed);
        core.metrics.lag.set(all.iter().map(|one| one.lag.load(Ordering::Relaxed)).max().unwrap_or_default());
        // The conversion saturates, so that 1 is all but one of 2³².
        here.share.store((share * f64::from(u32::MAX)) as u32, Ordering::Relaxed);
    }
}

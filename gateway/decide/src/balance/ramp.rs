//! Slow start.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::cursor::FULL;

/// From its return to an instance's full share. With the checks that go before, a returned instance has it well within
/// 10 s.
const SLOW_START: Duration = Duration::from_secs(5);

/// An instance that was out comes back with a tenth of its share, which grows evenly to the whole: its caches are cold,
/// its pools empty, and its peers' load all at once might be what put it out. Read without a lock.
#[derive(Debug)]
pub struct Ramp {
    epoch: Instant,
    /// When it came back, in milliseconds since the epoch, counted from 1; 0 while it has its full share.
    began: AtomicU64,
}

impl Ramp {
    /// The full share. Times before `now` count as `now`.
    pub fn new(now: Instant) -> Self {
        Ramp { epoch: now, began: AtomicU64::new(0) }
    }

    /// It is back.
    pub fn begin(&self, now: Instant) {
        self.began.store(self.millis(now), Ordering::Relaxed);
    }

    /// Its weight now, from 1 to [`FULL`]. The clock is asked only while it matters.
    pub fn weight(&self, now: impl FnOnce() -> Instant) -> u32 {
        let began = self.began.load(Ordering::Relaxed);
        if began == 0 {
            return FULL;
        }
        let (elapsed, whole) = (self.millis(now()).saturating_sub(began), SLOW_START.as_millis() as u64);
        if elapsed >= whole {
            // If it fails, it has come back anew, and the next look sees that.
            let _ = self.began.compare_exchange(began, 0, Ordering::Relaxed, Ordering::Relaxed);
            return FULL;
        }
        1 + u32::try_from(u64::from(FULL - 1) * elapsed / whole).unwrap_or(0)
    }

    fn millis(&self, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.epoch).as_millis();
        u64::try_from(elapsed).unwrap_or(u64::MAX).saturating_add(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_grows_from_a_tenth_to_the_whole() {
        let start = Instant::now();
        let ramp = Ramp::new(start);
        let at = |percent: u32| ramp.weight(|| start + SLOW_START * percent / 100);
        assert_eq!(at(0), FULL);
        ramp.begin(start);
        assert_eq!([0, 50, 99, 100, 0].map(at), [1, 5, 9, FULL, FULL], "once whole, it stays so");
        ramp.begin(start);
        assert_eq!(at(0), 1);
    }
}

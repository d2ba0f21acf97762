//! Failed responses in a row.

use std::sync::atomic::{AtomicU32, Ordering};

/// So many failed responses in a row are evidence against an instance.
pub const STREAK_LIMIT: u32 = 5;

/// Counts an instance's failed responses in a row, without a lock.
#[derive(Debug, Default)]
pub struct Streak(AtomicU32);

impl Streak {
    /// Takes one response: `ok` is false for a status of 500 and above, and for a connection that was reset before the
    /// response was complete. True when the streak is full; it stays full until a good response or [`Streak::clear`],
    /// so that an ejection that had to wait (see [`may_eject`](super::may_eject)) is asked for again.
    pub fn record(&self, ok: bool) -> bool {
        if !ok {
            return self.0.fetch_add(1, Ordering::Relaxed).saturating_add(1) >= STREAK_LIMIT;
        }
        // Only read where nothing has to change: the cache line then stays shared between the threads.
        if self.0.load(Ordering::Relaxed) != 0 {
            self.clear();
        }
        false
    }

    /// Starts anew, as after an ejection.
    pub fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_failures_in_a_row_count() {
        let streak = Streak::default();
        let outcomes = [false, false, false, false, true, false, false, false, false];
        assert!(outcomes.iter().all(|ok| !streak.record(*ok)));
        assert!(streak.record(false));
        assert!(streak.record(false));
        assert!(!streak.record(true));
        assert!(!streak.record(false));
    }
}

//! Counts over the last seconds, without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// The window's length in seconds; one slot for each.
pub const WINDOW: usize = 10;

/// Counts over the last [`WINDOW`] seconds. A slot holds the second that it counts in its upper half, and the count in
/// its lower half, so that both change as one.
#[derive(Debug, Default)]
pub struct Window([AtomicU64; WINDOW]);

impl Window {
    /// Counts one more in this second.
    pub fn add(&self, second: Second) {
        let Second(second) = second;
        let Some(slot) = self.0.get(second as usize % WINDOW) else { return };
        let advance = |packed| match unpack(packed) {
            (counted, count) if counted == second => Some(pack(second, count.saturating_add(1))),
            // A thread that was held up must not throw away what a later second counted.
            (counted, _) if counted > second => None,
            _ => Some(pack(second, 1)),
        };
        // An error only says that `advance` left the slot alone.
        let _ = slot.fetch_update(Ordering::Relaxed, Ordering::Relaxed, advance);
    }

    /// How many were counted in the window that ends with this second.
    pub fn sum(&self, second: Second) -> u64 {
        let current = |counted: u32| counted != 0 && second.0.abs_diff(counted) < WINDOW as u32;
        let slots = self.0.iter().map(|slot| unpack(slot.load(Ordering::Relaxed)));
        slots.filter(|(counted, _)| current(*counted)).map(|(_, count)| u64::from(count)).sum()
    }

    /// Forgets everything.
    pub fn clear(&self) {
        self.0.iter().for_each(|slot| slot.store(0, Ordering::Relaxed));
    }
}

/// A second of a [`Clock`], from 1: a slot of 0 was never used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Second(u32);

/// Turns moments into seconds since a beginning.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    /// Times before `start` count as `start`.
    pub fn new(start: Instant) -> Self {
        Clock(start)
    }

    /// The second in which that moment lies.
    pub fn second(&self, now: Instant) -> Second {
        let elapsed = now.saturating_duration_since(self.0).as_secs();
        Second(u32::try_from(elapsed).unwrap_or(u32::MAX).saturating_add(1))
    }
}

fn pack(second: u32, count: u32) -> u64 {
    u64::from(second) << 32 | u64::from(count)
}

fn unpack(packed: u64) -> (u32, u32) {
    ((packed >> 32) as u32, packed as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_is_older_than_the_window_is_forgotten() {
        let start = Instant::now();
        let (clock, window) = (Clock::new(start), Window::default());
        let at = |seconds| clock.second(start + Duration::from_secs(seconds));
        window.add(at(0));
        window.add(at(5));
        window.add(at(5));
        assert_eq!([0, 5, 9, 10, 14, 15].map(|seconds| window.sum(at(seconds))), [3, 3, 3, 2, 2, 0]);
        window.clear();
        assert_eq!(window.sum(at(5)), 0);
    }
}

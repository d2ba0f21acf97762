//! How many retries are allowed lately.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// The window's length in seconds; one slot for each.
const WINDOW: usize = 10;
/// So many retries in a window are allowed however few requests there were.
const REPEATED_FLOOR: u64 = 10;
/// Beyond the floor, one repeated request for so many requests: 20 %.
const REQUESTS_PER_REPEATED: u64 = 5;
/// The floor for displaced requests: a gateway that has just started may lose a cluster too.
const DISPLACED_FLOOR: u64 = 100;

/// What a retry costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// An instance had the request already: it is made to work twice.
    Repeated,
    /// No instance works twice: the request never reached one, or the one that had it is gone.
    Displaced,
}

/// Limits retries over a sliding window of 10 s, so that they can't turn an overload into a collapse.
///
/// Repeated requests: 20 % of the requests in the window, at least 10. Displaced ones (never sent, or cut by an ejection)
/// have their own account, as many as there were requests, at least 100: when a cluster dies, a third of all requests
/// may be displaced within a second, and none of them is to fail.
///
/// Lock-free. Threads that charge at the same moment may pass a limit by one each.
#[derive(Debug)]
pub struct Budget {
    start: Instant,
    requests: Window,
    repeated: Window,
    displaced: Window,
}

impl Budget {
    /// An empty budget. Times before `now` count as `now`.
    pub fn new(now: Instant) -> Self {
        let window = Window::default;
        Budget { start: now, requests: window(), repeated: window(), displaced: window() }
    }

    /// Counts a request. To be called once for each, not for its retries.
    pub fn request(&self, now: Instant) {
        self.requests.add(self.second(now));
    }

    /// Takes one retry out of the budget; false when there is none left.
    pub(super) fn charge(&self, kind: Kind, now: Instant) -> bool {
        let second = self.second(now);
        let requests = self.requests.sum(second);
        let (account, limit) = match kind {
            Kind::Repeated => (&self.repeated, REPEATED_FLOOR.max(requests / REQUESTS_PER_REPEATED)),
            Kind::Displaced => (&self.displaced, DISPLACED_FLOOR.max(requests)),
        };
        let allowed = account.sum(second) < limit;
        if allowed {
            account.add(second);
        }
        allowed
    }

    /// Seconds since the start, from 1: a slot of 0 was never used.
    fn second(&self, now: Instant) -> u32 {
        let elapsed = now.saturating_duration_since(self.start).as_secs();
        u32::try_from(elapsed).unwrap_or(u32::MAX).saturating_add(1)
    }
}

/// Counts over the last [`WINDOW`] seconds. A slot holds the second that it counts in its upper half, and the count in
/// its lower half, so that both change as one.
#[derive(Debug, Default)]
struct Window([AtomicU64; WINDOW]);

impl Window {
    fn add(&self, second: u32) {
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

    fn sum(&self, second: u32) -> u64 {
        let current = |counted: u32| counted != 0 && second.abs_diff(counted) < WINDOW as u32;
        let slots = self.0.iter().map(|slot| unpack(slot.load(Ordering::Relaxed)));
        slots.filter(|(counted, _)| current(*counted)).map(|(_, count)| u64::from(count)).sum()
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
    use proptest::prelude::*;
    use std::time::Duration;

    fn charges(budget: &Budget, kind: Kind, now: Instant) -> usize {
        (0..10_000).take_while(|_| budget.charge(kind, now)).count()
    }

    #[test]
    fn a_fifth_of_the_requests_and_a_floor() {
        let start = Instant::now();
        let budget = Budget::new(start);
        assert_eq!(charges(&budget, Kind::Repeated, start), 10);
        (0..1000).for_each(|_| budget.request(start));
        assert_eq!(charges(&budget, Kind::Repeated, start), 190);
        assert_eq!(charges(&budget, Kind::Displaced, start), 1000);
    }

    #[test]
    fn the_window_slides() {
        let start = Instant::now();
        let budget = Budget::new(start);
        (0..100).for_each(|_| budget.request(start));
        assert_eq!(charges(&budget, Kind::Repeated, start), 20);
        let late = start + Duration::from_secs(9);
        assert_eq!(charges(&budget, Kind::Repeated, late), 0);
        assert_eq!(charges(&budget, Kind::Repeated, start + Duration::from_secs(10)), 10);
    }

    proptest! {
        #[test]
        fn no_window_exceeds_its_budget(steps in prop::collection::vec((0_u64..700, any::<bool>()), 1..400)) {
            let start = Instant::now();
            let budget = Budget::new(start);
            let (mut now, mut requests, mut retries) = (start, Vec::new(), Vec::new());
            for (millis, is_request) in steps {
                now += Duration::from_millis(millis);
                // Slots are whole seconds, so the window is 9 to 10 s long.
                let lately = |times: &[Instant], secs| times.iter().filter(|t| now - **t < Duration::from_secs(secs)).count();
                if is_request {
                    budget.request(now);
                    requests.push(now);
                } else if budget.charge(Kind::Repeated, now) {
                    prop_assert!(lately(&retries, 9) < 10.max(lately(&requests, 10) / 5));
                    retries.push(now);
                }
            }
        }
    }
}

//! How many retries are allowed lately.

use std::time::Instant;

use crate::window::{Clock, Window};

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
    clock: Clock,
    requests: Window,
    repeated: Window,
    displaced: Window,
}

impl Budget {
    /// An empty budget. Times before `now` count as `now`.
    pub fn new(now: Instant) -> Self {
        let window = Window::default;
        Budget { clock: Clock::new(now), requests: window(), repeated: window(), displaced: window() }
    }

    /// Counts a request. To be called once for each, not for its retries.
    pub fn request(&self, now: Instant) {
        self.requests.add(self.clock.second(now));
    }

    /// Takes one retry out of the budget; false when there is none left.
    pub(super) fn charge(&self, kind: Kind, now: Instant) -> bool {
        let second = self.clock.second(now);
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

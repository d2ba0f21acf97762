//! An instance's share of failures, against that of the others.

use std::time::Instant;

use super::shown::Shown;
use crate::window::{Clock, Window};

/// Fewer requests in a window than this prove nothing.
const ENOUGH: u64 = 50;
/// An instance stands out when its share of failures exceeds that of the others by so much, in percent.
const EXCESS: u64 = 30;

/// Counts an instance's requests, and those that failed, over the last 10 s, without a lock.
#[derive(Debug)]
pub struct Share {
    clock: Clock,
    requests: Window,
    failures: Window,
}

/// How many requests there were, and how many of them failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// All.
    pub requests: u64,
    /// Those that failed.
    pub failures: u64,
}

impl Share {
    /// Nothing was counted yet. Times before `now` count as `now`.
    pub fn new(now: Instant) -> Self {
        Share { clock: Clock::new(now), requests: Window::default(), failures: Window::default() }
    }

    /// Takes what one attempt showed.
    pub fn record(&self, shown: Shown, now: Instant) {
        let second = self.clock.second(now);
        // The end of an answer belongs to a request that its head has counted.
        if !matches!(shown, Shown::Whole | Shown::Broken) {
            self.requests.add(second);
        }
        if shown.fault().is_some() {
            self.failures.add(second);
        }
    }

    /// What was counted lately.
    pub fn tally(&self, now: Instant) -> Tally {
        let second = self.clock.second(now);
        Tally { requests: self.requests.sum(second), failures: self.failures.sum(second) }
    }

    /// Starts anew, as after an ejection.
    pub fn clear(&self) {
        self.requests.clear();
        self.failures.clear();
    }
}

impl Tally {
    /// Both together.
    pub fn plus(self, other: Tally) -> Tally {
        let Tally { requests, failures } = other;
        Tally { requests: self.requests.saturating_add(requests), failures: self.failures.saturating_add(failures) }
    }

    /// Whether an instance fails so much more often than `others` that the cause must lie in it: 30 points more, over at
    /// least 50 requests on either side. Streaks never see this: one good answer in five ends them.
    ///
    /// It is the others that it is measured by, and not a fixed rate: what all instances have in common (a database that
    /// is down, an endpoint with a fault) is no reason to eject any. And it is a distance, not a number of deviations
    /// from the mean, which no one of three instances can be far from. That the distance is no chance follows from the
    /// number of requests: 30 points over 50 of them are more than four standard deviations, whatever the common rate.
    pub fn stands_out(self, others: Tally) -> bool {
        self.might_stand_out() && others.requests >= ENOUGH && self.percent() >= others.percent().saturating_add(EXCESS)
    }

    /// Whether it would stand out, if the others never failed: unless it does, they need not be asked.
    pub fn might_stand_out(self) -> bool {
        self.requests >= ENOUGH && self.percent() >= EXCESS
    }

    fn percent(self) -> u64 {
        self.failures.min(self.requests).saturating_mul(100) / self.requests.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(requests: u64, failures: u64) -> Tally {
        Tally { requests, failures }
    }

    #[test]
    fn only_who_fails_more_than_the_others_stands_out() {
        assert!(tally(100, 30).stands_out(tally(200, 0)));
        assert!(!tally(100, 29).stands_out(tally(200, 0)));
        assert!(!tally(100, 100).stands_out(tally(200, 150)), "the fault is common");
        assert!(tally(100, 100).stands_out(tally(200, 140)));
    }

    #[test]
    fn who_can_not_stand_out_does_not() {
        assert!(tally(50, 15).might_stand_out());
        assert!(!tally(50, 14).might_stand_out() && !tally(49, 49).might_stand_out());
    }

    #[test]
    fn a_few_requests_prove_nothing() {
        assert!(!tally(49, 49).stands_out(tally(1000, 0)));
        assert!(!tally(1000, 1000).stands_out(tally(49, 0)), "nobody to be measured by");
        assert!(!tally(1000, 1000).stands_out(Tally::default()));
    }

    #[test]
    fn heads_count_requests_and_ends_do_not() {
        let now = Instant::now();
        let share = Share::new(now);
        for shown in [Shown::Status(200), Shown::Whole, Shown::Status(200), Shown::Broken, Shown::Reset] {
            share.record(shown, now);
        }
        assert_eq!(share.tally(now), tally(3, 2));
        share.clear();
        assert_eq!(share.tally(now), Tally::default());
    }
}

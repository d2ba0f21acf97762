//! So many of a kind in a second, and some more at once: a token bucket.

use std::time::{Duration, Instant};

const SECOND: u64 = 1_000_000_000;

/// What is left of an allowance that grows with time, up to a bound.
#[derive(Debug)]
pub(super) struct Allowance {
    per_second: u32,
    most: u32,
    left: u32,
    /// What came before this was counted.
    since: Instant,
}

impl Allowance {
    /// A full one. With `per_second` zero it never grows.
    pub(super) fn new(per_second: u32, most: u32, now: Instant) -> Self {
        Allowance { per_second, most, left: most, since: now }
    }

    /// Takes from it; false when there is too little.
    pub(super) fn take(&mut self, cost: u32, now: Instant) -> bool {
        self.grow(now);
        let left = self.left.checked_sub(cost);
        self.left = left.unwrap_or(self.left);
        left.is_some()
    }

    /// Adds to it.
    pub(super) fn grant(&mut self, more: u32) {
        self.left = self.left.saturating_add(more).min(self.most);
    }

    fn grow(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.since);
        let nanos = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        let per_second = u64::from(self.per_second);
        let gained = nanos.saturating_mul(per_second) / SECOND;
        if gained == 0 {
            return;
        }
        // The time that made no whole one counts for the next.
        let spent = gained.saturating_mul(SECOND).checked_div(per_second).unwrap_or_default();
        self.since = self.since.checked_add(Duration::from_nanos(spent)).unwrap_or(now);
        self.grant(u32::try_from(gained).unwrap_or(u32::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_with_time_up_to_its_bound() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut allowance = Allowance::new(10, 3, start);
        let taken = |allowance: &mut Allowance, millis| (0..9).take_while(|_| allowance.take(1, at(millis))).count();
        assert_eq!(taken(&mut allowance, 0), 3);
        assert_eq!(taken(&mut allowance, 99), 0);
        assert_eq!(taken(&mut allowance, 150), 1);
        assert_eq!(taken(&mut allowance, 200), 1);
        assert_eq!(taken(&mut allowance, 60_000), 3);
        allowance.grant(9);
        assert_eq!(taken(&mut allowance, 60_000), 3);
        assert!(!Allowance::new(0, 0, start).take(1, at(u64::MAX / 4)));
    }
}

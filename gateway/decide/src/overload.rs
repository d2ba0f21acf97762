//! Whether a gateway has more to do than it can, and what share of new requests it turns away then.
//!
//! What is measured is *lag*: how much later than it should a small task gets its turn. That is what every request waits
//! too, whatever it waits for afterwards: slow instances make no lag. As in CoDel (RFC 8289), a lag that comes and goes
//! is a burst, which a queue is there for; one that stands is an overload, which a queue only makes worse. A process that
//! gets no time because others have it lags too; but it has little to turn away, and would gain nothing by it.

use std::time::{Duration, Instant};

/// A lag above the target is an overload once it has stood for so long.
const STANDING: Duration = Duration::from_millis(500);
/// Whoever works for a smaller share of the time, on one core, is starved and not overloaded.
const BUSY: f64 = 0.5;
/// The share grows by so much in a second for each target's length that the lag is above the target, and falls likewise
/// below it: without any lag it is gone after half a second.
const GAIN: f64 = 2.0;
/// Beyond so many targets' lengths it grows no faster.
const WORST: f64 = 5.0;
/// The first measurement of a standing lag counts for no longer than this: it may be a single pause, whose share is then
/// soon gone. To wait for a second one before anything is turned away would be too late: in an overload that comes after as
/// long a lag again, and longer.
const FIRST: Duration = Duration::from_millis(100);

/// Turns measurements of lag into the share of requests to turn away.
#[derive(Debug, Clone)]
pub struct Overload {
    target: Duration,
    last: Instant,
    above_since: Option<Instant>,
    share: f64,
}

impl Overload {
    /// No overload yet. A target of zero is taken for a millisecond.
    pub fn new(target: Duration, now: Instant) -> Self {
        Overload { target: target.max(Duration::from_millis(1)), last: now, above_since: None, share: 0.0 }
    }

    /// Takes a measurement, and for how long the process has worked since the last one, on all cores together. Returns the
    /// share of new requests to turn away from now on, from 0 to 1.
    pub fn observe(&mut self, lag: Duration, worked: Duration, now: Instant) -> f64 {
        let mut seconds = now.saturating_duration_since(self.last).as_secs_f64();
        self.last = now;
        let starved = worked.as_secs_f64() < BUSY * seconds;
        if starved || lag <= self.target {
            self.above_since = None;
        } else if self.share == 0.0 {
            // A lag as long as this was there when its wait began.
            let since = *self.above_since.get_or_insert(now.checked_sub(lag).unwrap_or(now));
            if now.saturating_duration_since(since) < STANDING {
                return 0.0;
            }
            seconds = seconds.min(FIRST.as_secs_f64());
        }
        let excess = (lag.as_secs_f64() / self.target.as_secs_f64() - 1.0).min(WORST);
        let change = GAIN * seconds * if starved { -1.0 } else { excess };
        self.share = (self.share + change).clamp(0.0, 1.0);
        self.share
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    const TARGET: Duration = Duration::from_millis(200);
    const TICK: u64 = 20;
    /// So many requests a millisecond can be served.
    const CAPACITY: f64 = 10.0;
    /// To turn one away costs so much of serving it.
    const TURNED_AWAY: f64 = 0.02;

    /// A gateway that serves one request after another, in steps of a millisecond.
    struct Gateway {
        start: Instant,
        now: u64,
        waiting: VecDeque<u64>,
        overload: Overload,
        share: f64,
        next_tick: u64,
        /// When the ticker became due, while it waits in the queue.
        due: Option<u64>,
        debt: f64,
        turn: f64,
    }

    /// What happened in a while.
    #[derive(Debug, Default)]
    struct Seen {
        served: usize,
        turned_away: usize,
        longest: u64,
    }

    impl Gateway {
        fn new() -> Self {
            let start = Instant::now();
            let overload = Overload::new(TARGET, start);
            let (waiting, next_tick) = (VecDeque::new(), TICK);
            Gateway { start, now: 0, waiting, overload, share: 0.0, next_tick, due: None, debt: 0.0, turn: 0.0 }
        }

        /// Serves `load` times what it can for so many milliseconds.
        fn run(&mut self, load: f64, milliseconds: u64) -> Seen {
            let (mut seen, mut owed) = (Seen::default(), 0.0);
            for _ in 0..milliseconds {
                self.now += 1;
                owed += load * CAPACITY;
                while owed >= 1.0 {
                    owed -= 1.0;
                    self.waiting.push_back(self.now);
                }
                self.work(&mut seen);
                self.tick();
            }
            seen
        }

        fn work(&mut self, seen: &mut Seen) {
            let mut budget = CAPACITY - self.debt;
            while budget > 0.0 {
                let Some(came) = self.waiting.pop_front() else { break };
                self.turn += self.share;
                if self.turn >= 1.0 {
                    self.turn -= 1.0;
                    seen.turned_away += 1;
                    budget -= TURNED_AWAY;
                } else {
                    seen.served += 1;
                    seen.longest = seen.longest.max(self.now - came);
                    budget -= 1.0;
                }
            }
            self.debt = (-budget).max(0.0);
        }

        /// The ticker waits behind whatever came before it.
        fn tick(&mut self) {
            if self.due.is_none() && self.now >= self.next_tick {
                self.due = Some(self.now);
            }
            let Some(due) = self.due else { return };
            if self.waiting.front().is_none_or(|first| *first >= due) {
                let now = self.start + Duration::from_millis(self.now);
                let worked = Duration::from_millis(self.now + TICK - self.next_tick);
                self.share = self.overload.observe(Duration::from_millis(self.now - due), worked, now);
                (self.due, self.next_tick) = (None, self.now + TICK);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn whoever_can_keep_up_turns_nobody_away(load in 0.0..0.95f64, burst in 0..200u64) {
            let mut gateway = Gateway::new();
            prop_assert_eq!(gateway.run(load, 1000).turned_away, 0);
            // A burst that is worked off soon enough is no overload.
            gateway.run(2.0, burst.min((450.0 * (1.0 - load)) as u64));
            prop_assert_eq!(gateway.run(load, 3000).turned_away, 0);
        }

        #[test]
        fn an_overload_is_shed_and_the_rest_is_served_in_time(load in 1.5..10.0f64) {
            let mut gateway = Gateway::new();
            // The ticker itself waits in the first queue, as long as that is.
            gateway.run(load, 4000);
            let seen = gateway.run(load, 5000);
            prop_assert!(seen.longest <= 6 * TARGET.as_millis() as u64, "{:?}", seen);
            prop_assert!(seen.served as f64 >= 0.5 * CAPACITY * 5000.0, "{:?}", seen);
        }

        #[test]
        fn what_was_overloaded_recovers_soon(load in 1.5..10.0f64, after in 0.0..0.7f64) {
            let mut gateway = Gateway::new();
            gateway.run(load, 5000);
            gateway.run(after, 1500);
            prop_assert_eq!(gateway.run(after, 2000).turned_away, 0);
        }

        #[test]
        fn whoever_is_starved_turns_nobody_away(lags in prop::collection::vec(0..5000u64, 0..50)) {
            let mut now = Instant::now();
            let mut overload = Overload::new(TARGET, now);
            for lag in lags {
                now += Duration::from_millis(TICK + lag);
                let worked = Duration::from_millis((TICK + lag) / 3);
                prop_assert_eq!(overload.observe(Duration::from_millis(lag), worked, now), 0.0);
            }
        }

        #[test]
        fn a_single_pause_turns_few_away_and_not_for_long(pause in 0..600u64) {
            let mut now = Instant::now();
            let mut overload = Overload::new(TARGET, now);
            let mut observe = |lag| {
                let step = Duration::from_millis(TICK + lag);
                now += step;
                overload.observe(Duration::from_millis(lag), step, now)
            };
            prop_assert_eq!(observe(0), 0.0);
            prop_assert!(observe(pause) <= 0.4);
            let turned_away: f64 = (0..11).map(|_| observe(0)).sum();
            prop_assert!(turned_away <= 2.0 && observe(0) == 0.0);
        }

        #[test]
        fn a_share_is_a_share(lags in prop::collection::vec((0..5000u64, 0..5000u64), 0..50)) {
            let mut now = Instant::now();
            let mut overload = Overload::new(TARGET, now);
            for (lag, step) in lags {
                now += Duration::from_millis(step);
                prop_assert!((0.0..=1.0).contains(&overload.observe(Duration::from_millis(lag), Duration::from_millis(step), now)));
            }
        }
    }
}

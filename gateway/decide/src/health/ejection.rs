//! For how long an instance is kept out.

use std::time::{Duration, Instant};

/// The first ejection; each that follows lasts twice as long. The first is short, since most faults pass: a process that
/// was restarted must have its full share again within 10 s.
const FIRST: Duration = Duration::from_secs(1);
/// No ejection lasts longer.
const LONGEST: Duration = Duration::from_secs(300);
/// Each time that an instance has been in for so long, one of its ejections is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(30);
/// The tenth ejection would last longer than [`LONGEST`]: more need not be remembered.
const REMEMBERED: u32 = 10;
/// An ejection is longer by chance by up to this part of it, so that not all gateways let an instance in at once.
const JITTER: f64 = 0.25;

/// The ejections of one instance.
#[derive(Debug, Clone, Default)]
pub struct Ejections {
    remembered: u32,
    until: Option<Instant>,
}

impl Ejections {
    /// Whether it is out.
    pub fn is_out(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// Puts it out for a while, unless it is out already. `chance` is from 0 to 1.
    pub fn eject(&mut self, now: Instant, chance: f64) {
        if self.is_out(now) {
            return;
        }
        let well = self.until.map_or(Duration::ZERO, |until| now.saturating_duration_since(until));
        let forgotten = u32::try_from(well.as_secs() / FORGOTTEN.as_secs()).unwrap_or(u32::MAX);
        let before = self.remembered.saturating_sub(forgotten);
        self.remembered = before.saturating_add(1).min(REMEMBERED);
        let whole = FIRST.saturating_mul(1 << before.min(REMEMBERED));
        self.until = Some(now + whole.mul_f64(1.0 + JITTER * chance.clamp(0.0, 1.0)).min(LONGEST));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// How long the next ejection lasts, in whole seconds.
    fn next(ejections: &mut Ejections, now: &mut Instant, chance: f64) -> u64 {
        ejections.eject(*now, chance);
        let began = *now;
        *now = ejections.until.unwrap_or(began);
        (*now - began).as_secs()
    }

    #[test]
    fn they_double_up_to_the_longest() {
        let (mut ejections, mut now) = (Ejections::default(), Instant::now());
        let lasted: Vec<u64> = (0..11).map(|_| next(&mut ejections, &mut now, 0.0)).collect();
        assert_eq!(lasted, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    }

    #[test]
    fn time_that_it_is_in_makes_the_next_one_shorter() {
        let (mut ejections, mut now) = (Ejections::default(), Instant::now());
        (0..5).for_each(|_| _ = next(&mut ejections, &mut now, 0.0));
        now += 2 * FORGOTTEN;
        assert_eq!(next(&mut ejections, &mut now, 0.0), 8);
        now += 100 * FORGOTTEN;
        assert_eq!(next(&mut ejections, &mut now, 0.0), 1);
    }

    #[test]
    fn an_ejection_is_not_made_longer_while_it_lasts() {
        let (mut ejections, now) = (Ejections::default(), Instant::now());
        ejections.eject(now, 0.0);
        ejections.eject(now, 0.0);
        assert!(ejections.is_out(now) && !ejections.is_out(now + FIRST));
    }

    proptest! {
        #[test]
        fn none_is_shorter_than_the_first_or_longer_than_the_longest(
            steps in prop::collection::vec((0_u64..400, 0.0..1.0), 1..60),
        ) {
            let (mut ejections, mut now) = (Ejections::default(), Instant::now());
            for (pause, chance) in steps {
                now += Duration::from_secs(pause);
                let began = now;
                next(&mut ejections, &mut now, chance);
                prop_assert!((FIRST..=LONGEST).contains(&(now - began)));
            }
        }
    }
}

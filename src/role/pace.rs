//! How often worlds are compiled while they keep changing.

use std::time::Duration;

/// From one world to the next, at most.
const LONGEST_REST: Duration = Duration::from_millis(100);
/// So many times as long as a world took, at least: however fast it changes, requests have three quarters of a core.
const SHARE: u32 = 3;

/// A change that comes alone is acted on at once. While others keep coming, each rest is twice as long as the one before:
/// what a world costs beside what changed in it is then paid less often.
#[derive(Default)]
pub(super) struct Pace(Duration);

impl Pace {
    /// How long to rest after a world that took so long. `pressed` says that it was there already when the last rest ended.
    pub(super) fn rest(&mut self, took: Duration, pressed: bool) -> Duration {
        let least = took * SHARE;
        let rest = if pressed { least.max(self.0 * 2) } else { least };
        self.0 = rest.min(LONGEST_REST);
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_grow_while_it_is_pressed_and_begin_anew() {
        let (mut pace, took) = (Pace::default(), Duration::from_millis(2));
        let rests: Vec<_> = (0..7).map(|n| pace.rest(took, n > 0).as_millis()).collect();
        assert_eq!(rests, [6, 12, 24, 48, 96, 100, 100]);
        assert_eq!(pace.rest(took, false).as_millis(), 6);
        assert_eq!(pace.rest(took * 100, false), LONGEST_REST);
    }
}

//! The health of one instance.

use std::time::{Duration, Instant};

use super::ejection::Ejections;

/// A check that contradicts what was believed is repeated after this long, unless the interval is shorter.
const RECHECK: Duration = Duration::from_millis(250);

/// How many checks in a row turn a belief.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// So many failures make an instance that was well sick; 0 is taken for 1.
    pub unhealthy: u32,
    /// So many successes make an instance that was sick well; 0 is taken for 1.
    pub healthy: u32,
}

/// What is believed of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// No check has ended yet.
    Unknown,
    /// Fit to serve.
    Well,
    /// Not fit to serve.
    Sick(Why),
}

/// The evidence against a sick instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It has not passed a check yet, and failed at least one.
    Unready,
    /// Its checks bring no answer.
    Silent,
    /// A connect was refused or reset.
    Connect,
    /// It answers its checks, but badly.
    Checks,
    /// Too many requests failed.
    Responses,
}

/// What an active check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probed {
    /// It is as it should be.
    Well,
    /// It answered, but not as it should.
    Ill,
    /// No connection, or no answer in time.
    Silent,
}

/// A change of state, to be logged and reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transition {
    /// What was believed before.
    pub from: State,
    /// What is believed now.
    pub to: State,
}

/// Keeps the health of one instance. Three kinds of evidence count, each with its own way back:
///
/// - *Checks*: [`Thresholds::unhealthy`] failures in a row make it sick, [`Thresholds::healthy`] successes in a row well.
///   A single check decides about an instance of which nothing is known: there is no belief that it would have to
///   overcome. A failed check may be a mere delay, which is why it takes several.
/// - *A failed connect* (refused, or reset before a byte came back) ejects at once, and one good check readmits. A
///   refusal isn't a delay: the kernel itself says that nobody listens. Equally a good check shows that somebody listens
///   again; to wait for another would only lengthen the outage. The next check is due soon ([`Tracker::next_check_in`]),
///   so a single reset connection costs an instance a quarter of a second.
/// - *Failed requests* ([`Streaks`](super::Streaks), [`Tally::stands_out`](super::Tally::stands_out)) eject for a time that
///   grows with each ejection. Checks don't shorten that: an instance whose check answers while its requests fail is just
///   what this kind is for.
#[derive(Debug, Clone)]
pub struct Tracker {
    thresholds: Thresholds,
    checked: Option<Checked>,
    /// A connect failed since the last good check.
    unconnectable: bool,
    ejections: Ejections,
    was_well: bool,
    /// The state that was last handed out in a transition.
    announced: State,
}

/// What the checks say.
#[derive(Debug, Clone, Copy)]
struct Checked {
    well: bool,
    /// The last one that failed brought no answer.
    silent: bool,
    /// So many checks in a row said the opposite.
    against: u32,
}

impl Tracker {
    /// An instance of which nothing is known.
    pub fn new(thresholds: Thresholds) -> Self {
        Tracker {
            thresholds,
            checked: None,
            unconnectable: false,
            ejections: Ejections::default(),
            was_well: false,
            announced: State::Unknown,
        }
    }

    /// What is believed now. The hardest evidence is named first.
    pub fn state(&self, now: Instant) -> State {
        match self.checked {
            Some(Checked { well: false, .. }) if !self.was_well => State::Sick(Why::Unready),
            Some(Checked { well: false, silent: true, .. }) => State::Sick(Why::Silent),
            Some(Checked { well: false, .. }) => State::Sick(Why::Checks),
            _ if self.unconnectable => State::Sick(Why::Connect),
            _ if self.is_ejected(now) => State::Sick(Why::Responses),
            Some(Checked { well: true, .. }) => State::Well,
            None => State::Unknown,
        }
    }

    /// Whether it is ejected by the evidence of requests, for [`may_eject`](super::may_eject).
    pub fn is_ejected(&self, now: Instant) -> bool {
        self.ejections.is_out(now)
    }

    /// Takes the outcome of an active check. Also announces an ejection that ended since.
    pub fn record(&mut self, probed: Probed, now: Instant) -> Option<Transition> {
        let ok = probed == Probed::Well;
        self.unconnectable &= !ok;
        let before = self.checked.unwrap_or(Checked { well: ok, silent: false, against: 0 });
        let silent = if ok { before.silent } else { probed == Probed::Silent };
        let against = if before.well == ok { 0 } else { before.against.saturating_add(1) };
        let threshold = if before.well { self.thresholds.unhealthy } else { self.thresholds.healthy };
        self.checked = Some(match against >= threshold.max(1) {
            true => Checked { well: ok, silent, against: 0 },
            false => Checked { well: before.well, silent, against },
        });
        self.was_well |= self.checked.is_some_and(|checked| checked.well);
        self.announce(now)
    }

    /// A connect was refused, or reset before a byte came back.
    pub fn connect_failed(&mut self, now: Instant) -> Option<Transition> {
        self.unconnectable = true;
        self.announce(now)
    }

    /// Too many of its requests failed, and [`may_eject`](super::may_eject) allows it: ejects for a while. `chance`, from 0
    /// to 1, makes that a little longer. Nothing happens while it is sick already: what comes in late, or was sent there
    /// for want of anything better, is no new evidence.
    pub fn eject(&mut self, now: Instant, chance: f64) -> Option<Transition> {
        if !matches!(self.state(now), State::Sick(_)) {
            self.ejections.eject(now, chance);
        }
        self.announce(now)
    }

    /// How long to wait before the next check: not at all before the first, at most 250 ms while a belief is in doubt (so
    /// that a fault is confirmed, or a recovery noticed, well within an interval), else the interval.
    pub fn next_check_in(&self, interval: Duration) -> Duration {
        match self.checked {
            None => Duration::ZERO,
            Some(Checked { well: true, against: 0, .. }) if self.unconnectable => RECHECK.min(interval),
            Some(Checked { against: 0, .. }) => interval,
            Some(_) => RECHECK.min(interval),
        }
    }

    fn announce(&mut self, now: Instant) -> Option<Transition> {
        let to = self.state(now);
        let from = std::mem::replace(&mut self.announced, to);
        (from != to).then_some(Transition { from, to })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(1);
    const SICK: State = State::Sick(Why::Silent);

    fn tracker() -> Tracker {
        Tracker::new(Thresholds { unhealthy: 2, healthy: 2 })
    }

    fn well(now: Instant) -> Tracker {
        let mut tracker = tracker();
        assert_eq!(tracker.record(Probed::Well, now), Some(Transition { from: State::Unknown, to: State::Well }));
        tracker
    }

    #[test]
    fn the_first_check_decides() {
        let now = Instant::now();
        assert_eq!(tracker().state(now), State::Unknown);
        assert_eq!(tracker().next_check_in(INTERVAL), Duration::ZERO);
        let unready = Some(Transition { from: State::Unknown, to: State::Sick(Why::Unready) });
        assert_eq!(tracker().record(Probed::Ill, now), unready);
        assert_eq!(well(now).next_check_in(INTERVAL), INTERVAL);
    }

    #[test]
    fn thresholds_turn_a_belief_and_doubt_hastens_the_next_check() {
        let now = Instant::now();
        let mut tracker = well(now);
        assert_eq!(tracker.record(Probed::Silent, now), None);
        assert_eq!(tracker.next_check_in(INTERVAL), RECHECK);
        assert_eq!(tracker.next_check_in(Duration::from_millis(100)), Duration::from_millis(100));
        assert_eq!(tracker.record(Probed::Well, now), None);
        assert_eq!(tracker.record(Probed::Silent, now), None);
        assert_eq!(tracker.record(Probed::Silent, now), Some(Transition { from: State::Well, to: SICK }));
        assert_eq!(tracker.next_check_in(INTERVAL), INTERVAL);
        assert_eq!(tracker.record(Probed::Well, now), None);
        assert_eq!(tracker.next_check_in(INTERVAL), RECHECK);
        assert_eq!(tracker.record(Probed::Well, now), Some(Transition { from: SICK, to: State::Well }));
    }

    #[test]
    fn a_failed_connect_ejects_until_one_good_check() {
        let now = Instant::now();
        let mut tracker = well(now);
        let out = State::Sick(Why::Connect);
        assert_eq!(tracker.connect_failed(now), Some(Transition { from: State::Well, to: out }));
        assert_eq!(tracker.connect_failed(now), None);
        assert_eq!(tracker.next_check_in(INTERVAL), RECHECK);
        assert_eq!(tracker.record(Probed::Well, now), Some(Transition { from: out, to: State::Well }));
    }

    #[test]
    fn an_ejection_ends_by_itself_and_checks_do_not_end_it() {
        let now = Instant::now();
        let (mut tracker, out) = (well(now), State::Sick(Why::Responses));
        assert_eq!(tracker.eject(now, 0.0), Some(Transition { from: State::Well, to: out }));
        assert_eq!(tracker.eject(now, 0.0), None);
        assert_eq!(tracker.record(Probed::Well, now), None);
        let later = now + Duration::from_secs(1);
        assert!(tracker.is_ejected(later - RECHECK) && !tracker.is_ejected(later));
        assert_eq!(tracker.record(Probed::Well, later), Some(Transition { from: out, to: State::Well }));
    }

    #[test]
    fn what_is_sick_is_not_ejected_too() {
        let now = Instant::now();
        let mut tracker = well(now);
        tracker.connect_failed(now);
        tracker.eject(now, 0.0);
        assert!(!tracker.is_ejected(now));
        assert_eq!(tracker.record(Probed::Well, now).map(|change| change.to), Some(State::Well));
    }

    #[test]
    fn who_answers_badly_is_told_from_who_is_silent() {
        let now = Instant::now();
        let mut tracker = well(now);
        tracker.record(Probed::Silent, now);
        assert_eq!(tracker.record(Probed::Ill, now).map(|change| change.to), Some(State::Sick(Why::Checks)));
        assert_eq!(tracker.record(Probed::Silent, now).map(|change| change.to), Some(SICK));
    }
}

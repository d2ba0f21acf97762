//! Failures in a row, by their kind.

use std::sync::atomic::{AtomicU64, Ordering};

use super::shown::{Fault, Shown};

/// Counts an instance's failures in a row, each [`Fault`] by itself, without a lock: one byte to a kind.
#[derive(Debug, Default)]
pub struct Streaks(AtomicU64);

impl Streaks {
    /// Takes what one attempt showed. True when a streak is full; it stays full until something good ends it or
    /// [`Streaks::clear`], so that an ejection that had to wait (see [`may_eject`](super::may_eject)) is asked for again.
    pub fn record(&self, shown: Shown) -> bool {
        // Only read where nothing has to change: the cache line then stays shared between the threads.
        let counts = self.0.load(Ordering::Relaxed);
        let ended = ended(shown);
        if shown.fault().is_none() && counts & ended == 0 {
            return false;
        }
        let next = |counts: u64| {
            let counts = counts & !ended;
            Some(shown.fault().map_or(counts, |fault| one_more(counts, fault)))
        };
        // Never an error: `next` always yields a value.
        let before = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).unwrap_or(counts);
        shown.fault().is_some_and(|fault| count(next(before).unwrap_or(before), fault) >= fault.limit())
    }

    /// The longest that no good answer has ended yet.
    pub fn longest(&self) -> Option<(Fault, u8)> {
        let counts = self.0.load(Ordering::Relaxed);
        let lengths = Fault::ALL.into_iter().map(|fault| (fault, count(counts, fault)));
        lengths.filter(|(_, length)| *length > 0).max_by_key(|(_, length)| *length)
    }

    /// Starts anew, as after an ejection.
    pub fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// Which streaks this ends. An answer's head proves that the instance takes connections and answers; a good one, that
/// it serves; that its answers are whole, only their end.
fn ended(shown: Shown) -> u64 {
    use Fault::{Broken, Connect, ConnectTimeout, Error, Reset, Timeout, Unavailable};
    let faults: &[Fault] = match shown {
        Shown::Status(..500) => &[Connect, ConnectTimeout, Reset, Timeout, Unavailable, Error],
        Shown::Status(_) => &[Connect, ConnectTimeout, Reset, Timeout],
        Shown::Whole => &[Broken],
        Shown::Connect | Shown::ConnectTimeout | Shown::Reset | Shown::Timeout | Shown::Broken => &[],
    };
    faults.iter().fold(0, |mask, fault| mask | 0xff << shift(*fault))
}

fn shift(fault: Fault) -> u32 {
    8 * fault as u32
}

fn count(counts: u64, fault: Fault) -> u8 {
    (counts >> shift(fault)) as u8
}

fn one_more(counts: u64, fault: Fault) -> u64 {
    if count(counts, fault) == u8::MAX { counts } else { counts + (1 << shift(fault)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EACH: [(Shown, Fault); 7] = [
        (Shown::Connect, Fault::Connect),
        (Shown::ConnectTimeout, Fault::ConnectTimeout),
        (Shown::Reset, Fault::Reset),
        (Shown::Timeout, Fault::Timeout),
        (Shown::Broken, Fault::Broken),
        (Shown::Status(503), Fault::Unavailable),
        (Shown::Status(500), Fault::Error),
    ];

    fn fill(streaks: &Streaks, shown: Shown) -> usize {
        (1..1000).find(|_| streaks.record(shown)).unwrap_or(0)
    }

    #[test]
    fn each_kind_has_a_limit_of_its_own_and_stays_full() {
        for (shown, fault) in EACH {
            let streaks = Streaks::default();
            assert_eq!(fill(&streaks, shown), usize::from(fault.limit()), "{fault:?}");
            assert!((0..300).all(|_| streaks.record(shown)));
            streaks.clear();
            assert!(!streaks.record(shown));
        }
    }

    #[test]
    fn the_longest_streak_is_told_until_it_ends() {
        let streaks = Streaks::default();
        assert_eq!(streaks.longest(), None);
        for shown in [Shown::Status(500), Shown::Reset, Shown::Reset] {
            streaks.record(shown);
        }
        assert_eq!(streaks.longest(), Some((Fault::Reset, 2)));
        streaks.record(Shown::Status(200));
        assert_eq!(streaks.longest(), None);
    }

    #[test]
    fn one_kind_does_not_fill_another() {
        let streaks = Streaks::default();
        for (shown, fault) in EACH {
            assert!((1..fault.limit()).all(|_| !streaks.record(shown)), "{fault:?}");
        }
    }

    #[test]
    fn a_good_answer_ends_all_but_broken_ones_and_its_end_ends_those() {
        for (shown, fault) in EACH {
            let streaks = Streaks::default();
            (1..fault.limit()).for_each(|_| _ = streaks.record(shown));
            assert!(!streaks.record(Shown::Status(404)));
            assert_eq!(streaks.record(shown), fault == Fault::Broken, "{fault:?}");
            streaks.record(Shown::Whole);
            assert!(!streaks.record(shown), "{fault:?}");
        }
    }

    #[test]
    fn an_answer_of_5xx_ends_what_says_that_there_are_none() {
        let streaks = Streaks::default();
        (1..Fault::Reset.limit()).for_each(|_| _ = streaks.record(Shown::Reset));
        streaks.record(Shown::Status(500));
        assert_eq!(fill(&streaks, Shown::Reset), usize::from(Fault::Reset.limit()));
        assert_eq!(fill(&streaks, Shown::Status(500)), usize::from(Fault::Error.limit()) - 1);
    }
}

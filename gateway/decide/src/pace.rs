//! How slowly a client may send the body of a request. A bound between two parts alone is no bound: one byte in time,
//! again and again, would hold an instance for ever.

use std::time::Duration;

/// So long a client is waited for in all, however little comes: a network that changes, a disk that spins up.
const GRACE: Duration = Duration::from_secs(30);
/// Beyond that, so many bytes buy another second: slower than any network people use, and 64 KiB still take less than
/// five minutes.
const BYTES_PER_SECOND: u64 = 240;

/// The pace of one request's body, as long as its answer hasn't begun. Whoever streams in both directions, and a protocol
/// that was switched to, may be silent for as long as they like.
///
/// Only the time counts in which the client was waited for, not that in which it was the instance that took nothing.
#[derive(Debug, Clone, Default)]
pub struct Pace {
    waited: Duration,
    bytes: u64,
}

impl Pace {
    /// How long the next part may still be waited for; zero when it has been too long already.
    pub fn patience(&self) -> Duration {
        let bought = Duration::from_millis(self.bytes.saturating_mul(1_000) / BYTES_PER_SECOND);
        GRACE.saturating_add(bought).saturating_sub(self.waited)
    }

    /// A part came, for which the client was waited for so long.
    pub fn came(&mut self, waited: Duration, bytes: usize) {
        self.waited = self.waited.saturating_add(waited);
        self.bytes = self.bytes.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// After how many seconds a client is given up that sends so many bytes each second.
    fn given_up_after(bytes: usize) -> Option<u64> {
        let mut pace = Pace::default();
        (0..100_000).find(|_| {
            let patience = pace.patience();
            pace.came(SECOND, bytes);
            patience < SECOND
        })
    }

    #[test]
    fn one_byte_a_second_is_no_upload() {
        assert_eq!(given_up_after(0), Some(30));
        assert_eq!(given_up_after(1), Some(30));
        assert_eq!(given_up_after(200), Some(175));
        assert_eq!(given_up_after(240), None);
    }

    #[test]
    fn what_was_sent_fast_buys_time() {
        let mut pace = Pace::default();
        pace.came(SECOND, 240 * 60);
        assert_eq!(pace.patience(), Duration::from_secs(89));
    }

    proptest! {
        #[test]
        fn no_numbers_overflow(parts in prop::collection::vec(any::<(u64, usize)>(), 0..5)) {
            let mut pace = Pace::default();
            for (waited, bytes) in parts {
                pace.came(Duration::from_secs(waited), bytes);
                pace.patience();
            }
        }
    }
}

//! How many answers one network gets over UDP, where anybody can write somebody else's address on a question.
//!
//! The table has a fixed size. Networks that fall on the same place share its tokens, so that nobody gains tokens by
//! crowding others out; where places lie is secret, so that nobody can choose with whom to share.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::Duration;

/// So many answers per second each network gets in the long run.
const RATE: u32 = 1_000;
/// So many it gets at once, after a quiet time.
const BURST: u32 = 2_000;
/// How many places the table has.
const PLACES: usize = 1 << 16;

/// What becomes of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Answer,
    /// Answered only with "ask again over TCP", which real clients do and forged ones can't.
    Slip,
    Drop,
}

#[derive(Clone)]
struct Bucket {
    /// Thousandths of an answer, so that a rate per second fills them per millisecond.
    tokens: u32,
    filled: Duration,
    slipped: bool,
}

/// The token buckets of all networks.
pub(crate) struct Limiter {
    buckets: Box<[Bucket]>,
    places: RandomState,
}

impl Limiter {
    pub(crate) fn new() -> Self {
        let full = Bucket { tokens: BURST * 1_000, filled: Duration::ZERO, slipped: false };
        Limiter { buckets: vec![full; PLACES].into(), places: RandomState::new() }
    }

    /// Decides on a question that came at `now`, counted from any fixed moment. This machine itself may ask as much as
    /// it likes.
    pub(crate) fn admit(&mut self, client: IpAddr, now: Duration) -> Verdict {
        let client = client.to_canonical();
        if client.is_loopback() {
            return Verdict::Answer;
        }
        let place = self.places.hash_one(network(client)) as usize % PLACES;
        self.buckets.get_mut(place).map_or(Verdict::Drop, |bucket| bucket.take(now))
    }
}

impl Bucket {
    fn take(&mut self, now: Duration) -> Verdict {
        let elapsed = now.saturating_sub(self.filled).as_millis();
        self.filled += Duration::from_millis(u64::try_from(elapsed).unwrap_or(u64::MAX));
        let fresh = u32::try_from(elapsed).unwrap_or(u32::MAX).saturating_mul(RATE);
        self.tokens = self.tokens.saturating_add(fresh).min(BURST * 1_000);
        if let Some(rest) = self.tokens.checked_sub(1_000) {
            self.tokens = rest;
            return Verdict::Answer;
        }
        self.slipped = !self.slipped;
        if self.slipped { Verdict::Slip } else { Verdict::Drop }
    }
}

/// The first 24 bits of an IPv4 address, the first 56 of an IPv6 address.
fn network(client: IpAddr) -> (bool, u64) {
    match client {
        IpAddr::V4(ip) => (false, u64::from(ip.to_bits() >> 8)),
        IpAddr::V6(ip) => (true, (ip.to_bits() >> 72) as u64),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn ask(limiter: &mut Limiter, client: &str, times: u32, now: Duration) -> u32 {
        let client = client.parse().unwrap();
        (0..times).filter(|_| limiter.admit(client, now) == Verdict::Answer).count().try_into().unwrap()
    }

    #[test]
    fn a_network_gets_its_burst_and_then_its_rate() {
        let mut limiter = Limiter::new();
        let second = Duration::from_secs(1);
        assert_eq!(ask(&mut limiter, "192.0.2.1", BURST + 500, second), BURST);
        assert_eq!(ask(&mut limiter, "192.0.2.200", 500, second), 0, "the same network");
        assert_eq!(ask(&mut limiter, "::ffff:192.0.2.7", 500, second), 0, "the same, written otherwise");
        assert_eq!(ask(&mut limiter, "192.0.2.1", 5_000, second * 2), RATE);
        assert_eq!(ask(&mut limiter, "192.0.2.1", 5_000, second * 1_000), BURST);
    }

    #[test]
    fn every_second_question_too_many_is_sent_to_tcp() {
        let mut limiter = Limiter::new();
        let (client, now) = ("2001:db8:0:1::1", Duration::ZERO);
        assert_eq!(ask(&mut limiter, client, BURST, now), BURST);
        let neighbour = "2001:db8:0:ff::1".parse().unwrap();
        let verdicts: Vec<_> = (0..4).map(|_| limiter.admit(neighbour, now)).collect();
        assert_eq!(verdicts, [Verdict::Slip, Verdict::Drop, Verdict::Slip, Verdict::Drop]);
    }

    #[test]
    fn part_milliseconds_are_not_lost_and_time_may_stand_still() {
        let mut limiter = Limiter::new();
        assert_eq!(ask(&mut limiter, "192.0.2.1", BURST, Duration::ZERO), BURST);
        let answered: u32 =
            (1..=4_000).map(|n| ask(&mut limiter, "192.0.2.1", 1, Duration::from_micros(250 * n))).sum();
        assert_eq!(answered, RATE);
    }

    #[test]
    fn loopback_is_exempt() {
        let mut limiter = Limiter::new();
        for client in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(ask(&mut limiter, client, BURST * 2, Duration::ZERO), BURST * 2);
        }
    }
}

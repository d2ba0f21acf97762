//! How often a source may fail to say who it is: secrets of 256 bits are not guessed, but whoever tries should neither
//! fill the log nor keep the processor busy.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// So many failures in a row are let pass.
const BURST: u32 = 20;
/// After these, one more in each such time.
const REFILL: Duration = Duration::from_secs(1);
/// So many sources are remembered; beyond that, those that failed longest ago are forgotten.
const SOURCES: usize = 4096;

/// A source that failed too often. What it shows now isn't looked at, right or wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this address showed too many wrong tokens: wait {0} s, and show a right one")]
pub struct TooMany(pub u64);

/// Failures by source.
#[derive(Debug, Default)]
pub struct Failures(Mutex<BTreeMap<IpAddr, Source>>);

#[derive(Debug, Clone, Copy)]
struct Source {
    count: u32,
    last: Instant,
}

impl Source {
    /// What is left of its failures.
    fn left(self, now: Instant) -> u32 {
        let forgiven = now.saturating_duration_since(self.last).as_nanos() / REFILL.as_nanos();
        self.count.saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX))
    }
}

impl Failures {
    /// Whether this source may try now.
    ///
    /// # Errors
    /// When it failed too often.
    pub fn admit(&self, source: IpAddr) -> Result<(), TooMany> {
        self.admit_at(source, Instant::now())
    }

    /// It failed.
    pub fn failed(&self, source: IpAddr) {
        self.failed_at(source, Instant::now());
    }

    fn admit_at(&self, source: IpAddr, now: Instant) -> Result<(), TooMany> {
        let left = self.sources().get(&network(source)).map_or(0, |source| source.left(now));
        if left < BURST { Ok(()) } else { Err(TooMany(REFILL.as_secs())) }
    }

    fn failed_at(&self, source: IpAddr, now: Instant) {
        let mut sources = self.sources();
        let count = sources.get(&network(source)).map_or(0, |source| source.left(now)).saturating_add(1);
        sources.insert(network(source), Source { count: count.min(BURST), last: now });
        if sources.len() > SOURCES {
            let oldest = sources.iter().min_by_key(|(_, source)| source.last).map(|(source, _)| *source);
            oldest.and_then(|oldest| sources.remove(&oldest));
        }
    }

    fn sources(&self) -> MutexGuard<'_, BTreeMap<IpAddr, Source>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whoever has one IPv6 address has a /64 of them.
fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << 64)).into(),
        ip => ip,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn who_fails_too_often_waits_and_nobody_else() {
        let (failures, now) = (Failures::default(), Instant::now());
        let (guesser, other): (IpAddr, IpAddr) = ("2001:db8::1".parse().unwrap(), "2001:db8:0:1::1".parse().unwrap());
        for _ in 0..BURST {
            assert_eq!(failures.admit_at(guesser, now), Ok(()));
            failures.failed_at(guesser, now);
        }
        let neighbour = "2001:db8::2".parse().unwrap();
        assert!(failures.admit_at(guesser, now).is_err() && failures.admit_at(neighbour, now).is_err());
        assert_eq!(failures.admit_at(other, now), Ok(()));
        assert_eq!(failures.admit_at(guesser, now + REFILL), Ok(()));
        failures.failed_at(guesser, now + REFILL);
        assert!(failures.admit_at(guesser, now + REFILL).is_err(), "one more is one more");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (failures, now) = (Failures::default(), Instant::now());
        (0..SOURCES as u32 + 100).for_each(|n| failures.failed_at(std::net::Ipv4Addr::from(n).into(), now));
        assert_eq!(failures.sources().len(), SOURCES);
    }
}

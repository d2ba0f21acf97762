//! How long certificates live, and when they are renewed.

use thiserror::Error;
use time::{Duration, OffsetDateTime};

/// Nothing below the top level lives longer.
const MAX_BELOW_TOP: Duration = Duration::days(90);
/// Shorter lives would be spent on renewals.
const MIN_LEAF: Duration = Duration::minutes(1);
/// An issuer lives at least this many times as long as what it signs, so that a renewed one always has enough left.
const ISSUER_FACTOR: i32 = 3;
/// How far NotBefore lies in the past at the most, for clocks that are behind.
const MOST_BACKDATE: Duration = Duration::seconds(60);
/// No larger part of a life than this one in so many is spent on that.
const BACKDATE_SHARE: i32 = 10;
/// The top-level CA's life.
pub(crate) const TOP_LEVEL: Duration = Duration::days(3650);
/// A cluster control CA's life.
pub(crate) const CONTROL_ROOT: Duration = MAX_BELOW_TOP;
/// The life of control-plane and self-signed public certificates.
pub(crate) const CONTROL: Duration = Duration::days(30);

/// Lifetimes that contradict the rules.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LifetimeError {
    /// A child may live too long for its issuer.
    #[error(
        "{child} certificates would live {child_life}, more than a third of {issuer} certificates' {issuer_life}: \
         shorten the one or lengthen the other"
    )]
    MoreThanAThird {
        /// The shorter-lived level.
        child: &'static str,
        /// Its life.
        child_life: Duration,
        /// The level that signs it.
        issuer: &'static str,
        /// Its life.
        issuer_life: Duration,
    },
    /// Longer than 90 days.
    #[error("GNS CA certificates would live {0}, more than 90 days")]
    TooLong(Duration),
    /// Less than a minute.
    #[error("leaf certificates would live {0}, less than a minute")]
    TooShort(Duration),
}

/// The lives of the three levels below the top. The wrong ones cannot be constructed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetimes {
    leaf: Duration,
    issuing: Duration,
    gns: Duration,
}

impl Lifetimes {
    /// Lifetimes of leaf, issuing CA and GNS CA certificates.
    ///
    /// # Errors
    /// When one is more than a third of its issuer's, the GNS CA's more than 90 days, or a leaf's under a minute.
    pub fn new(leaf: Duration, issuing: Duration, gns: Duration) -> Result<Self, LifetimeError> {
        if leaf < MIN_LEAF {
            return Err(LifetimeError::TooShort(leaf));
        }
        if gns > MAX_BELOW_TOP {
            return Err(LifetimeError::TooLong(gns));
        }
        at_most_a_third("leaf", leaf, "issuing CA", issuing)?;
        at_most_a_third("issuing CA", issuing, "GNS CA", gns)?;
        Ok(Self { leaf, issuing, gns })
    }

    /// A leaf's life.
    #[must_use]
    pub fn leaf(&self) -> Duration {
        self.leaf
    }

    /// An issuing CA's life.
    #[must_use]
    pub fn issuing(&self) -> Duration {
        self.issuing
    }

    /// A GNS CA's life.
    #[must_use]
    pub fn gns(&self) -> Duration {
        self.gns
    }
}

impl Default for Lifetimes {
    /// 24 hours, 30 days, 90 days.
    fn default() -> Self {
        Self { leaf: Duration::hours(24), issuing: Duration::days(30), gns: MAX_BELOW_TOP }
    }
}

fn at_most_a_third(
    child: &'static str,
    child_life: Duration,
    issuer: &'static str,
    issuer_life: Duration,
) -> Result<(), LifetimeError> {
    match child_life <= issuer_life / ISSUER_FACTOR {
        true => Ok(()),
        false => Err(LifetimeError::MoreThanAThird { child, child_life, issuer, issuer_life }),
    }
}

/// NotBefore and NotAfter of a certificate that is to live for `life`, made at `now`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Validity {
    pub(crate) not_before: OffsetDateTime,
    pub(crate) not_after: OffsetDateTime,
}

impl Validity {
    /// Of a root. The backdating is part of its life, so that 90 days are no more than 90 days.
    pub(crate) fn root(life: Duration, now: OffsetDateTime) -> Self {
        let not_before = now - backdate(life);
        Self { not_before, not_after: not_before + life }
    }

    /// Of what this one signs: at most a third of it, and within it.
    pub(crate) fn under(self, life: Duration, now: OffsetDateTime) -> Self {
        let life = life.min((self.not_after - self.not_before) / ISSUER_FACTOR);
        let not_before = self.not_before.max(now - backdate(life));
        Self { not_before, not_after: self.not_after.min(not_before + life) }
    }
}

/// How far a life begins in the past.
fn backdate(life: Duration) -> Duration {
    MOST_BACKDATE.min(life / BACKDATE_SHARE)
}

/// When to renew: at two thirds of the life, up to 5 % of it earlier or later. `jitter` from 0 to 1 says where in
/// that range; give a random number, so that not all renew at once.
#[must_use]
pub fn renew_at(not_before: OffsetDateTime, not_after: OffsetDateTime, jitter: f64) -> OffsetDateTime {
    let jitter = if jitter.is_finite() { jitter.clamp(0.0, 1.0) } else { 0.5 };
    not_before + (not_after - not_before) * (2.0 / 3.0 + (jitter - 0.5) * 0.1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use proptest::prelude::*;

    use super::*;

    const EPOCH: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    #[test]
    fn wrong_lifetimes_cannot_be_made() {
        let days = Duration::days;
        let default = Lifetimes::default();
        assert_eq!(Lifetimes::new(days(1), days(30), days(90)), Ok(default));
        assert!(matches!(Lifetimes::new(days(11), days(30), days(90)), Err(LifetimeError::MoreThanAThird { .. })));
        assert!(matches!(Lifetimes::new(days(1), days(31), days(90)), Err(LifetimeError::MoreThanAThird { .. })));
        assert!(matches!(Lifetimes::new(days(1), days(30), days(91)), Err(LifetimeError::TooLong(_))));
        assert!(matches!(Lifetimes::new(days(-1), days(30), days(90)), Err(LifetimeError::TooShort(_))));
    }

    #[test]
    fn a_short_life_is_not_spent_on_slow_clocks() {
        let minute = Validity::root(Duration::minutes(1), EPOCH);
        assert_eq!(
            (EPOCH - minute.not_before, minute.not_after - EPOCH),
            (Duration::seconds(6), Duration::seconds(54))
        );
        let day = Validity::root(Duration::days(1), EPOCH);
        assert_eq!(EPOCH - day.not_before, Duration::seconds(60));
        assert!(Lifetimes::new(Duration::seconds(60), Duration::seconds(180), Duration::seconds(540)).is_ok());
        assert!(Lifetimes::new(Duration::seconds(59), Duration::seconds(180), Duration::seconds(540)).is_err());
    }

    proptest! {
        #[test]
        fn what_is_signed_lies_within_its_issuer(issuer in 1i64..9_000_000, life in 1i64..9_000_000, at in 0.0..1.0f64) {
            let issuer = Validity::root(Duration::seconds(issuer), EPOCH);
            let now = issuer.not_before + (issuer.not_after - issuer.not_before) * at;
            let child = issuer.under(Duration::seconds(life), now);
            prop_assert!(issuer.not_before <= child.not_before && child.not_after <= issuer.not_after);
            prop_assert!((child.not_after - child.not_before) * 3 <= issuer.not_after - issuer.not_before);
        }

        #[test]
        fn renewal_is_near_two_thirds(days in 1i64..4000, jitter in proptest::num::f64::ANY) {
            let end = EPOCH + Duration::days(days);
            let share = (renew_at(EPOCH, end, jitter) - EPOCH) / (end - EPOCH);
            prop_assert!((0.616..=0.717).contains(&share), "{share}");
        }
    }
}

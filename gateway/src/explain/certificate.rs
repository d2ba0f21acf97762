//! Whether a certificate that this gateway shows can be believed, by its own dates.

use identity::Facts;
use time::OffsetDateTime;

/// What is wrong with a certificate's dates, as of `now`; nothing when nothing is.
pub(super) fn out_of_date(facts: &Facts, now: OffsetDateTime) -> Option<String> {
    if facts.not_after < now {
        let ago = (now - facts.not_after).whole_seconds();
        return Some(format!("expired {ago} s ago: it was not renewed, or this machine's clock is ahead"));
    }
    let early = (facts.not_before - now).whole_seconds();
    (facts.not_before > now).then(|| {
        format!(
            "is not valid yet, and begins {early} s from now: this machine's clock is behind, or that of who issued it \
             ahead"
        )
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use time::Duration;

    use super::*;

    fn facts(names: &[&str]) -> Facts {
        let certificate = rcgen::generate_simple_self_signed(names.iter().map(ToString::to_string).collect::<Vec<_>>());
        Facts::read(certificate.unwrap().cert.der()).unwrap()
    }

    #[test]
    fn dates_are_met_or_named() {
        let facts = facts(&["a.example"]);
        let at = |now| out_of_date(&facts, now);
        assert_eq!(at(facts.not_before + Duration::seconds(1)), None);
        assert!(at(facts.not_after + Duration::seconds(90)).unwrap().starts_with("expired 90 s ago"));
        assert!(at(facts.not_before - Duration::seconds(300)).unwrap().contains("begins 300 s from now"));
    }
}

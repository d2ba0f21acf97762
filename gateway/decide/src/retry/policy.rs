//! What may be tried again, by how the attempt ended.

use std::time::{Duration, Instant};

use http::Method;

use super::budget::{Budget, Kind};

/// At most so many attempts at a request, the first one included.
pub const MAX_ATTEMPTS: u32 = 3;

/// Before its last attempt a request waits for about so long: what failed twice within a moment may need one.
const PAUSE: Duration = Duration::from_millis(25);

/// How an attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// No instance was handed the request: the connect or the TLS handshake failed; the stream was refused
    /// (REFUSED_STREAM, RFC 9113 section 8.7); or a gateway answered with `tombolo-refusal`. Any method may be tried again.
    NotSent,
    /// No instance acted on the request, since the server had left the connection: the stream is beyond the last one of a
    /// GOAWAY (section 6.8), or nothing went out. Any method may be tried again, and the same server may be asked.
    Left,
    /// Our own ejection of the destination cut the attempt before a response head.
    Cut,
    /// A pooled connection was closed before anything came back, as its server may do at any time. Only the connection was
    /// old: the same server may be asked again.
    Stale,
    /// The request was sent, and no response head came: a reset, or a timeout.
    NoHead,
    /// A head of 502, 503 or 504 came, and was not passed on: the server says itself that it can't serve.
    Unavailable,
    /// A response head was passed on; what is lost now can't be called back.
    Answered,
}

/// A failed attempt.
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'a> {
    /// How it failed.
    pub outcome: Outcome,
    /// The request's method.
    pub method: &'a Method,
    /// Which attempt it was, counted from 1.
    pub number: u32,
    /// Whether the request's body can still be sent whole: it has none, nothing of it was read, or all that was read is
    /// kept (up to 64 KiB).
    pub body_replayable: bool,
}

/// What follows a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Try another endpoint; another cluster where [`must_change_cluster`] says so. The budget is charged.
    Retry,
    /// Answer the client with the failure.
    GiveUp(Reason),
}

/// Why a failed attempt is the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// A response head was passed on.
    Answered,
    /// An instance may have acted on the request, and the method isn't idempotent (RFC 9110 section 9.2.2).
    NotIdempotent,
    /// The body can't be sent a second time.
    BodySpent,
    /// [`MAX_ATTEMPTS`] were made.
    AttemptsSpent,
    /// Too many retries lately: more would only add to an overload.
    BudgetSpent,
}

impl Reason {
    /// The label in metrics and logs.
    pub fn code(self) -> &'static str {
        match self {
            Reason::Answered => "answered",
            Reason::NotIdempotent => "not_idempotent",
            Reason::BodySpent => "body_spent",
            Reason::AttemptsSpent => "attempts_spent",
            Reason::BudgetSpent => "budget_spent",
        }
    }
}

/// Whether to try again; charges the budget when so.
pub fn decide(attempt: &Attempt<'_>, budget: &Budget, now: Instant) -> Verdict {
    let kind = match attempt.permitted() {
        Ok(kind) => kind,
        Err(reason) => return Verdict::GiveUp(reason),
    };
    match budget.charge(kind, now) {
        true => Verdict::Retry,
        false => Verdict::GiveUp(Reason::BudgetSpent),
    }
}

impl Attempt<'_> {
    /// What a retry costs, or why there must be none whatever the budget.
    fn permitted(&self) -> Result<Kind, Reason> {
        let kind = match self.outcome {
            Outcome::Answered => return Err(Reason::Answered),
            Outcome::Cut | Outcome::Stale | Outcome::NoHead | Outcome::Unavailable if !self.method.is_idempotent() => {
                return Err(Reason::NotIdempotent);
            }
            Outcome::NotSent | Outcome::Left | Outcome::Cut | Outcome::Stale => Kind::Displaced,
            Outcome::NoHead | Outcome::Unavailable => Kind::Repeated,
        };
        match (self.body_replayable, self.number < MAX_ATTEMPTS) {
            (false, _) => Err(Reason::BodySpent),
            (_, false) => Err(Reason::AttemptsSpent),
            _ => Ok(kind),
        }
    }
}

/// How long to wait before this attempt (counted from 1): the second goes at once, to another endpoint; the last after
/// half to one and a half times 25 ms, as `chance` (from 0 to 1) says, so that what failed together isn't repeated
/// together.
pub fn pause_before(attempt: u32, chance: f64) -> Option<Duration> {
    (attempt >= MAX_ATTEMPTS).then(|| PAUSE.mul_f64(0.5 + chance.clamp(0.0, 1.0)))
}

/// Whether this attempt (counted from 1) must go to another cluster than those before, where there is one: the last
/// must, since what failed twice in a cluster will likely fail there again.
pub fn must_change_cluster(attempt: u32) -> bool {
    attempt >= MAX_ATTEMPTS
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn verdict(outcome: Outcome, method: &Method, number: u32, body_replayable: bool) -> Verdict {
        let now = Instant::now();
        decide(&Attempt { outcome, method, number, body_replayable }, &Budget::new(now), now)
    }

    #[test]
    fn what_was_not_sent_goes_again_whatever_the_method() {
        assert_eq!(verdict(Outcome::NotSent, &Method::POST, 1, true), Verdict::Retry);
        assert_eq!(verdict(Outcome::NotSent, &Method::POST, 1, false), Verdict::GiveUp(Reason::BodySpent));
    }

    /// RFC 9110 section 9.2.2. gRPC is POST, and so never repeated once it was sent; methods that nobody knows aren't
    /// either.
    #[test]
    fn what_was_sent_goes_again_only_if_idempotent() {
        let methods = [
            (Method::GET, true),
            (Method::HEAD, true),
            (Method::OPTIONS, true),
            (Method::TRACE, true),
            (Method::PUT, true),
            (Method::DELETE, true),
            (Method::POST, false),
            (Method::PATCH, false),
            (Method::CONNECT, false),
            (Method::from_bytes(b"PURGE").unwrap(), false),
        ];
        // What may have been processed; and what certainly was not.
        let outcomes = [
            (Outcome::NoHead, true),
            (Outcome::Cut, true),
            (Outcome::Stale, true),
            (Outcome::Unavailable, true),
            (Outcome::NotSent, false),
            (Outcome::Left, false),
        ];
        for (method, idempotent) in &methods {
            for (outcome, maybe_processed) in outcomes {
                let expected = match !idempotent && maybe_processed {
                    true => Verdict::GiveUp(Reason::NotIdempotent),
                    false => Verdict::Retry,
                };
                assert_eq!(verdict(outcome, method, 1, true), expected, "{method} {outcome:?}");
            }
            assert_eq!(verdict(Outcome::Answered, method, 1, true), Verdict::GiveUp(Reason::Answered));
        }
    }

    #[test]
    fn only_the_last_attempt_waits_and_not_for_long() {
        assert_eq!([1, 2].map(|attempt| pause_before(attempt, 1.0)), [None; 2]);
        assert_eq!([0.0, 0.5, 1.0].map(|chance| pause_before(3, chance)), [PAUSE / 2, PAUSE, PAUSE * 3 / 2].map(Some));
    }

    #[test]
    fn nothing_goes_again_after_three_attempts_or_a_head() {
        assert_eq!(verdict(Outcome::NotSent, &Method::GET, 3, true), Verdict::GiveUp(Reason::AttemptsSpent));
        assert_eq!(verdict(Outcome::Answered, &Method::GET, 1, true), Verdict::GiveUp(Reason::Answered));
        assert_eq!([1, 2, 3].map(must_change_cluster), [false, false, true]);
    }
}

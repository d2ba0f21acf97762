//! Which instances of a version take requests, given the state of all of them.

use super::tracker::State;

/// Which instances of a version take requests. A greater one admits more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Admit {
    /// Those that are well.
    Well,
    /// None is well, so those of which nothing is known yet too: a gateway that has just started must serve.
    Unknown,
    /// Panic mode: all of them are sick.
    All,
}

impl Admit {
    /// What to admit, given the state of every instance. While some instance is well, one that nobody has checked waits
    /// for its first check (which is due at once): a rollout's new instances get no request that they can't serve.
    pub fn among(states: impl IntoIterator<Item = State>) -> Admit {
        let admit_for = |state| match state {
            State::Well => Admit::Well,
            State::Unknown => Admit::Unknown,
            State::Sick(_) => Admit::All,
        };
        states.into_iter().map(admit_for).min().unwrap_or(Admit::Well)
    }

    /// Whether an instance in this state takes requests.
    pub fn admits(self, state: State) -> bool {
        match state {
            State::Well => true,
            State::Unknown => self >= Admit::Unknown,
            State::Sick(_) => self == Admit::All,
        }
    }
}

/// Whether one more of a version's `instances` may be ejected by the evidence of responses, when `ejected` are so
/// already: at most half. When most instances answer 5xx, the fault lies more likely behind them (a database) or in the
/// requests, and ejection would only add load to the rest. Failed checks and failed connects are not limited so.
pub fn may_eject(ejected: usize, instances: usize) -> bool {
    ejected.saturating_add(1).saturating_mul(2) <= instances
}

#[cfg(test)]
mod tests {
    use super::super::tracker::Why;
    use super::*;

    #[test]
    fn the_unknown_serve_only_when_none_is_well() {
        let sick = State::Sick(Why::Checks);
        let admitted = |states: &[State]| {
            let admit = Admit::among(states.iter().copied());
            states.iter().map(|state| admit.admits(*state)).collect::<Vec<_>>()
        };
        assert_eq!(admitted(&[State::Well, State::Unknown, sick]), [true, false, false]);
        assert_eq!(admitted(&[State::Unknown, sick]), [true, false]);
        assert_eq!(admitted(&[sick, sick]), [true, true]);
        assert_eq!(admitted(&[]), []);
    }

    #[test]
    fn at_most_half_are_ejected() {
        let allowed = |instances| (0..10).take_while(|ejected| may_eject(*ejected, instances)).count();
        assert_eq!([0, 1, 2, 3, 4, 5].map(allowed), [0, 0, 1, 1, 2, 2]);
    }
}

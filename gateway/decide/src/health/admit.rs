//! Which instances of a version take requests, given the state of all of them.

use super::tracker::{State, Why};

/// Which instances of a version take requests. A greater one admits more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Admit {
    /// Those that are well.
    Well,
    /// None is well, so those of which nothing is known yet too: a gateway that has just started must serve.
    Unknown,
    /// Panic mode: those too that answer, if badly.
    Ailing,
    /// Panic mode, and not even that: all of them.
    All,
}

impl Admit {
    /// What to admit, given the state of every instance, and whether the service is in [panic mode](panics). While some
    /// instance is well, one that nobody has checked waits for its first check (which is due at once): a rollout's new
    /// instances get no request that they can't serve.
    pub fn among(states: impl IntoIterator<Item = State>, panic: bool) -> Admit {
        let least = states.into_iter().map(Admit::needed_for).min().unwrap_or(Admit::Well);
        if panic { least.max(Admit::Ailing) } else { least }
    }

    /// Whether an instance in this state takes requests.
    pub fn admits(self, state: State) -> bool {
        Admit::needed_for(state) <= self
    }

    fn needed_for(state: State) -> Admit {
        match state {
            State::Well => Admit::Well,
            State::Unknown => Admit::Unknown,
            State::Sick(Why::Checks | Why::Responses) => Admit::Ailing,
            State::Sick(Why::Unready | Why::Silent | Why::Connect) => Admit::All,
        }
    }
}

/// Whether one more of a service's instances may be ejected by the evidence of requests, when `ejected` are so already:
/// at most half of those that would serve `but_for_ejections`, and so never the last. When most instances answer 5xx, the
/// fault lies more likely behind them (a database) or in the requests, and ejection would only add load to the rest.
/// Failed checks and failed connects are not limited so; whom they have put out can't take over anything either.
pub fn may_eject(ejected: usize, but_for_ejections: usize) -> bool {
    ejected.saturating_add(1).saturating_mul(2) <= but_for_ejections
}

/// Panic mode: more instances of a service ail than are well, wherever those are. Then the ailing take requests again.
///
/// An instance *ails* when it was well once, answers at all, and is out because of what it answers. If most do, the fault
/// lies more likely in the check, or in something that all of them need, than in each; and the few that are left would
/// have to carry more than twice their load, and fail next. Below one half neither holds. Instances that are silent,
/// refuse connects, or were never ready don't count: what is dead serves nobody, and each request that is sent there is
/// an attempt less where it might succeed; a rollout of something broken is no reason to serve it.
pub fn panics(well: usize, ailing: usize) -> bool {
    ailing > well
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEAD: State = State::Sick(Why::Silent);
    const AILING: State = State::Sick(Why::Checks);

    fn admitted(states: &[State], panic: bool) -> Vec<bool> {
        let admit = Admit::among(states.iter().copied(), panic);
        states.iter().map(|state| admit.admits(*state)).collect()
    }

    #[test]
    fn the_unknown_serve_only_when_none_is_well() {
        assert_eq!(admitted(&[State::Well, State::Unknown, AILING, DEAD], false), [true, false, false, false]);
        assert_eq!(admitted(&[State::Unknown, AILING, DEAD], false), [true, false, false]);
    }

    #[test]
    fn the_dead_serve_only_when_there_is_nothing_else() {
        assert_eq!(admitted(&[AILING, DEAD, State::Sick(Why::Connect)], false), [true, false, false]);
        assert_eq!(admitted(&[DEAD, State::Sick(Why::Unready)], false), [true, true]);
        assert_eq!(admitted(&[], false), []);
    }

    #[test]
    fn in_panic_mode_the_ailing_serve_beside_the_well() {
        let states = [State::Well, State::Unknown, AILING, State::Sick(Why::Responses), DEAD];
        assert_eq!(admitted(&states, true), [true, true, true, true, false]);
        assert_eq!(admitted(&[DEAD, DEAD], true), [true, true]);
    }

    #[test]
    fn at_most_half_are_ejected() {
        let allowed = |instances| (0..10).take_while(|ejected| may_eject(*ejected, instances)).count();
        assert_eq!([0, 1, 2, 3, 4, 5].map(allowed), [0, 0, 1, 1, 2, 2]);
    }

    #[test]
    fn half_is_no_panic_yet() {
        assert_eq!(
            [(0, 0), (1, 1), (2, 1), (1, 2), (0, 1)].map(|(well, ailing)| panics(well, ailing)),
            [false, false, false, true, true]
        );
    }
}

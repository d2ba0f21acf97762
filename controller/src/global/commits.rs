//! When the last revisions were written, by which it is told for how long somebody has been behind.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Of so many revisions it is remembered.
const KEPT: usize = 4096;

/// The last revisions of this controller's life, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Commits(VecDeque<(u64, Instant)>);

impl Commits {
    /// The desired state is at this revision now.
    pub(super) fn note(&mut self, revision: u64, now: Instant) {
        if self.0.back().is_some_and(|(newest, _)| *newest >= revision) {
            return;
        }
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back((revision, now));
    }

    /// For how long, at least, who acts on `revision` has lacked the next one; nothing if there is none.
    pub(super) fn behind_for(&self, revision: u64, now: Instant) -> Option<Duration> {
        let missed = self.0.partition_point(|(noted, _)| *noted <= revision);
        self.0.get(missed).map(|(_, at)| now.saturating_duration_since(*at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_behind_since_the_first_revision_that_one_lacks() {
        let (mut commits, began) = (Commits::default(), Instant::now());
        let at = |seconds| began + Duration::from_secs(seconds);
        for (revision, seconds) in [(7, 0), (8, 10), (8, 11), (9, 20)] {
            commits.note(revision, at(seconds));
        }
        let behind = [9, 8, 7, 3].map(|revision| commits.behind_for(revision, at(30)).map(|since| since.as_secs()));
        assert_eq!(behind, [None, Some(10), Some(20), Some(30)]);
        (10..).take(KEPT).for_each(|revision| commits.note(revision, at(40)));
        assert_eq!(commits.0.len(), KEPT);
    }
}

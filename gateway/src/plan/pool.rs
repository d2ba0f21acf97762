//! Instances that take turns.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwapOption, Guard};
use decide::balance::{Cursor, FULL, Rota};
use decide::health::Admit;

use crate::health::{Changes, Target};

/// While an instance's share grows, shares are looked at again after so long.
const GROWING: Duration = Duration::from_millis(100);

/// Instances that take turns. However many they are, a pick looks at few: who takes requests is listed anew only when
/// some instance's health has changed.
pub struct Pool {
    /// The instances.
    pub targets: Vec<Arc<Target>>,
    /// Whose turn it is; kept while plans come and go.
    pub cursor: Arc<Cursor>,
    changes: Changes,
    lineup: ArcSwapOption<Lineup>,
}

/// Who takes requests, as last looked at.
struct Lineup {
    /// How often health had changed by then.
    change: u64,
    panic: bool,
    /// Until when it holds, where somebody's share grows.
    until: Option<Instant>,
    healthy: u32,
    rota: Rota,
}

impl Lineup {
    fn holds(&self, change: u64, panic: bool) -> bool {
        self.change == change && self.panic == panic && self.until.is_none_or(|until| Instant::now() < until)
    }
}

impl Pool {
    /// Of these instances, whose health is followed by these changes.
    pub fn new(targets: Vec<Arc<Target>>, cursor: Arc<Cursor>, changes: Changes) -> Self {
        Pool { targets, cursor, changes, lineup: ArcSwapOption::empty() }
    }

    /// How many are known to be well.
    pub fn healthy(&self) -> u32 {
        match &*self.lineup.load() {
            Some(lineup) if lineup.change == self.changes.number() => lineup.healthy,
            _ => count(self.targets.iter().filter(|target| target.health.is_well()).count()),
        }
    }

    /// How many there are.
    pub fn instances(&self) -> u32 {
        count(self.targets.len())
    }

    /// The next instance in its turn that takes requests and isn't among those tried. In `panic` mode the ailing do too.
    pub fn next(&self, tried: &[Arc<Target>], panic: bool) -> Option<Arc<Target>> {
        let next = match tried {
            [] => self.lineup(panic).as_ref().and_then(|lineup| self.cursor.next_of(&lineup.rota)),
            _ => self.untried(tried, panic),
        };
        next.and_then(|index| self.targets.get(index)).cloned()
    }

    /// The instances, each with whether it takes requests now.
    pub fn takers(&self, panic: bool) -> impl Iterator<Item = (&Arc<Target>, bool)> {
        let admit = self.admit(panic);
        self.targets.iter().map(move |target| (target, weight(target, admit) > 0))
    }

    fn untried(&self, tried: &[Arc<Target>], panic: bool) -> Option<usize> {
        let admit = self.admit(panic);
        let fresh = |target: &Target| !tried.iter().any(|other| Arc::ptr_eq(&other.health, &target.health));
        let weight = |target: &Arc<Target>| if fresh(target) { weight(target, admit) } else { 0 };
        self.cursor.next_of(&Rota::new(self.targets.iter().map(weight)))
    }

    fn lineup(&self, panic: bool) -> Guard<Option<Arc<Lineup>>> {
        let change = self.changes.number();
        let known = self.lineup.load();
        if known.as_ref().is_some_and(|lineup| lineup.holds(change, panic)) {
            return known;
        }
        self.lineup.store(Some(Arc::new(self.look(change, panic))));
        self.lineup.load()
    }

    /// `change` was read before: what changes meanwhile is then seen by the next one who asks.
    fn look(&self, change: u64, panic: bool) -> Lineup {
        let admit = self.admit(panic);
        let rota = Rota::new(self.targets.iter().map(|target| weight(target, admit)));
        let healthy = count(self.targets.iter().filter(|target| target.health.is_well()).count());
        Lineup { change, panic, until: rota.is_uneven().then(|| Instant::now() + GROWING), healthy, rota }
    }

    fn admit(&self, panic: bool) -> Admit {
        Admit::among(self.targets.iter().map(|target| target.health.state()), panic)
    }
}

/// Its part of the turns that it would have.
fn weight(target: &Target, admit: Admit) -> u32 {
    if admit.admits(target.health.state()) { target.health.weight().min(FULL) } else { 0 }
}

fn count(instances: usize) -> u32 {
    u32::try_from(instances).unwrap_or(u32::MAX)
}

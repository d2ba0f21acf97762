//! What this gateway says about itself to its peers: worked out once for each change, however many tunnels carry it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use config::resource::Name;

use super::report::{BEAT_LINE, Report, change, whole};
use crate::plan::Plan;

/// The reports that were made since the last change.
#[derive(Default)]
pub struct Reports {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    changes: u64,
    plan: Weak<Plan>,
    /// The newest report's.
    sequence: u64,
    /// By the GNS, and by the other one whose gateways are told.
    reports: BTreeMap<(Name, Option<Name>), Made>,
}

struct Made {
    told: Arc<Told>,
    /// Nothing has changed since.
    is_new: bool,
}

/// A report, as it is told.
pub struct Told {
    report: Report,
    /// What it changes in the one that was made before, by that one's number: as a line, for most have been told that one.
    change: Option<(u64, Bytes)>,
}

impl Told {
    /// The line for who was told `said` last, and wants only `changes`. Nothing new is a beat.
    pub fn line(&self, said: Option<&Told>, changes: bool) -> Bytes {
        match (said.map(|said| &said.report), &self.change) {
            (Some(said), _) if said.sequence == self.report.sequence => BEAT_LINE,
            (Some(said), Some((since, line))) if changes && said.sequence == *since => line.clone(),
            (Some(said), _) if changes => change(said, &self.report),
            _ => whole(&self.report),
        }
    }
}

impl Reports {
    /// The report of a GNS, to its own gateways or to those of another, by this plan, after so many changes of health:
    /// made now, unless it was already. One that says what the last one said is that one.
    pub fn get(
        &self,
        changes: u64,
        plan: &Arc<Plan>,
        (gns, told): (&Name, Option<&Name>),
        make: impl FnOnce() -> Report,
    ) -> Arc<Told> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.renew(changes, plan);
        let key = (gns.clone(), told.cloned());
        if let Some(made) = kept.reports.get(&key).filter(|made| made.is_new) {
            return made.told.clone();
        }
        let (report, last) = (make(), kept.reports.get(&key).map(|last| last.told.clone()));
        let told = match last {
            Some(last) if last.report.says_the_same(&report) => last,
            last => kept.number(report, last.as_deref()),
        };
        kept.reports.insert(key, Made { told: told.clone(), is_new: true });
        told
    }
}

impl Kept {
    fn renew(&mut self, changes: u64, plan: &Arc<Plan>) {
        let same_plan = self.plan.ptr_eq(&Arc::downgrade(plan));
        if same_plan && changes <= self.changes {
            return;
        }
        if !same_plan {
            self.reports.retain(|(gns, _), _| plan.snapshot.namespaces.contains_key(gns));
        }
        self.reports.values_mut().for_each(|made| made.is_new = false);
        (self.changes, self.plan) = (self.changes.max(changes), Arc::downgrade(plan));
    }

    fn number(&mut self, report: Report, last: Option<&Told>) -> Arc<Told> {
        self.sequence += 1;
        let report = Report { sequence: self.sequence, ..report };
        let change = last.map(|last| (last.report.sequence, change(&last.report, &report)));
        Arc::new(Told { report, change })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use config::compile::compile;
    use config::snapshot::Place;
    use config::world::World;

    use super::*;

    fn plans() -> [Arc<Plan>; 2] {
        let place = Place { cluster: "north".parse().unwrap() };
        [(); 2].map(|()| Arc::new(Plan::empty(Arc::new(compile(&World::default(), &place, None)))))
    }

    #[test]
    fn a_report_is_made_once_for_each_change_and_numbered_when_it_says_something_new() {
        let (reports, shop, [one, two]) = (Reports::default(), "shop".parse().unwrap(), plans());
        let made = std::cell::Cell::new(0);
        let get = |changes, plan, draining| {
            let told = reports.get(changes, plan, (&shop, None), || {
                made.set(made.get() + 1);
                Report { draining, ..Report::default() }
            });
            (made.get(), told.report.sequence)
        };
        assert_eq!([get(0, &one, false), get(0, &one, true), get(1, &one, false)], [(1, 1), (1, 1), (2, 1)]);
        assert_eq!([get(2, &one, true), get(2, &two, true), get(2, &two, true)], [(3, 2), (4, 3), (4, 3)]);
    }

    #[test]
    fn each_is_told_what_is_new_to_it() {
        let (reports, shop, [plan, _]) = (Reports::default(), "shop".parse().unwrap(), plans());
        let make = |changes: u64| Report { draining: changes % 2 == 1, boot: changes.to_string(), ..Report::default() };
        let [one, two, three] = [1, 2, 3].map(|changes| reports.get(changes, &plan, (&shop, None), || make(changes)));
        assert_eq!(one.line(None, true), whole(&one.report));
        assert_eq!(one.line(Some(&one), true), BEAT_LINE);
        assert_eq!(two.line(Some(&one), true), change(&one.report, &two.report));
        assert_eq!(three.line(Some(&one), true), change(&one.report, &three.report), "one was skipped");
        assert_eq!(three.line(Some(&two), false), whole(&three.report), "an older release wants all of it");
    }
}

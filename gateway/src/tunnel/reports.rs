//! What this gateway says about itself to its peers: worked out once for each change, however many tunnels carry it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use config::resource::Name;

use super::report::Report;
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
    report: Arc<Report>,
    /// Nothing has changed since.
    is_new: bool,
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
    ) -> Arc<Report> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.renew(changes, plan);
        let key = (gns.clone(), told.cloned());
        if let Some(made) = kept.reports.get(&key).filter(|made| made.is_new) {
            return made.report.clone();
        }
        let report = make();
        let last = kept.reports.get(&key).filter(|last| last.report.says_the_same(&report));
        let report = last.map(|last| last.report.clone()).unwrap_or_else(|| kept.number(report));
        kept.reports.insert(key, Made { report: report.clone(), is_new: true });
        report
    }
}

impl Kept {
    fn renew(&mut self, changes: u64, plan: &Arc<Plan>) {
        let same_plan = self.plan.ptr_eq(&Arc::downgrade(plan));
        if same_plan && self.changes == changes {
            return;
        }
        if !same_plan {
            self.reports.retain(|(gns, _), _| plan.snapshot.namespaces.contains_key(gns));
        }
        self.reports.values_mut().for_each(|made| made.is_new = false);
        (self.changes, self.plan) = (changes, Arc::downgrade(plan));
    }

    fn number(&mut self, report: Report) -> Arc<Report> {
        self.sequence += 1;
        Arc::new(Report { sequence: self.sequence, ..report })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use config::compile::compile;
    use config::snapshot::Place;
    use config::world::World;

    use super::*;

    #[test]
    fn a_report_is_made_once_for_each_change_and_numbered_when_it_says_something_new() {
        let (reports, shop) = (Reports::default(), "shop".parse().unwrap());
        let place = Place { cluster: "north".parse().unwrap() };
        let [one, two] = [(); 2].map(|()| Arc::new(Plan::empty(Arc::new(compile(&World::default(), &place, None)))));
        let made = std::cell::Cell::new(0);
        let get = |changes, plan, draining| {
            let report = reports.get(changes, plan, (&shop, None), || {
                made.set(made.get() + 1);
                Report { draining, ..Report::default() }
            });
            (made.get(), report.sequence)
        };
        assert_eq!([get(0, &one, false), get(0, &one, true), get(1, &one, false)], [(1, 1), (1, 1), (2, 1)]);
        assert_eq!([get(2, &one, true), get(2, &two, true), get(2, &two, true)], [(3, 2), (4, 3), (4, 3)]);
    }
}

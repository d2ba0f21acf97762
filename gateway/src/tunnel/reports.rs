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
    /// By the GNS, and by the other one whose gateways are told.
    reports: BTreeMap<(Name, Option<Name>), Arc<Report>>,
}

impl Reports {
    /// The report of a GNS, to its own gateways or to those of another, by this plan, after so many changes of health: made now, unless it was already.
    pub fn get(
        &self,
        changes: u64,
        plan: &Arc<Plan>,
        (gns, told): (&Name, Option<&Name>),
        make: impl FnOnce() -> Report,
    ) -> Arc<Report> {
        let plan = Arc::downgrade(plan);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.changes != changes || !kept.plan.ptr_eq(&plan) {
            *kept = Kept { changes, plan, reports: BTreeMap::new() };
        }
        kept.reports.entry((gns.clone(), told.cloned())).or_insert_with(|| Arc::new(make())).clone()
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
    fn a_report_is_made_once_for_each_change() {
        let (reports, shop) = (Reports::default(), "shop".parse().unwrap());
        let place = Place { cluster: "north".parse().unwrap() };
        let [one, two] = [(); 2].map(|()| Arc::new(Plan::empty(Arc::new(compile(&World::default(), &place, None)))));
        let made = std::cell::Cell::new(0);
        let get = |changes, plan| {
            reports.get(changes, plan, (&shop, None), || {
                made.set(made.get() + 1);
                Report::default()
            });
            made.get()
        };
        assert_eq!([get(0, &one), get(0, &one), get(1, &one), get(1, &two), get(1, &two)], [1, 1, 2, 3, 3]);
    }
}

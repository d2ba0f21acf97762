//! Of which services something may have changed: their instances' health, their part of the plan, what peers say of them.
//! So whoever tells others of health looks at those, and not at all services.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use config::keyed::beside;
use config::resource::Name;

use crate::ledger::Ledger;
use crate::plan::{Plan, PlannedService};

/// A service: its GNS, and its name.
pub type ServiceKey = (Name, Name);

/// What may have changed, in order.
pub struct News(Mutex<Log>);

struct Log {
    services: Ledger<ServiceKey, ()>,
    /// That was looked at last.
    plan: Weak<Plan>,
    planned: BTreeMap<Name, Planned>,
}

/// The services of a GNS, as they were planned last.
type Planned = BTreeMap<Name, Weak<PlannedService>>;

impl Default for News {
    fn default() -> Self {
        News(Mutex::new(Log { services: Ledger::after(0), plan: Weak::new(), planned: BTreeMap::new() }))
    }
}

impl News {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something of this service has changed. To be called once it has.
    pub fn of(&self, global_namespace: &Name, service: &Name) {
        self.log().services.note((global_namespace.clone(), service.clone()), None);
    }

    /// Something of these services of a GNS has changed.
    pub fn of_these<'n>(&self, global_namespace: &Name, services: impl Iterator<Item = &'n Name>) {
        let mut log = self.log();
        services.for_each(|service| log.services.note((global_namespace.clone(), service.clone()), None));
    }

    /// Something of all services may have changed.
    pub fn of_all(&self) {
        self.log().services.forget();
    }

    /// The services of which something may have changed after that number, also by this plan, and the number that it is
    /// now. `None` stands for all. Who asks first and then looks sees at least what was so when it asked.
    pub fn since(&self, plan: &Arc<Plan>, number: u64) -> (u64, Option<Vec<ServiceKey>>) {
        let mut log = self.log();
        log.look(plan);
        let changed = log.services.since(number).map(|changed| changed.map(|(key, _)| key.clone()).collect());
        (log.services.number(), changed)
    }
}

impl Log {
    fn look(&mut self, plan: &Arc<Plan>) {
        if self.plan.as_ptr() == Arc::as_ptr(plan) {
            return;
        }
        self.plan = Arc::downgrade(plan);
        let none = BTreeMap::new();
        let gone = self.planned.keys().filter(|gns| !plan.services.contains_key(*gns));
        let all: Vec<Name> = gone.chain(plan.services.keys()).cloned().collect();
        for gns in all {
            let planned = self.planned.entry(gns.clone()).or_default();
            let now = plan.services.get(&gns).unwrap_or(&none);
            for name in differences(planned, now) {
                match now.get(&name) {
                    Some(service) => drop(planned.insert(name.clone(), Arc::downgrade(service))),
                    None => drop(planned.remove(&name)),
                }
                self.services.note((gns.clone(), name), None);
            }
        }
        self.planned.retain(|_, planned| !planned.is_empty());
    }
}

/// The names of what isn't the same in memory, in one or the other.
fn differences<T>(before: &BTreeMap<Name, Weak<T>>, now: &BTreeMap<Name, Arc<T>>) -> Vec<Name> {
    let same = |before: Option<&Weak<T>>, now: Option<&Arc<T>>| {
        before.zip(now).is_some_and(|(before, now)| before.as_ptr() == Arc::as_ptr(now))
    };
    let differ = beside(before.iter(), now.iter()).filter(|(_, before, now)| !same(*before, *now));
    differ.map(|(name, ..)| name.clone()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use config::compile::compile;
    use config::snapshot::Place;
    use config::world::World;
    use proptest::collection::btree_map;
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    proptest! {
        #[test]
        fn what_is_another_value_differs_and_nothing_else(
            before in btree_map("[a-f]", 0..3usize, 0..6),
            now in btree_map("[a-f]", 0..3usize, 0..6),
        ) {
            let values = [(); 3].map(|()| Arc::new(()));
            let of = |names: &BTreeMap<String, usize>| -> BTreeMap<Name, Arc<()>> {
                names.iter().filter_map(|(text, at)| Some((name(text), values.get(*at)?.clone()))).collect()
            };
            let weak = of(&before).into_iter().map(|(name, value)| (name, Arc::downgrade(&value))).collect();
            let differ: BTreeSet<_> = differences(&weak, &of(&now)).into_iter().collect();
            let names: BTreeSet<_> = before.keys().chain(now.keys()).collect();
            let expected = names.into_iter().filter(|name| before.get(*name) != now.get(*name)).map(|text| name(text));
            prop_assert_eq!(differ, expected.collect());
        }
    }

    #[test]
    fn each_is_told_what_is_new_to_it() {
        let (news, place) = (News::default(), Place { cluster: name("north") });
        let plan = Arc::new(Plan::empty(Arc::new(compile(&World::default(), &place, None))));
        let key = |service| (name("shop"), name(service));
        assert_eq!(news.since(&plan, 0), (0, Some(vec![])));
        news.of(&name("shop"), &name("cart"));
        news.of_these(&name("shop"), [name("pay"), name("cart")].iter());
        let (number, changed) = news.since(&plan, 0);
        assert_eq!(changed, Some(vec![key("pay"), key("cart")]));
        assert_eq!(news.since(&plan, number), (number, Some(vec![])));
        assert_eq!(news.since(&plan, number + 1).1, None, "a number of another life");
        news.of_all();
        let (all, changed) = news.since(&plan, number);
        assert_eq!((changed, news.since(&plan, all)), (None, (all, Some(vec![]))));
    }
}

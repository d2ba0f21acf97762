//! What this gateway says about itself to its peers: worked out once for each change, however many tunnels carry it, and of
//! those services only that may have changed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use config::live::Live;
use config::resource::Name;

use super::report::{BEAT_LINE, Report, Versions, line};
use crate::ledger::Ledger;
use crate::news::News;
use crate::plan::{Plan, PlannedService};

/// The reports as they were made last.
#[derive(Default)]
pub struct Reports(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    /// The newest report's number: they grow over all of them, for one that begins anew must not count as an old one.
    sequence: u64,
    /// By the GNS, and by the other one whose gateways are told.
    reports: BTreeMap<(Name, Option<Name>), Telling>,
}

/// Who is told, and what that one has been told already.
#[derive(Debug, Clone, Copy)]
pub struct Listener<'l> {
    /// The GNS that is told of.
    pub global_namespace: &'l Name,
    /// The other GNS whose gateways are told.
    pub told: Option<&'l Name>,
    /// The number of the report that it was told last.
    pub said: Option<u64>,
    /// Whether it wants changes: one of an older release reads whole reports only.
    pub changes: bool,
}

impl Reports {
    /// The number of the report as it is now, and the line for this listener. Nothing new is a beat. `head` is all of the
    /// report but its number and its services.
    pub fn line(
        &self,
        (plan, news): (&Live<Plan>, &News),
        listener: Listener<'_>,
        head: impl FnOnce(&Plan) -> Report,
    ) -> (u64, Bytes) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let plan = plan.load();
        let key = (listener.global_namespace.clone(), listener.told.cloned());
        if !kept.reports.contains_key(&key) {
            kept.reports.retain(|(gns, _), _| plan.snapshot.namespaces.contains_key(gns));
        }
        let Kept { sequence, reports } = &mut *kept;
        let telling = reports.entry(key).or_insert_with(|| Telling::after(*sequence));
        telling.say(head(&plan));
        telling.look(&plan, news, (listener.global_namespace, listener.told));
        *sequence = telling.services.number().max(*sequence);
        telling.line(listener.said.filter(|said| listener.changes || *said == telling.services.number()))
    }
}

/// One report, for all who are told it.
struct Telling {
    /// Up to where the news are in it.
    news: u64,
    /// All but the services.
    head: Report,
    /// When it was said last where the cluster's gateways are.
    gateways_at: u64,
    services: Ledger<Name, Versions>,
    /// The last line that was made: the report's number, and for whom it is.
    made: Option<(u64, Option<u64>, Bytes)>,
}

impl Telling {
    fn after(sequence: u64) -> Self {
        // The first report has a number of its own, whatever it says.
        let services = Ledger::after(sequence + 1);
        Telling { news: 0, head: Report::default(), gateways_at: 0, services, made: None }
    }

    fn say(&mut self, head: Report) {
        if self.head == head {
            return;
        }
        let at = self.services.step();
        if self.head.gateways != head.gateways {
            self.gateways_at = at;
        }
        self.head = head;
    }

    fn look(&mut self, plan: &Arc<Plan>, news: &News, (gns, told): (&Name, Option<&Name>)) {
        let (number, changed) = news.since(plan, self.news);
        self.news = number;
        let changed = changed.map(|changed| changed.into_iter().filter(|(of, _)| of == gns).map(|(_, name)| name));
        let planned = plan.services.get(gns);
        let all = || planned.into_iter().flat_map(BTreeMap::keys).cloned();
        self.services.refresh(changed.map(Iterator::collect), all, |name| versions(planned?.get(name)?, told));
    }

    fn line(&mut self, said: Option<u64>) -> (u64, Bytes) {
        let number = self.services.number();
        if said == Some(number) {
            return (number, BEAT_LINE);
        }
        if let Some((.., line)) = self.made.as_ref().filter(|(at, since, _)| (*at, *since) == (number, said)) {
            return (number, line.clone());
        }
        let line = said.and_then(|said| self.change(said)).unwrap_or_else(|| self.whole());
        self.made = Some((number, said, line.clone()));
        (number, line)
    }

    fn whole(&self) -> Bytes {
        let services = self.services.all().map(|(name, versions)| (name.clone(), Some(versions.clone()))).collect();
        line(&self.head, (self.services.number(), None), services, Some(self.head.gateways.to_vec()))
    }

    fn change(&self, said: u64) -> Option<Bytes> {
        let services = self.services.since(said)?.map(|(name, versions)| (name.clone(), versions.cloned())).collect();
        let gateways = (self.gateways_at > said).then(|| self.head.gateways.to_vec());
        Some(line(&self.head, (self.services.number(), Some(said)), services, gateways))
    }
}

/// How many instances of a service's versions can take requests, as far as those who are told may call it.
fn versions(planned: &PlannedService, told: Option<&Name>) -> Option<Versions> {
    let port = planned.ports.values().next()?;
    let pools = match told {
        None => &port.versions,
        Some(other) => {
            let lets_in = planned.service.allowed.iter().any(|allowed| allowed.global_namespace == *other);
            &port.crossing.as_ref().filter(|_| lets_in)?.versions
        }
    };
    let versions: BTreeMap<_, _> = pools.iter().map(|(version, pool)| (version.clone(), pool.healthy())).collect();
    (!versions.is_empty()).then(|| Arc::new(versions))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use config::compile::compile;
    use config::resource::GatewayAddresses;
    use config::snapshot::Place;
    use config::world::World;
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    use super::super::report::{Lines, Services};
    use super::*;

    fn name(number: u8) -> Name {
        format!("n{number}").parse().unwrap()
    }

    /// One that says these numbers of instances, and names gateways at these addresses.
    fn say(telling: &mut Telling, services: &BTreeMap<u8, u32>, gateways: &[u8]) -> Report {
        let address = |number: &u8| GatewayAddresses {
            name: name(*number),
            east_west: format!("10.0.0.{number}:7445").parse().ok(),
            public: None,
            mesh: None,
        };
        let head = Report { boot: "b".into(), gateways: gateways.iter().map(address).collect(), ..Report::default() };
        telling.say(head.clone());
        let versions = |healthy: &u32| Arc::new(BTreeMap::from([(name(1), *healthy)]));
        let services: Services = services.iter().map(|(at, healthy)| (name(*at), versions(healthy))).collect();
        telling.services.refresh(None, || services.names().cloned(), |name| services.get(name).cloned());
        Report { sequence: telling.services.number(), services, ..head }
    }

    proptest! {
        #[test]
        fn changes_add_up_to_what_is_so_however_the_stream_is_cut(
            states in vec((btree_map(0..6u8, 0..4u32, 0..6), vec(0..4u8, 0..3), any::<bool>()), 1..6),
            cut in 1..40usize,
        ) {
            let (mut telling, mut stream, mut said, mut reports) = (Telling::after(3), Vec::new(), None, Vec::new());
            for (services, gateways, told) in &states {
                let report = say(&mut telling, services, gateways);
                if *told || said.is_none() {
                    let (number, line) = telling.line(said);
                    stream.extend(line);
                    said = Some(number);
                    reports.push(report);
                }
            }
            let mut lines = Lines::default();
            let heard: Vec<_> = stream.chunks(cut).filter_map(|part| lines.push(part).unwrap()).collect();
            prop_assert_eq!(heard.last(), reports.last());
            prop_assert!(heard.iter().all(|report| reports.contains(report)));
        }
    }

    #[test]
    fn each_is_told_what_is_new_to_it_and_an_older_release_all_of_it() {
        let (reports, news, shop) = (Reports::default(), News::default(), name(0));
        let place = Place { cluster: "north".parse().unwrap() };
        let (_publisher, plan) =
            config::live::channel(Arc::new(Plan::empty(Arc::new(compile(&World::default(), &place, None)))));
        let line = |draining, said, changes| {
            let listener = Listener { global_namespace: &shop, told: None, said, changes };
            reports.line((&plan, &news), listener, |_| Report { draining, ..Report::default() })
        };
        let (first, whole) = line(false, None, true);
        assert_eq!(
            [line(false, Some(first), true), line(false, Some(first), false)],
            [(); 2].map(|()| (first, BEAT_LINE))
        );
        let (second, change) = line(true, Some(first), true);
        assert!(second > first && change != whole && change.windows(7).any(|part| part == b"\"since\""));
        let (same, again) = line(true, Some(first), false);
        assert!(same == second && !again.windows(7).any(|part| part == b"\"since\""));
    }
}

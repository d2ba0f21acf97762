//! What this gateway tells DNS servers of its view: worked out once for each change, however many of them follow.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use config::live::Live;

use super::line::Line;
use super::{Gateways, Serving};
use crate::ledger::Ledger;
use crate::ndjson::BEAT_LINE;
use crate::news::{News, ServiceKey};
use crate::plan::Plan;
use crate::tunnel::pool::{PeerTable, Peers};

/// The view as it was looked at last, for all who follow it.
#[derive(Default)]
pub struct Views(Mutex<Telling>);

impl Views {
    /// The number of the view as it is now, and the line for who was told `said` last. Nothing new is a beat.
    pub fn line(
        &self,
        (plan, peers, news): (&Live<Plan>, &Peers, &News),
        draining: bool,
        said: Option<u64>,
    ) -> (u64, Bytes) {
        let mut telling = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let plan = plan.load();
        let (number, changed) = news.since(&plan, telling.news);
        telling.news = number;
        let table = peers.table();
        telling.look(draining, gateways(&table));
        let all = || keys(&plan);
        telling.services.refresh(changed, all, |key| serving(&plan, &table, key));
        telling.line(said)
    }
}

/// What is told.
struct Telling {
    /// Up to where the news are in it.
    news: u64,
    draining: bool,
    gateways: Gateways,
    /// When that changed last.
    gateways_at: u64,
    services: Ledger<ServiceKey, Serving>,
    /// The last line that was made: the view's number, and for whom it is.
    made: Option<(u64, Option<u64>, Bytes)>,
}

impl Default for Telling {
    fn default() -> Self {
        // The first view has a number too: 0 is what an older release says.
        let services = Ledger::after(1);
        Telling { news: 0, draining: false, gateways: Gateways::new(), gateways_at: 0, services, made: None }
    }
}

impl Telling {
    fn look(&mut self, draining: bool, gateways: Gateways) {
        let before = (self.draining, &self.gateways);
        if before != (draining, &gateways) {
            (self.draining, self.gateways, self.gateways_at) = (draining, gateways, self.services.step());
        }
    }

    fn line(&mut self, said: Option<u64>) -> (u64, Bytes) {
        let number = self.services.number();
        if said == Some(number) {
            return (number, BEAT_LINE);
        }
        if let Some((.., line)) = self.made.as_ref().filter(|(at, since, _)| (*at, *since) == (number, said)) {
            return (number, line.clone());
        }
        let line = said.and_then(|said| self.change(said)).unwrap_or_else(|| self.whole()).to_bytes();
        self.made = Some((number, said, line.clone()));
        (number, line)
    }

    fn whole(&self) -> Line {
        let mut line = self.head(None);
        line.gateways = Some(self.gateways.clone());
        self.services.all().for_each(|(key, serving)| line.tell(key, Some(serving)));
        line
    }

    fn change(&self, said: u64) -> Option<Line> {
        let mut line = self.head(Some(said));
        line.gateways = (self.gateways_at > said).then(|| self.gateways.clone());
        self.services.since(said)?.for_each(|(key, serving)| line.tell(key, serving));
        Some(line)
    }

    fn head(&self, since: Option<u64>) -> Line {
        Line { sequence: self.services.number(), since, draining: self.draining, ..Line::default() }
    }
}

fn keys(plan: &Plan) -> impl Iterator<Item = ServiceKey> {
    let of = |(gns, services): (&_, &BTreeMap<_, _>)| {
        services.keys().map(move |name| (Clone::clone(gns), Clone::clone(name))).collect::<Vec<_>>()
    };
    plan.services.iter().flat_map(of)
}

/// The gateways of other clusters: live if they are in any GNS.
pub(crate) fn gateways(table: &PeerTable) -> Gateways {
    let mut gateways = Gateways::new();
    for peer in table.all() {
        let of_cluster = gateways.entry(peer.key.cluster.clone()).or_default();
        *of_cluster.entry(peer.key.gateway.clone()).or_default() |= peer.is_live();
    }
    gateways
}

fn serving(plan: &Plan, table: &PeerTable, (gns, name): &ServiceKey) -> Option<Serving> {
    let planned = plan.services.get(gns)?.get(name)?;
    let here = planned.ports.values().next().is_some_and(|port| port.all.healthy() > 0);
    let mut serving = BTreeMap::from([(plan.snapshot.place.cluster.clone(), here)]);
    for (cluster, peers) in table.of(gns, None).into_iter().flatten() {
        serving.insert(cluster.clone(), peers.iter().any(|peer| peer.healthy(name, None) > 0));
    }
    Some(Arc::new(serving))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use config::resource::Name;
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    use super::super::{Lines, Seen, View};
    use super::*;

    type World = (bool, BTreeMap<u8, bool>, BTreeMap<u8, BTreeMap<u8, bool>>);

    fn name(number: u8) -> Name {
        format!("n{number}").parse().unwrap()
    }

    fn show(telling: &mut Telling, (draining, gateways, services): &World) {
        let gateways = gateways.iter().map(|(at, live)| (name(*at), BTreeMap::from([(name(0), *live)]))).collect();
        telling.look(*draining, gateways);
        let key = |at: &u8| (name(at % 2), name(*at));
        let of = |(_, service): &ServiceKey| {
            let (_, clusters) = services.iter().find(|(at, _)| name(**at) == *service)?;
            Some(Arc::new(clusters.iter().map(|(at, any)| (name(*at), *any)).collect()))
        };
        telling.services.refresh(None, || services.keys().map(key), of);
    }

    fn world() -> impl Strategy<Value = World> {
        let clusters = btree_map(0..3u8, any::<bool>(), 1..3);
        (any::<bool>(), btree_map(0..3u8, any::<bool>(), 0..3), btree_map(0..6u8, clusters, 0..5))
    }

    fn take(seen: &mut Seen, lines: &[Bytes]) {
        let stream: Vec<u8> = lines.iter().flatten().copied().collect();
        Lines::default().push(&stream).unwrap().into_iter().for_each(|line| drop(seen.take(line).unwrap()));
    }

    proptest! {
        #[test]
        fn changes_add_up_to_the_whole_view(worlds in vec((world(), any::<bool>()), 1..8)) {
            let (mut telling, mut seen, mut said) = (Telling::default(), Seen::default(), None);
            for (world, told) in &worlds {
                show(&mut telling, world);
                if *told {
                    let (number, line) = telling.line(said);
                    said = Some(number);
                    take(&mut seen, &[line]);
                    let mut fresh = Seen::default();
                    take(&mut fresh, &[telling.line(None).1]);
                    prop_assert_eq!(&seen, &fresh);
                    prop_assert_eq!((seen.draining, seen.services.len()), (world.0, world.2.len()));
                    prop_assert_eq!(telling.line(said), (number, BEAT_LINE));
                }
            }
        }
    }

    #[test]
    fn an_older_release_at_either_end_is_understood() {
        let mut telling = Telling::default();
        show(&mut telling, &(true, [(1, true)].into(), [(2, [(1, true), (2, false)].into())].into()));
        let line = telling.line(None).1;
        let read: View = serde_json::from_slice(&line).unwrap();
        assert!(read.draining && read.gateways[&name(1)][&name(0)]);
        assert_eq!(read.services[&name(0)][&name(2)], [(name(1), 1), (name(2), 0)].into());
        let (mut old, mut new) = (Seen::default(), Seen::default());
        let view = crate::ndjson::line(&read).unwrap();
        take(&mut new, &[line]);
        take(&mut old, &[view.clone(), BEAT_LINE, view]);
        assert_eq!((old.draining, &old.gateways, &old.services), (new.draining, &new.gateways, &new.services));
    }

    #[test]
    fn a_change_of_what_was_never_said_is_an_error() {
        let mut telling = Telling::default();
        show(&mut telling, &World::default());
        let (number, _) = telling.line(None);
        show(&mut telling, &(true, BTreeMap::new(), BTreeMap::new()));
        let line = Lines::default().push(&telling.line(Some(number)).1).unwrap().remove(0);
        assert!(Seen::default().take(line).is_err());
    }
}

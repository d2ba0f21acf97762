//! What a DNS server believes of health: the views of all its cluster's gateways, joined. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use config::resource::Name;
use dns::{GatewayState, Health, Serving};
use gateway::news::ServiceKey;
use gateway::view::{Line, Seen, SeenError};

/// What each gateway said, and what follows from it. One gateway that sees a peer live, or a healthy instance, is enough.
pub(super) struct Joined {
    own: Name,
    /// The cluster's gateways that are listened to: nothing before the first word of one, or while one is silent.
    seen: BTreeMap<Name, Listened>,
    health: Health,
}

/// What is known of a gateway.
enum Listened {
    /// Nothing yet.
    Expected,
    Heard(Seen),
    Silent,
}

impl Listened {
    fn seen(&self) -> Option<&Seen> {
        match self {
            Listened::Heard(seen) => Some(seen),
            Listened::Expected | Listened::Silent => None,
        }
    }

    fn services(&self) -> BTreeSet<ServiceKey> {
        self.seen().map(|seen| seen.services.keys().cloned().collect()).unwrap_or_default()
    }
}

impl Joined {
    /// Of the gateways of this cluster; nobody has said anything.
    pub(super) fn new(own: Name) -> Self {
        Joined { own, seen: BTreeMap::new(), health: Health::default() }
    }

    /// What follows from all that was said.
    pub(super) fn health(&self) -> &Health {
        &self.health
    }

    /// From now on this gateway is listened to.
    pub(super) fn expect(&mut self, gateway: &Name) {
        self.seen.insert(gateway.clone(), Listened::Expected);
    }

    /// It said something. Returns whether anything follows from it.
    ///
    /// # Errors
    /// When that doesn't add up with what it said before.
    pub(super) fn heard(&mut self, gateway: &Name, line: Line) -> Result<bool, SeenError> {
        let Some(listened) = self.seen.get_mut(gateway) else { return Ok(false) };
        let (mut seen, first) = match std::mem::replace(listened, Listened::Expected) {
            Listened::Heard(seen) => (seen, false),
            Listened::Expected | Listened::Silent => (Seen::default(), true),
        };
        let taken = seen.take(line);
        *listened = Listened::Heard(seen);
        let changed = taken?;
        Ok(self.join(first || changed.gateways, &changed.services))
    }

    /// Nothing is heard of it. Returns whether anything follows from that.
    pub(super) fn silent(&mut self, gateway: &Name) -> bool {
        let Some(listened) = self.seen.get_mut(gateway) else { return false };
        let before = std::mem::replace(listened, Listened::Silent);
        self.join(true, &before.services())
    }

    /// It is listened to no longer. Returns whether anything follows from that.
    pub(super) fn forget(&mut self, gateway: &Name) -> bool {
        let Some(before) = self.seen.remove(gateway) else { return false };
        self.join(true, &before.services())
    }

    fn join(&mut self, gateways: bool, services: &BTreeSet<ServiceKey>) -> bool {
        let mut news = false;
        if gateways {
            let joined = self.gateways();
            news = joined != self.health.gateways;
            self.health.gateways = joined;
        }
        for key in services {
            let serving = self.serving(key);
            news |= self.health.set_service(&key.0, &key.1, serving);
        }
        news
    }

    fn gateways(&self) -> BTreeMap<Name, BTreeMap<Name, GatewayState>> {
        let mut joined: BTreeMap<Name, BTreeMap<Name, GatewayState>> = BTreeMap::new();
        for (name, listened) in &self.seen {
            let state = match listened {
                Listened::Expected => continue,
                Listened::Heard(seen) => GatewayState { live: true, draining: seen.draining },
                Listened::Silent => GatewayState { live: false, draining: false },
            };
            joined.entry(self.own.clone()).or_default().insert(name.clone(), state);
        }
        let others = self.seen.values().filter_map(Listened::seen).flat_map(|seen| &seen.gateways);
        for (cluster, gateways) in others {
            let known = joined.entry(cluster.clone()).or_default();
            for (gateway, live) in gateways {
                known.entry(gateway.clone()).or_insert(GatewayState { live: false, draining: false }).live |= live;
            }
        }
        joined
    }

    fn serving(&self, key: &ServiceKey) -> Option<Serving> {
        let mut said = self.seen.values().filter_map(|listened| listened.seen()?.services.get(key));
        let first = said.next()?;
        let mut joined = first.clone();
        for other in said.filter(|other| *other != first) {
            let joined = Arc::make_mut(&mut joined);
            other.iter().for_each(|(cluster, any)| *joined.entry(cluster.clone()).or_default() |= any);
        }
        Some(joined)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use gateway::view::{Lines, View};
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    use super::*;

    fn name(number: u8) -> Name {
        format!("n{number}").parse().unwrap()
    }

    fn names<V, W>(values: &BTreeMap<u8, V>, value: impl Fn(&V) -> W) -> BTreeMap<Name, W> {
        values.iter().map(|(at, inner)| (name(*at), value(inner))).collect()
    }

    #[derive(Debug, Clone)]
    enum Step {
        Says(u8, BTreeMap<u8, bool>, BTreeMap<u8, BTreeMap<u8, u32>>),
        Falls(u8),
        Goes(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        let services = btree_map(0..4u8, btree_map(0..3u8, 0..3u32, 1..3), 0..4);
        prop_oneof![
            4 => (0..3u8, btree_map(0..3u8, any::<bool>(), 0..3), services).prop_map(|(at, g, s)| Step::Says(at, g, s)),
            1 => (0..3u8).prop_map(Step::Falls),
            1 => (0..3u8).prop_map(Step::Goes),
        ]
    }

    fn view(gateways: &BTreeMap<u8, bool>, services: &BTreeMap<u8, BTreeMap<u8, u32>>) -> View {
        View {
            draining: gateways.len() == 2,
            gateways: [(name(9), names(gateways, |live| *live))].into(),
            services: [(name(8), names(services, |clusters| names(clusters, |healthy| *healthy)))].into(),
        }
    }

    fn line(view: &View) -> Line {
        Lines::default().push(&gateway::ndjson::line(view).unwrap()).unwrap().remove(0)
    }

    /// The rule, over all that was said.
    fn all(said: &BTreeMap<u8, Option<View>>) -> Health {
        let mut health = Health::default();
        let mut serving: BTreeMap<Name, BTreeMap<Name, bool>> = BTreeMap::new();
        for (at, view) in said {
            let state =
                GatewayState { live: view.is_some(), draining: view.as_ref().is_some_and(|view| view.draining) };
            health.gateways.entry(name(7)).or_default().insert(name(*at), state);
        }
        for view in said.values().flatten() {
            for (gateway, live) in &view.gateways[&name(9)] {
                let known = health.gateways.entry(name(9)).or_default();
                known.entry(gateway.clone()).or_insert(GatewayState { live: false, draining: false }).live |= live;
            }
            for (service, clusters) in &view.services[&name(8)] {
                let known = serving.entry(service.clone()).or_default();
                clusters.iter().for_each(|(cluster, n)| *known.entry(cluster.clone()).or_default() |= *n > 0);
            }
        }
        for (service, serving) in serving {
            health.set_service(&name(8), &service, Some(Arc::new(serving)));
        }
        health.gateways.retain(|_, gateways| !gateways.is_empty());
        health
    }

    proptest! {
        #[test]
        fn to_join_by_steps_is_to_join_all(steps in vec(step(), 1..12)) {
            let (mut joined, mut said) = (Joined::new(name(7)), BTreeMap::new());
            (0..3).for_each(|at| joined.expect(&name(at)));
            for step in steps {
                let before = joined.health().clone();
                let news = match step {
                    Step::Says(at, gateways, services) => {
                        let view = view(&gateways, &services);
                        let news = joined.heard(&name(at), line(&view)).unwrap();
                        said.insert(at, Some(view));
                        news
                    }
                    Step::Falls(at) => {
                        said.insert(at, None);
                        joined.silent(&name(at))
                    }
                    Step::Goes(at) => {
                        said.remove(&at);
                        let news = joined.forget(&name(at));
                        joined.expect(&name(at));
                        news
                    }
                };
                let mut now = joined.health().clone();
                prop_assert_eq!(news, now != before, "what is new is told, and nothing else");
                now.gateways.retain(|_, gateways| !gateways.is_empty());
                prop_assert_eq!(now, all(&said));
            }
        }
    }

    #[test]
    fn who_is_not_listened_to_any_more_says_nothing() {
        let mut joined = Joined::new(name(7));
        joined.expect(&name(1));
        joined.forget(&name(1));
        assert_eq!(joined.heard(&name(1), line(&View::default())), Ok(false));
        assert!(!joined.silent(&name(1)) && *joined.health() == Health::default());
    }
}

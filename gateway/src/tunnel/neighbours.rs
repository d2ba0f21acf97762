//! Where the gateways of other clusters are, as those of them that are reached say. So a gateway that its agent admitted,
//! or that moved, while the controller was away is found all the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use config::resource::{Address, GatewayAddresses, Name};
use config::snapshot::Snapshot;

use super::pool::PeerKey;
use super::report::{MAX_GATEWAYS, Report};

/// A cluster, in the GNS in which its gateways speak of it.
type Cluster = (Name, Name);

/// What was said.
#[derive(Default)]
pub struct Neighbours {
    said: BTreeMap<Cluster, BTreeMap<Name, Address>>,
}

impl Neighbours {
    /// Takes in what the peers say that are connected. Of a cluster of which none is, what was said last still counts:
    /// silence is no evidence.
    pub fn listen<'p>(&mut self, snapshot: &Snapshot, connected: impl Iterator<Item = (&'p PeerKey, Arc<Report>)>) {
        let knows =
            |(gns, cluster): &Cluster| snapshot.namespaces.get(gns).is_some_and(|gns| gns.labels.contains_key(cluster));
        self.said.retain(|cluster, _| knows(cluster));
        let mut heard: BTreeMap<Cluster, BTreeMap<Name, Address>> = BTreeMap::new();
        for (peer, said) in connected {
            // Where one gateway should be another may answer.
            let who = said.gateway.as_ref().unwrap_or(&peer.gateway);
            let known = heard.entry((peer.global_namespace.clone(), peer.cluster.clone())).or_default();
            for GatewayAddresses { name, east_west, .. } in said.gateways.iter() {
                let Some(address) = east_west else { continue };
                // Each peer names at most so many: those of one cluster together do not, either.
                if known.len() >= MAX_GATEWAYS && !known.contains_key(name) {
                    continue;
                }
                match name == who {
                    // Of itself it knows best.
                    true => drop(known.insert(name.clone(), address.clone())),
                    false => drop(known.entry(name.clone()).or_insert_with(|| address.clone())),
                }
            }
        }
        // One of an older release says nothing of any: no evidence either.
        self.said.extend(heard.into_iter().filter(|(_, gateways)| !gateways.is_empty()));
    }

    /// The gateways of a cluster, and where they are dialled, and where else. What its own gateways say is newer than what
    /// came by the controller, unless their agent is away: then the other address is tried, too.
    pub fn places<'a>(
        &'a self,
        snapshot: &'a Snapshot,
        gns: &Name,
        cluster: &Name,
    ) -> BTreeMap<&'a Name, (&'a Address, Option<&'a Address>)> {
        let known = snapshot.gateways.get(cluster).into_iter().flat_map(|gateways| gateways.iter());
        let known = known.filter_map(|gateway| Some((&gateway.name, (gateway.east_west.as_ref()?, None))));
        let mut places: BTreeMap<_, _> = known.collect();
        for (gateway, address) in self.said.get(&(gns.clone(), cluster.clone())).into_iter().flatten() {
            let place = places.entry(gateway).or_insert((address, None));
            if place.0 != address {
                *place = (address, Some(place.0));
            }
        }
        places
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use config::compile::compile;
    use config::snapshot::Place;
    use config::world::{Fact, World};
    use serde_json::json;

    use super::*;

    fn addresses(gateways: &[(&str, &str)]) -> Vec<GatewayAddresses> {
        let address = |(name, at): &(&str, &str)| GatewayAddresses {
            name: name.parse().unwrap(),
            east_west: format!("{at}:7445").parse().ok(),
            public: None,
            mesh: None,
        };
        gateways.iter().map(address).collect()
    }

    fn said(by: Option<&str>, gateways: Vec<GatewayAddresses>) -> Arc<Report> {
        let gateway = by.map(|name| name.parse().unwrap());
        Arc::new(Report { gateway, gateways: gateways.into(), ..Report::default() })
    }

    /// North's snapshot, with the gateways of south as the controller told of them.
    fn snapshot(south: &[(&str, &str)]) -> Snapshot {
        let rows = json!([{"cluster": {"prefix": ""}, "namespace": {"exact": "shop"}}]);
        let spec = json!({"GlobalNamespace": {"domain": "shop.internal", "members": rows}});
        let labels = json!({"north": "n.invalid", "south": "s.invalid"});
        let facts = [
            json!({"resource": {"id": "Cluster/north", "spec": {"Cluster": {}}}}),
            json!({"resource": {"id": "Cluster/south", "spec": {"Cluster": {}}}}),
            json!({"resource": {"id": "GlobalNamespace/shop", "spec": spec}}),
            json!({"trust": {"globalNamespace": "shop", "trustDomain": "shop.m", "roots": [], "labels": labels}}),
            json!({"gateways": {"cluster": "south", "gateways": addresses(south)}}),
        ];
        let facts = facts.map(|fact| serde_json::from_value::<Fact>(fact).unwrap());
        let facts = facts.into_iter().map(|fact| (fact.key().to_string(), fact)).collect();
        compile(&World { facts, ..World::default() }, &Place { cluster: "north".parse().unwrap() }, None)
    }

    fn south(gateway: &str) -> PeerKey {
        let [global_namespace, cluster, gateway] = ["shop", "south", gateway].map(|name| name.parse().unwrap());
        PeerKey { global_namespace, from: None, cluster, gateway }
    }

    /// Where each gateway of south is dialled, and where else.
    fn places(neighbours: &Neighbours, snapshot: &Snapshot) -> Vec<String> {
        let places = neighbours.places(snapshot, &"shop".parse().unwrap(), &"south".parse().unwrap());
        let text = |(name, (at, or_else)): (&Name, (&Address, Option<&Address>))| {
            let or_else = or_else.map(Address::to_string).unwrap_or_default();
            format!("{name} {at} {or_else}").replace(":7445", "")
        };
        places.into_iter().map(|place| text(place).trim().to_owned()).collect()
    }

    #[test]
    fn what_peers_say_adds_to_what_the_controller_said() {
        let (snapshot, mut neighbours) = (snapshot(&[("a", "10.0.0.1"), ("b", "10.0.0.2")]), Neighbours::default());
        assert_eq!(places(&neighbours, &snapshot), ["a 10.0.0.1", "b 10.0.0.2"]);
        let (a, c) = (south("a"), south("c"));
        let of_a = addresses(&[("a", "10.0.0.1"), ("b", "10.0.0.9"), ("c", "10.0.0.3")]);
        neighbours.listen(&snapshot, [(&a, said(None, of_a.clone()))].into_iter());
        assert_eq!(places(&neighbours, &snapshot), ["a 10.0.0.1", "b 10.0.0.9 10.0.0.2", "c 10.0.0.3"]);
        // Of itself each knows best, whoever is heard first.
        let of_c = addresses(&[("a", "10.0.0.8"), ("c", "10.0.0.4")]);
        neighbours.listen(&snapshot, [(&a, said(None, of_a)), (&c, said(None, of_c))].into_iter());
        assert_eq!(places(&neighbours, &snapshot), ["a 10.0.0.1", "b 10.0.0.9 10.0.0.2", "c 10.0.0.4"]);
    }

    #[test]
    fn whoever_answers_in_the_place_of_another_speaks_for_itself_only() {
        let (snapshot, mut neighbours) = (snapshot(&[("a", "10.0.0.2"), ("b", "10.0.0.2")]), Neighbours::default());
        let (at_a, of_c) = (south("a"), south("c"));
        // Where a should be b answers: what it says of a counts no more than what the others say.
        let by_c = addresses(&[("a", "10.0.0.1"), ("b", "10.0.0.8"), ("c", "10.0.0.3")]);
        let by_b = addresses(&[("a", "10.0.0.9"), ("b", "10.0.0.2")]);
        let said = [(&of_c, said(Some("c"), by_c)), (&at_a, said(Some("b"), by_b))];
        neighbours.listen(&snapshot, said.into_iter());
        assert_eq!(places(&neighbours, &snapshot), ["a 10.0.0.1 10.0.0.2", "b 10.0.0.2", "c 10.0.0.3"]);
    }

    #[test]
    fn silence_takes_nothing_away_and_word_does() {
        let (snapshot, mut neighbours, a) = (snapshot(&[("a", "10.0.0.1")]), Neighbours::default(), south("a"));
        let both = addresses(&[("a", "10.0.0.1"), ("c", "10.0.0.3")]);
        neighbours.listen(&snapshot, [(&a, said(None, both))].into_iter());
        neighbours.listen(&snapshot, [].into_iter());
        neighbours.listen(&snapshot, [(&a, said(None, addresses(&[])))].into_iter());
        assert_eq!(places(&neighbours, &snapshot), ["a 10.0.0.1", "c 10.0.0.3"]);
        neighbours.listen(&snapshot, [(&a, said(None, addresses(&[("a", "10.0.0.1")])))].into_iter());
        assert_eq!(places(&neighbours, &snapshot), ["a 10.0.0.1"]);
    }

    #[test]
    fn of_clusters_that_are_no_members_nothing_is_kept() {
        let (snapshot, mut neighbours, a) = (snapshot(&[]), Neighbours::default(), south("a"));
        neighbours.listen(&snapshot, [(&a, said(None, addresses(&[("a", "10.0.0.1")])))].into_iter());
        assert_eq!(places(&neighbours, &snapshot), ["a 10.0.0.1"]);
        let alone = compile(&World::default(), &Place { cluster: "north".parse().unwrap() }, None);
        neighbours.listen(&alone, [].into_iter());
        assert!(neighbours.said.is_empty());
    }
}

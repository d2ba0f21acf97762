//! Where the gateways of other clusters are, as those of them that are reached say. So a gateway that its agent admitted,
//! or that moved, while the controller was away is found all the same.

use std::collections::BTreeMap;

use config::resource::{Address, Name};
use config::snapshot::Snapshot;

use super::pool::Peer;

/// A cluster, in the GNS in which its gateways speak of it.
type Cluster = (Name, Name);

/// What was said.
#[derive(Default)]
pub struct Neighbours {
    said: BTreeMap<Cluster, BTreeMap<Name, Address>>,
}

impl Neighbours {
    /// Takes in what peers say. Of a cluster of which none is connected what was said last still counts: silence is no
    /// evidence.
    pub fn listen<'p>(&mut self, snapshot: &Snapshot, peers: impl Iterator<Item = &'p Peer>) {
        let knows =
            |(gns, cluster): &Cluster| snapshot.namespaces.get(gns).is_some_and(|gns| gns.labels.contains_key(cluster));
        self.said.retain(|cluster, _| knows(cluster));
        let mut heard: BTreeMap<Cluster, BTreeMap<Name, Address>> = BTreeMap::new();
        for peer in peers.filter(|peer| peer.is_connected()) {
            let of = (peer.key.global_namespace.clone(), peer.key.cluster.clone());
            let known = heard.entry(of).or_default();
            for neighbour in peer.neighbours().iter() {
                let Some(address) = &neighbour.east_west else { continue };
                match neighbour.name == peer.key.gateway {
                    // Of itself it knows best.
                    true => drop(known.insert(neighbour.name.clone(), address.clone())),
                    false => drop(known.entry(neighbour.name.clone()).or_insert_with(|| address.clone())),
                }
            }
        }
        // One of an older release says nothing of any: no evidence either.
        self.said.extend(heard.into_iter().filter(|(_, gateways)| !gateways.is_empty()));
    }

    /// The gateways of a cluster of which one was told in the GNS.
    pub fn of(&self, gns: &Name, cluster: &Name) -> impl Iterator<Item = (&Name, &Address)> {
        self.said.get(&(gns.clone(), cluster.clone())).into_iter().flatten()
    }
}

//! The world: the set of facts known at one place, and the one way in which it changes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::keyed::Keyed;
use crate::resource::{GatewayAddresses, Host, Name, Port, Resource, ResourceId, SecretRef};
use crate::revoked::Revoked;
use crate::wire::{Entries, Entry, Json, Order, Rejection, RevisionPair, Update};

/// One thing known: what people wrote, what an agent saw, or what the controller made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Fact {
    /// A resource: desired, or a service of one's own cluster.
    Resource(Arc<Resource>),
    /// What other clusters are told of a service: not where its instances are.
    Remote(Arc<RemoteService>),
    /// Where a cluster's gateways are reached, as they themselves say.
    Gateways(Arc<ClusterGateways>),
    /// The identity of a GNS.
    Trust(Arc<GlobalNamespaceTrust>),
    /// The identity of the mesh itself: for agents only.
    Mesh(Arc<MeshTrust>),
    /// A certificate that the controller made for the hosts of a public service.
    HostCertificate(Arc<HostCertificate>),
}

/// A service of another cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RemoteService {
    /// Where it runs.
    pub cluster: Name,
    /// In which namespace of that cluster.
    pub namespace: Name,
    /// Its name.
    pub name: Name,
    /// Its ports.
    pub ports: Vec<Port>,
    /// Its versions, each with how many instances it has, sick or well.
    pub versions: BTreeMap<Name, u32>,
}

impl RemoteService {
    /// What the fact about it is about.
    pub fn key(&self) -> Key {
        Key::Remote { cluster: self.cluster.clone(), namespace: self.namespace.clone(), name: self.name.clone() }
    }
}

/// A cluster's gateways.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterGateways {
    /// The cluster.
    pub cluster: Name,
    /// Its gateways.
    pub gateways: Vec<GatewayAddresses>,
}

/// Whom to believe in a GNS.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GlobalNamespaceTrust {
    /// The GNS.
    pub global_namespace: Name,
    /// Its SPIFFE trust domain.
    pub trust_domain: String,
    /// The certificates of its CA in PEM: one, or two while it is being replaced.
    pub roots: Vec<String>,
    /// Its member clusters, each with the opaque name that its gateways bear in this GNS.
    pub labels: BTreeMap<Name, Host>,
    /// Who of them is not believed any more.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub revoked: BTreeSet<Revoked>,
    /// Which certificates are to be held, by cluster.
    #[serde(default)]
    pub orders: BTreeMap<Name, Order>,
}

impl GlobalNamespaceTrust {
    /// Which certificates are to be held in a cluster.
    pub fn order(&self, cluster: &Name) -> Order {
        self.orders.get(cluster).cloned().unwrap_or_default()
    }
}

/// Whom agents believe, and which certificate one of them is to hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MeshTrust {
    /// The certificates of the top-level CA in PEM: one, or two while it is being replaced.
    pub roots: Vec<String>,
    /// What the agent that reads this is to hold.
    pub order: Order,
}

impl MeshTrust {
    /// The key of the one fact of this kind.
    pub const KEY: &str = "mesh";
}

/// A certificate made for the hosts of a public service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostCertificate {
    /// The public service's GNS.
    pub global_namespace: Name,
    /// The public service.
    pub public_service: Name,
    /// The chain in PEM, the host's own first. Shared by all who need it: there may be thousands.
    pub chain: Arc<str>,
    /// Where its key is.
    pub secret_ref: SecretRef,
}

/// What a fact is about. Two facts with equal keys are one fact, of which the later counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)] // as in `Fact`
pub enum Key {
    Resource(ResourceId),
    Remote { cluster: Name, namespace: Name, name: Name },
    Gateways(Name),
    Trust(Name),
    Mesh,
    HostCertificate { global_namespace: Name, public_service: Name },
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Resource(id) => write!(f, "{id}"),
            Key::Remote { cluster, namespace, name } => write!(f, "remote/{cluster}/{namespace}/{name}"),
            Key::Gateways(cluster) => write!(f, "gateways/{cluster}"),
            Key::Trust(gns) => write!(f, "trust/{gns}"),
            Key::Mesh => f.write_str(MeshTrust::KEY),
            Key::HostCertificate { global_namespace, public_service } => {
                write!(f, "hostCertificate/{global_namespace}/{public_service}")
            }
        }
    }
}

impl Fact {
    /// What it is about.
    pub fn key(&self) -> Key {
        match self {
            Fact::Resource(resource) => Key::Resource(resource.id.clone()),
            Fact::Remote(remote) => remote.key(),
            Fact::Gateways(gateways) => Key::Gateways(gateways.cluster.clone()),
            Fact::Trust(trust) => Key::Trust(trust.global_namespace.clone()),
            Fact::Mesh(_) => Key::Mesh,
            Fact::HostCertificate(certificate) => Key::HostCertificate {
                global_namespace: certificate.global_namespace.clone(),
                public_service: certificate.public_service.clone(),
            },
        }
    }

    /// Reads what travels, whatever it says that it needs: whether that is there is asked by [`lacking`].
    fn read(value: &Json) -> Result<Self, serde_json::Error> {
        if !value.as_str().contains(NEEDS) {
            return value.read();
        }
        let mut tree = value.read::<serde_json::Value>()?;
        if let Some(fields) = tree.as_object_mut() {
            fields.remove(NEEDS);
        }
        serde_json::from_value(tree)
    }

    /// As it travels.
    pub fn entry(&self) -> Result<(String, Json), serde_json::Error> {
        Ok((self.key().to_string(), Json::of(self)?))
    }
}

/// The set of facts known at one place.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct World {
    /// How new it is.
    pub revision: RevisionPair,
    /// What is known, by the text of its key. Cheap to clone.
    pub facts: Keyed<Fact>,
}

impl World {
    /// Takes a whole step (the parts of an update already joined). An entry that cannot be read takes away what its
    /// key meant before, so that nothing is served that nobody wants, touches nothing else, and is returned.
    pub fn apply(&mut self, update: &Update) -> Vec<Rejection> {
        if update.reset {
            self.facts.clear();
        }
        for folder in &update.replaces {
            self.facts.remove_folder(folder);
        }
        self.revision = update.revision;
        update.entries.iter().filter_map(|entry| self.apply_entry(entry).err()).collect()
    }

    fn apply_entry(&mut self, entry: &Entry) -> Result<(), Rejection> {
        self.facts.remove(&entry.key);
        let Some(value) = &entry.value else { return Ok(()) };
        let reject = |reason: String| Rejection { key: entry.key.clone(), reason };
        let fact = Fact::read(value).map_err(|e| reject(e.to_string()))?;
        if fact.key().to_string() != entry.key {
            return Err(reject(format!("the entry says that it is {}", fact.key())));
        }
        self.facts.insert(&*entry.key, fact);
        Ok(())
    }

    /// Every resource.
    pub fn resources(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.facts.values().filter_map(|fact| match fact {
            Fact::Resource(resource) => Some(resource),
            _ => None,
        })
    }

    /// The resource of that identity.
    pub fn resource(&self, id: &ResourceId) -> Option<&Arc<Resource>> {
        match self.facts.get(&id.to_string()) {
            Some(Fact::Resource(resource)) => Some(resource),
            _ => None,
        }
    }
}

/// The field of a value by which it says what its meaning needs: a list of features, beside the fact itself.
const NEEDS: &str = "needs";
/// What this release understands beyond the facts above. A later release that gives a resource a meaning which an older
/// data plane would get wrong names it here, and in the resources that have that meaning.
const UNDERSTOOD: [&str; 0] = [];

/// The features that the entry's meaning needs, and this release doesn't have.
pub fn lacking(value: &Json) -> Vec<String> {
    if !value.as_str().contains(NEEDS) {
        return Vec::new(); // nearly all: they needn't be read
    }
    let read = value.read::<serde_json::Value>().unwrap_or_default();
    let needs = read.get(NEEDS).and_then(serde_json::Value::as_array).into_iter().flatten();
    let needs = needs.map(|need| need.as_str().map_or_else(|| need.to_string(), str::to_owned));
    needs.filter(|need| !UNDERSTOOD.contains(&need.as_str())).collect()
}

/// The steps from one set of entries to another: the one diff, for every stream.
pub fn diff(old: &Entries, new: &Entries) -> Vec<Entry> {
    changes(old, new).collect()
}

/// The same one after another, so that they need not all be there at once.
pub fn changes<'e>(old: &'e Entries, new: &'e Entries) -> impl Iterator<Item = Entry> + 'e {
    Entries::changes(old, new, Json::eq).map(|(key, value)| Entry { key: key.to_string(), value: value.cloned() })
}

/// Takes a whole step on unread entries: `replaces` names the folders of which nothing stays.
pub fn patch(entries: &mut Entries, reset: bool, replaces: &[String], changes: Vec<Entry>) {
    if reset {
        entries.clear();
    }
    for folder in replaces {
        entries.remove_folder(folder);
    }
    for Entry { key, value } in changes {
        match value {
            Some(value) => entries.insert(key, value),
            None => entries.remove(&key),
        };
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::collection::btree_map;
    use proptest::prelude::*;
    use serde_json::json;

    proptest! {
        #[test]
        fn a_diff_leads_from_one_to_the_other(
            old in btree_map("[a-d]", 0..3u8, 0..4),
            new in btree_map("[a-d]", 0..3u8, 0..4),
        ) {
            let entries = |map: &BTreeMap<String, u8>| map.iter().map(|(k, v)| (&**k, json!(v).into())).collect();
            let (mut old, new): (Entries, Entries) = (entries(&old), entries(&new));
            let steps = diff(&old, &new);
            patch(&mut old, false, &[], steps);
            prop_assert_eq!(&old, &new);
            prop_assert!(diff(&old, &new).is_empty());
        }
    }

    #[test]
    fn an_unreadable_entry_harms_only_its_own_scope() {
        let cluster = json!({"resource": {"id": "Cluster/north", "spec": {"Cluster": {}}}});
        let entry = |key: &str, value| Entry { key: key.into(), value: Some(Json::from(value)) };
        let update =
            |entries| Update { revision: RevisionPair::default(), reset: false, replaces: vec![], last: true, entries };
        let mut world = World::default();
        let rejected = world.apply(&update(vec![
            entry("Cluster/north", cluster.clone()),
            entry("Cluster/south", json!({"resource": 5})),
            entry("Cluster/west", cluster),
        ]));
        assert_eq!(world.facts.keys().collect::<Vec<_>>(), ["Cluster/north"]);
        assert_eq!(rejected.iter().map(|r| r.key.as_str()).collect::<Vec<_>>(), ["Cluster/south", "Cluster/west"]);
        assert!(world.resource(&"Cluster/north".parse().unwrap()).is_some());
    }
}

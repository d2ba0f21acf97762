//! What an agent sees in its cluster: kept as it was last good, whoever is away, and across restarts.

use std::collections::BTreeMap;
use std::sync::Arc;

use config::resource::{Name, Resource, ResourceId};
use config::wire::{AgentSequence, Entries, Entry, Json, Observed};
use config::world::{Fact, Key};

use crate::sync::Refusal;

/// So many entries may one agent report.
const MAX_ENTRIES: usize = 100_000;
/// So many bytes of JSON may they have together.
const MAX_BYTES: usize = 256 * 1024 * 1024;

/// An entry of an agent.
#[derive(Debug, Clone)]
struct Seen {
    /// As it came, perhaps from a newer version.
    value: Json,
    fact: Fact,
    /// In bytes of JSON.
    length: usize,
}

/// What the agent of one cluster sees.
#[derive(Debug, Clone)]
pub(crate) struct Observation {
    cluster: Name,
    at: AgentSequence,
    seen: BTreeMap<String, Seen>,
    bytes: usize,
}

impl Observation {
    /// Nothing seen yet.
    pub(crate) fn new(cluster: Name) -> Self {
        Observation { cluster, at: AgentSequence::default(), seen: BTreeMap::new(), bytes: 0 }
    }

    /// What was seen at `at`, as [`Self::entries`] gave it.
    pub(crate) fn restore(cluster: Name, at: AgentSequence, entries: Entries) -> Self {
        let mut observation = Observation::new(cluster);
        observation.at = at;
        for (key, value) in entries {
            observation.take(Entry { key, value: Some(value) });
        }
        observation
    }

    /// Takes a whole step. An entry about anything but the agent's own cluster is refused and named in the log.
    ///
    /// # Errors
    /// When the agent reports more than is kept of one cluster.
    pub(crate) fn apply(&mut self, step: Observed) -> Result<(), Refusal> {
        if step.reset {
            self.seen.clear();
            self.bytes = 0;
        }
        self.at = step.at;
        step.entries.into_iter().for_each(|entry| self.take(entry));
        if self.seen.len() > MAX_ENTRIES || self.bytes > MAX_BYTES {
            return Err(Refusal(format!(
                "the cluster {} reports {} entries with {} bytes, more than the {MAX_ENTRIES} and {MAX_BYTES} that are kept",
                self.cluster,
                self.seen.len(),
                self.bytes
            )));
        }
        Ok(())
    }

    fn take(&mut self, Entry { key, value }: Entry) {
        if let Some(old) = self.seen.remove(&key) {
            self.bytes -= old.length;
        }
        let Some(value) = value else { return };
        match own_fact(&self.cluster, &key, &value) {
            Ok(fact) => {
                let length = serde_json::to_vec(&value).map_or(0, |json| json.len()) + key.len();
                self.bytes += length;
                self.seen.insert(key, Seen { value, fact, length });
            }
            Err(reason) => tracing::warn!(cluster = %self.cluster, key, reason, "refused what an agent reports"),
        }
    }

    /// Whose agent it is.
    pub(crate) fn cluster(&self) -> &Name {
        &self.cluster
    }

    /// How far the agent is.
    pub(crate) fn at(&self) -> AgentSequence {
        self.at
    }

    /// What the agent said, unread.
    pub(crate) fn entries(&self) -> Entries {
        self.seen.iter().map(|(key, seen)| (key.clone(), seen.value.clone())).collect()
    }

    /// The entry that says where the cluster's gateways are reached, as it came.
    pub(crate) fn gateways(&self) -> Option<(String, Json)> {
        let key = Key::Gateways(self.cluster.clone()).to_string();
        let seen = self.seen.get(&key)?;
        Some((key, seen.value.clone()))
    }

    /// The services and nodes that the agent sees.
    pub(crate) fn resources(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.seen.values().filter_map(|seen| match &seen.fact {
            Fact::Resource(resource) => Some(resource),
            _ => None,
        })
    }
}

/// The entry's fact, if it is one that the agent of the cluster may state.
fn own_fact(cluster: &Name, key: &str, value: &Json) -> Result<Fact, String> {
    let fact = value.read::<Fact>().map_err(|error| error.to_string())?;
    if fact.key().to_string() != key {
        return Err(format!("the entry says that it is {}", fact.key()));
    }
    let about = match &fact {
        Fact::Resource(resource) => match &resource.id {
            ResourceId::Service { cluster, .. } | ResourceId::Node { cluster, .. } => Some(cluster),
            _ => None,
        },
        Fact::Gateways(gateways) => Some(&gateways.cluster),
        _ => None,
    };
    match about == Some(cluster) {
        true => Ok(fact),
        false => Err(format!("the agent of {cluster} may speak of its own services, nodes and gateways only")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn service(cluster: &str) -> Entry {
        let id = format!("Service/{cluster}/shop/cart");
        let value = json!({"resource": {"id": id, "spec": {"Service": {"ports": []}}}});
        Entry { key: id, value: Some(value.into()) }
    }

    fn step(reset: bool, entries: Vec<Entry>) -> Observed {
        Observed { at: AgentSequence { incarnation: 1, sequence: 1 }, reset, last: true, entries }
    }

    #[test]
    fn an_agent_speaks_of_its_own_cluster_only() {
        let mut observation = Observation::new("north".parse().unwrap());
        let foreign = Entry {
            key: "gateways/south".into(),
            value: Some(json!({"gateways": {"cluster": "south", "gateways": []}}).into()),
        };
        let own = Entry {
            key: "gateways/north".into(),
            value: Some(json!({"gateways": {"cluster": "north", "gateways": []}}).into()),
        };
        let desired = Entry {
            key: "Cluster/north".into(),
            value: Some(json!({"resource": {"id": "Cluster/north", "spec": {"Cluster": {}}}}).into()),
        };
        let disguised = Entry { key: "Service/north/shop/x".into(), ..service("south") };
        observation
            .apply(step(true, vec![service("north"), service("south"), own, foreign, desired, disguised]))
            .unwrap();
        assert_eq!(observation.entries().keys().collect::<Vec<_>>(), ["Service/north/shop/cart", "gateways/north"]);
    }

    #[test]
    fn steps_add_up_and_a_reset_forgets() {
        let mut observation = Observation::new("north".parse().unwrap());
        observation.apply(step(true, vec![service("north")])).unwrap();
        let restored = Observation::restore("north".parse().unwrap(), observation.at(), observation.entries());
        assert_eq!((restored.bytes, restored.entries()), (observation.bytes, observation.entries()));
        observation.apply(step(false, vec![Entry { key: "Service/north/shop/cart".into(), value: None }])).unwrap();
        assert_eq!((observation.bytes, observation.seen.len()), (0, 0));
        observation.apply(step(false, vec![service("north")])).unwrap();
        observation.apply(step(true, vec![])).unwrap();
        assert_eq!((observation.bytes, observation.seen.len()), (0, 0));
    }
}

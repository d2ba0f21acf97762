//! What an agent sees in its cluster: kept as it was last good, whoever is away, and across restarts.

use std::sync::Arc;

use config::keyed::Keyed;
use config::resource::{Name, Resource, ResourceId};
use config::wire::{AgentSequence, Entries, Entry, Json, Observed};
use config::world::{Fact, Key};

use crate::sync::Refusal;

/// So many entries may one agent report.
const MAX_ENTRIES: usize = 100_000;
/// So many bytes of JSON may they have together.
const MAX_BYTES: usize = 256 * 1024 * 1024;

/// What the agent of one cluster sees. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Observation {
    cluster: Name,
    at: AgentSequence,
    /// As it came, perhaps from a newer version.
    entries: Entries,
    /// The same, read.
    facts: Keyed<Fact>,
    /// How long the entries are together, in bytes of JSON.
    bytes: usize,
}

impl Observation {
    /// Nothing seen yet.
    pub(crate) fn new(cluster: Name) -> Self {
        Observation { cluster, at: AgentSequence::default(), entries: Entries::new(), facts: Keyed::new(), bytes: 0 }
    }

    /// What was seen at `at`, as [`Self::entries`] gave it.
    pub(crate) fn restore(cluster: Name, at: AgentSequence, entries: Entries) -> Self {
        let mut observation = Observation::new(cluster);
        observation.at = at;
        for (key, value) in entries.iter() {
            observation.take(Entry { key: key.to_owned(), value: Some(value.clone()) });
        }
        observation
    }

    /// Takes a whole step. An entry about anything but the agent's own cluster is refused and named in the log.
    ///
    /// # Errors
    /// When the agent reports more than is kept of one cluster.
    pub(crate) fn apply(&mut self, step: Observed) -> Result<(), Refusal> {
        if step.reset {
            self.entries.clear();
            self.facts.clear();
            self.bytes = 0;
        }
        for folder in &step.replaces {
            self.forget(folder);
        }
        self.at = step.at;
        step.entries.into_iter().for_each(|entry| self.take(entry));
        if self.entries.len() > MAX_ENTRIES || self.bytes > MAX_BYTES {
            return Err(Refusal(format!(
                "the cluster {} reports {} entries with {} bytes, more than the {MAX_ENTRIES} and {MAX_BYTES} that are kept",
                self.cluster,
                self.entries.len(),
                self.bytes
            )));
        }
        Ok(())
    }

    fn take(&mut self, Entry { key, value }: Entry) {
        if let Some(old) = self.entries.remove(&key) {
            self.bytes -= length(&key, &old);
            self.facts.remove(&key);
        }
        let Some(value) = value else { return };
        match own_fact(&self.cluster, &key, &value) {
            Ok(fact) => {
                self.bytes += length(&key, &value);
                self.facts.insert(&*key, fact);
                self.entries.insert(key, value);
            }
            Err(reason) => tracing::warn!(cluster = %self.cluster, key, reason, "refused what an agent reports"),
        }
    }

    fn forget(&mut self, folder: &str) {
        self.facts.remove_folder(folder);
        if let Some(gone) = self.entries.remove_folder(folder) {
            self.bytes -= gone.iter().map(|(key, value)| length(key, value)).sum::<usize>();
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
    pub(crate) fn entries(&self) -> &Entries {
        &self.entries
    }

    /// The same, read.
    pub(crate) fn facts(&self) -> &Keyed<Fact> {
        &self.facts
    }

    /// Where the cluster's gateways are reached, as it came.
    pub(crate) fn gateways(&self) -> Option<Json> {
        self.entries.get(&Key::Gateways(self.cluster.clone()).to_string()).cloned()
    }

    /// The services and nodes that the agent sees.
    pub(crate) fn resources(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.facts.values().filter_map(|fact| match fact {
            Fact::Resource(resource) => Some(resource),
            _ => None,
        })
    }
}

fn length(key: &str, value: &Json) -> usize {
    key.len() + value.as_str().len()
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
        Observed { at: AgentSequence { incarnation: 1, sequence: 1 }, reset, replaces: vec![], last: true, entries }
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
        let restored = Observation::restore("north".parse().unwrap(), observation.at(), observation.entries().clone());
        assert_eq!((restored.bytes, restored.entries()), (observation.bytes, observation.entries()));
        observation.apply(step(false, vec![Entry { key: "Service/north/shop/cart".into(), value: None }])).unwrap();
        assert_eq!((observation.bytes, observation.entries.len()), (0, 0));
        observation.apply(step(false, vec![service("north")])).unwrap();
        let replacing = Observed { replaces: vec!["Service/north/shop".into()], ..step(false, vec![]) };
        observation.apply(replacing).unwrap();
        assert_eq!((observation.bytes, observation.facts.len()), (0, 0));
        observation.apply(step(false, vec![service("north")])).unwrap();
        observation.apply(step(true, vec![])).unwrap();
        assert_eq!((observation.bytes, observation.entries.len()), (0, 0));
    }
}

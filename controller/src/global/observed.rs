//! What an agent sees in its cluster: kept as it was last good, whoever is away, and across restarts.

use std::collections::BTreeMap;
use std::sync::Arc;

use config::keyed::{Keyed, folder_of};
use config::resource::{Name, Resource, ResourceId};
use config::wire::{AgentSequence, Entries, Entry, Json, Observed, Rejection};
use config::world::{Fact, Key, lacking};

use crate::sync::Refusal;

/// So many entries may one agent report.
const MAX_ENTRIES: usize = 100_000;
/// So many bytes of JSON may they have together.
const MAX_BYTES: usize = 256 * 1024 * 1024;
/// Of so many entries that are refused it is told why, in so many bytes each; the log has all.
const MAX_REJECTED: usize = 100;
const MAX_REJECTION: usize = 2048;

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
    /// Why entries were refused, by key.
    rejected: BTreeMap<String, String>,
}

impl Observation {
    /// Nothing seen yet.
    pub(crate) fn new(cluster: Name) -> Self {
        let (at, entries) = (AgentSequence::default(), Entries::new());
        Observation { cluster, at, entries, facts: Keyed::new(), bytes: 0, rejected: BTreeMap::new() }
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
            self.rejected.clear();
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
        self.rejected.remove(&key);
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
            Err(reason) => {
                tracing::warn!(cluster = %self.cluster, key, reason, "refused what an agent reports");
                if self.rejected.len() < MAX_REJECTED && key.len() + reason.len() <= MAX_REJECTION {
                    self.rejected.insert(key, reason);
                }
            }
        }
    }

    fn forget(&mut self, folder: &str) {
        self.facts.remove_folder(folder);
        self.rejected.retain(|key, _| folder_of(key) != folder);
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

    /// What of it the controller couldn't act on, and why: the first of it, if there is much.
    pub(crate) fn rejected(&self) -> impl Iterator<Item = Rejection> {
        self.rejected.iter().map(|(key, reason)| Rejection { key: key.clone(), reason: reason.clone() })
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

/// The entry's fact, if it is one that the agent of the cluster may state, and of which the meaning is known.
fn own_fact(cluster: &Name, key: &str, value: &Json) -> Result<Fact, String> {
    let lacking = lacking(value);
    if !lacking.is_empty() {
        let (features, version) = (lacking.join(", "), env!("CARGO_PKG_VERSION"));
        return Err(format!("it needs {features}, which Tombolo {version} doesn't have: upgrade the controller"));
    }
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
    fn what_needs_more_than_this_release_has_is_rejected_by_name_until_it_is_gone() {
        let newer = || {
            let mut value: serde_json::Value = service("north").value.unwrap().read().unwrap();
            value.as_object_mut().unwrap().insert("needs".into(), json!(["fromTheFuture"]));
            Entry { value: Some(value.into()), ..service("north") }
        };
        let rejected = |observation: &Observation| {
            let of = |Rejection { key, reason }| format!("{key}: {reason}");
            observation.rejected().map(of).collect::<Vec<_>>()
        };
        let mut observation = Observation::new("north".parse().unwrap());
        let gone = Entry { value: None, ..service("north") };
        let replacing = Observed { replaces: vec!["Service/north/shop".into()], ..step(false, vec![]) };
        let ends = [step(false, vec![service("north")]), step(false, vec![gone]), step(true, vec![]), replacing];
        for end in ends {
            observation.apply(step(false, vec![service("north"), newer()])).unwrap();
            let [said] = rejected(&observation).try_into().unwrap();
            assert!(
                said.contains("Service/north/shop/cart: it needs fromTheFuture") && said.contains("upgrade"),
                "{said}"
            );
            assert!(observation.entries().is_empty() && observation.facts().is_empty());
            observation.apply(end).unwrap();
            assert_eq!(rejected(&observation), [""; 0]);
        }
        let many = |at: usize| Entry { key: format!("x/{at}"), value: Some(json!(1).into()) };
        let long = Entry { key: "y".repeat(MAX_REJECTION), value: Some(json!(1).into()) };
        observation.apply(step(true, vec![long])).unwrap();
        assert_eq!(rejected(&observation), [""; 0], "what an agent says doesn't fill the memory");
        observation.apply(step(true, (0..2 * MAX_REJECTED).map(many).collect())).unwrap();
        assert_eq!(rejected(&observation).len(), MAX_REJECTED);
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

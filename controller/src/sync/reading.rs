//! Reading the entries that others only pass on.

use std::collections::BTreeMap;
use std::sync::Arc;

use config::wire::{Entries, Json, Rejection, Update};
use config::world::{World, diff, lacking};

use super::Published;

/// Why this release cannot act on an entry.
fn unmet(value: &Json) -> Option<String> {
    let lacking = lacking(value);
    (!lacking.is_empty()).then(|| {
        let (features, version) = (lacking.join(", "), env!("CARGO_PKG_VERSION"));
        format!("it needs {features}, which Tombolo {version} doesn't have: upgrade this process")
    })
}

/// The world as it is read, step by step: what a step leaves alone isn't read again, and stays the same in memory.
#[derive(Default)]
pub struct Reading {
    entries: Arc<Entries>,
    world: World,
    rejected: BTreeMap<String, Rejection>,
}

impl Reading {
    /// Reads what differs from the last world.
    pub fn read(&mut self, published: &Published) {
        let mut changes = diff(&self.entries, &published.entries);
        let mut lacking = Vec::new();
        for change in &mut changes {
            self.rejected.remove(&change.key);
            if let Some(reason) = change.value.as_ref().and_then(unmet) {
                let last = published.understood.get(&change.key);
                let stays = if last.is_some() { "; what it said before stays" } else { "" };
                lacking.push(Rejection { key: change.key.clone(), reason: format!("{reason}{stays}") });
                change.value = last.cloned();
            }
        }
        let update =
            Update { revision: published.revision, reset: false, replaces: vec![], last: true, entries: changes };
        let rejected = self.world.apply(&update);
        self.rejected.extend(rejected.into_iter().chain(lacking).map(|rejection| (rejection.key.clone(), rejection)));
        self.entries = published.entries.clone();
    }

    /// What could be read.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// What couldn't.
    pub fn rejected(&self) -> Vec<Rejection> {
        self.rejected.values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::wire::RevisionPair;
    use serde_json::{Value, json};

    fn published(entries: &[(&str, Value)]) -> Published {
        let entries = entries.iter().map(|(key, value)| ((*key).to_owned(), value.clone().into())).collect();
        Published { revision: RevisionPair::default(), entries: Arc::new(entries), ..Published::default() }
    }

    #[test]
    fn a_rejection_lasts_as_long_as_its_entry() {
        let mut reading = Reading::default();
        let north = json!({"resource": {"id": "Cluster/north", "spec": {"Cluster": {}}}});
        reading.read(&published(&[("Cluster/north", north.clone()), ("Cluster/south", json!(5))]));
        assert_eq!((reading.world().facts.len(), reading.rejected().len()), (1, 1));
        reading.read(&published(&[("Cluster/north", north.clone()), ("Cluster/south", json!(5)), ("x", json!(6))]));
        assert_eq!((reading.world().facts.len(), reading.rejected().len()), (1, 2));
        reading.read(&published(&[("Cluster/north", north)]));
        assert_eq!((reading.world().facts.len(), reading.rejected().len()), (1, 0));
    }
}

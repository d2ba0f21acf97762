//! Reading the entries that others only pass on.

use std::collections::BTreeMap;
use std::sync::Arc;

use config::wire::{Entries, Rejection, Update};
use config::world::{World, diff};

use super::Published;

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
        let changes = diff(&self.entries, &published.entries);
        for change in &changes {
            self.rejected.remove(&change.key);
        }
        let update = Update { revision: published.revision, reset: false, last: true, entries: changes };
        let rejected = self.world.apply(&update);
        self.rejected.extend(rejected.into_iter().map(|rejection| (rejection.key.clone(), rejection)));
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

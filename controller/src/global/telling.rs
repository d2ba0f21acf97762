//! Facts as they travel, each made once. What hasn't changed is told as the same value in memory: it costs nothing to
//! make, and for everyone behind nothing to compare.

use std::collections::BTreeMap;
use std::sync::Arc;

use config::wire::Json;
use config::world::Fact;

/// A fact and its value.
struct Told {
    fact: Fact,
    value: Json,
}

/// What was told in this round and the last. A round is the telling of everything to everybody.
#[derive(Default)]
pub(crate) struct Telling {
    last: BTreeMap<String, Told>,
    now: BTreeMap<String, Told>,
}

impl Telling {
    /// The fact's entry. One that cannot be told is left out, and named in the log.
    pub(crate) fn tell(&mut self, fact: Fact) -> Option<(String, Json)> {
        let key = fact.key().to_string();
        if let Some(told) = self.now.get(&key).filter(|told| same(&told.fact, &fact)) {
            return Some((key, told.value.clone()));
        }
        let value = match self.last.remove(&key).filter(|told| same(&told.fact, &fact)) {
            Some(told) => told.value,
            None => make(&fact)?,
        };
        self.now.insert(key.clone(), Told { fact, value: value.clone() });
        Some((key, value))
    }

    /// Ends the round: what wasn't told in it is forgotten.
    pub(crate) fn finish(&mut self) {
        self.last = std::mem::take(&mut self.now);
    }
}

fn same(one: &Fact, other: &Fact) -> bool {
    match (one, other) {
        (Fact::Resource(one), Fact::Resource(other)) if Arc::ptr_eq(one, other) => true,
        _ => one == other,
    }
}

fn make(fact: &Fact) -> Option<Json> {
    let made = fact.entry();
    made.map(|(_, value)| value)
        .inspect_err(|error| tracing::error!(key = %fact.key(), %error, "a fact cannot be told to agents"))
        .ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use config::world::ClusterGateways;

    use super::*;

    fn gateways(cluster: &str) -> Fact {
        Fact::Gateways(Arc::new(ClusterGateways { cluster: cluster.parse().unwrap(), gateways: vec![] }))
    }

    #[test]
    fn what_hasnt_changed_is_the_same_value_and_what_isnt_told_is_forgotten() {
        let mut telling = Telling::default();
        let (_, first) = telling.tell(gateways("north")).unwrap();
        telling.tell(gateways("south")).unwrap();
        telling.finish();
        let (_, second) = telling.tell(gateways("north")).unwrap();
        let (_, third) = telling.tell(gateways("north")).unwrap();
        assert!(first.is(&second) && second.is(&third));
        telling.finish();
        assert_eq!(telling.last.len(), 1);
    }
}

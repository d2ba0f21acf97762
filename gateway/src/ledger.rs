//! Values by key, each with the number of its last change: whoever was told of all of them once is told only what changed
//! since.

use std::collections::{BTreeMap, BTreeSet};

/// So many keys that are gone are remembered. Who was last told before the oldest of them went is told everything.
const MOST_GONE: usize = 4_096;

/// Values by key, and the order in which they changed last.
pub struct Ledger<K, V> {
    values: BTreeMap<K, Noted<V>>,
    /// The number of each key's last change.
    order: BTreeMap<u64, K>,
    /// Of these numbers the keys are gone.
    gone: BTreeSet<u64>,
    number: u64,
    /// Up to this change not everything is remembered.
    forgotten: u64,
}

struct Noted<V> {
    at: u64,
    /// Nothing once the key is gone.
    value: Option<V>,
}

impl<K: Ord + Clone, V> Ledger<K, V> {
    /// Nothing; its first change is the one after this number.
    pub fn after(number: u64) -> Self {
        let (values, order, gone) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        Ledger { values, order, gone, number, forgotten: number }
    }

    /// The last change's.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Counts a change of something else that is told together with the values.
    pub fn step(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    /// The key has changed: it has this value now, or is gone.
    pub fn note(&mut self, key: K, value: Option<V>) {
        let at = self.step();
        if value.is_none() {
            self.gone.insert(at);
        }
        self.order.insert(at, key.clone());
        if let Some(before) = self.values.insert(key, Noted { at, value }) {
            self.order.remove(&before.at);
            self.gone.remove(&before.at);
        }
        while self.gone.len() > MOST_GONE {
            self.forget_one();
        }
    }

    fn forget_one(&mut self) {
        let Some(oldest) = self.gone.pop_first() else { return };
        if let Some(key) = self.order.remove(&oldest) {
            self.values.remove(&key);
        }
        self.forgotten = oldest;
    }

    /// Forgets which keys changed when, but not what is: who was told before is told everything.
    pub fn forget(&mut self) {
        self.forgotten = self.step();
    }

    /// What changed after that number: keys with their values, or nothing for those that are gone. `None` when that is
    /// too long ago to be known.
    pub fn since(&self, number: u64) -> Option<impl Iterator<Item = (&K, Option<&V>)>> {
        let known = (self.forgotten..=self.number).contains(&number);
        let value = |key: &K| self.values.get(key).and_then(|noted| noted.value.as_ref());
        known.then(|| self.order.range(number + 1..).map(move |(_, key)| (key, value(key))))
    }

    /// Every key that there is, with its value.
    pub fn all(&self) -> impl Iterator<Item = (&K, &V)> {
        self.values.iter().filter_map(|(key, noted)| Some((key, noted.value.as_ref()?)))
    }
}

impl<K: Ord + Clone, V: PartialEq> Ledger<K, V> {
    /// The key has this value, or is gone: a change only if it was otherwise.
    pub fn set(&mut self, key: &K, value: Option<V>) {
        if self.values.get(key).and_then(|noted| noted.value.as_ref()) != value.as_ref() {
            self.note(key.clone(), value);
        }
    }

    /// Looks at these keys again; at every one when it is not known which may have changed.
    pub fn refresh<A: Iterator<Item = K>>(
        &mut self,
        these: Option<Vec<K>>,
        all: impl FnOnce() -> A,
        value: impl Fn(&K) -> Option<V>,
    ) {
        let these = these.unwrap_or_else(|| {
            let known: BTreeSet<K> = self.all().map(|(key, _)| key.clone()).chain(all()).collect();
            known.into_iter().collect()
        });
        these.iter().for_each(|key| self.set(key, value(key)));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    fn all(ledger: &Ledger<u8, u8>) -> BTreeMap<u8, u8> {
        ledger.all().map(|(key, value)| (*key, *value)).collect()
    }

    fn catch_up(told: &mut BTreeMap<u8, u8>, since: u64, ledger: &Ledger<u8, u8>) {
        for (key, value) in ledger.since(since).unwrap() {
            match value {
                Some(value) => drop(told.insert(*key, *value)),
                None => drop(told.remove(key)),
            }
        }
    }

    proptest! {
        #[test]
        fn what_changed_since_adds_up_to_everything(
            steps in vec(vec((0..8u8, option::of(0..3u8)), 0..6), 1..8),
            from in 0..8usize,
        ) {
            let mut ledger = Ledger::after(7);
            let (mut told, mut since) = (BTreeMap::new(), 7);
            for (step, changes) in steps.iter().enumerate() {
                changes.iter().for_each(|(key, value)| ledger.set(key, *value));
                if step >= from {
                    catch_up(&mut told, since, &ledger);
                    since = ledger.number();
                    prop_assert_eq!(&told, &all(&ledger));
                }
            }
            prop_assert_eq!(ledger.since(ledger.number()).unwrap().count(), 0, "and then nothing is new");
        }

        #[test]
        fn to_look_at_what_may_have_changed_is_to_look_at_everything(
            before in proptest::collection::btree_map(0..8u8, 0..3u8, 0..6),
            after in proptest::collection::btree_map(0..8u8, 0..3u8, 0..6),
            more in vec(0..8u8, 0..4),
        ) {
            let differ = (0..8).filter(|key| before.get(key) != after.get(key));
            let these = differ.chain(more).collect();
            let [mut some, mut every] = [(); 2].map(|()| {
                let mut ledger = Ledger::after(0);
                before.iter().for_each(|(key, value)| ledger.set(key, Some(*value)));
                ledger
            });
            some.refresh(Some(these), || after.keys().copied(), |key| after.get(key).copied());
            every.refresh(None, || after.keys().copied(), |key| after.get(key).copied());
            prop_assert_eq!(all(&some), after);
            prop_assert_eq!(all(&some), all(&every));
        }
    }

    #[test]
    fn what_stays_as_it_is_is_no_change() {
        let mut ledger = Ledger::after(0);
        ledger.set(&1, Some(1));
        ledger.set(&1, Some(1));
        ledger.set(&2, None);
        assert_eq!(ledger.number(), 1);
    }

    #[test]
    fn who_was_told_too_long_ago_is_told_everything() {
        let mut ledger = Ledger::after(0);
        ledger.set(&0, Some(()));
        let told = ledger.number();
        (1..=MOST_GONE + 2).for_each(|key| ledger.note(key, None));
        assert!(ledger.since(told).is_none() && ledger.since(ledger.number() + 1).is_none());
        assert_eq!(ledger.all().count(), 1);
        assert!(ledger.values.len() <= MOST_GONE + 1, "and nothing grows without bound");
        assert_eq!(ledger.since(ledger.number() - 2).unwrap().count(), 2);
        let told = ledger.number();
        ledger.forget();
        assert!(ledger.since(told).is_none() && ledger.since(ledger.number()).unwrap().next().is_none());
    }
}

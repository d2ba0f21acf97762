//! Values by key, in folders that are shared: what makes a large world cheap to copy, to compare and to change a little.
//!
//! A key looks like a path (`remote/south/shop/cart`); all of it up to its last `/` is its folder. A copy shares its
//! folders with the original, a change copies only the folder that it is in, and two sets are compared folder by folder,
//! where those that are the same in memory need no look.

mod sorted;

use std::cmp::Ordering;
use std::fmt;
use std::sync::{Arc, OnceLock};

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use self::sorted::Sorted;

/// Values by key. The order is that of folders, and in a folder that of keys.
#[derive(Clone)]
pub struct Keyed<V> {
    folders: Sorted<Arc<Folder<V>>>,
}

/// The values whose keys have all but the last name in common; the keys are whole.
pub struct Folder<V> {
    items: Sorted<V>,
    digest: OnceLock<String>,
}

/// The folder of a key; empty for one without `/`.
pub fn folder_of(key: &str) -> &str {
    key.rsplit_once('/').map_or("", |(folder, _)| folder)
}

impl<V> Folder<V> {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&V> {
        self.items.get(key)
    }

    /// Every key with its value, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &V)> {
        self.items.iter()
    }

    /// Every value.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// What `make` says of the folder: asked once, then remembered for as long as the folder is as it is.
    pub fn digest(&self, make: impl FnOnce(&Self) -> String) -> &str {
        self.digest.get_or_init(|| make(self))
    }

    /// What differs between two: the key, and the value that is so now, if there is one. `same` compares two values.
    pub fn changes<'f>(
        old: Option<&'f Self>,
        new: Option<&'f Self>,
        same: impl Fn(&V, &V) -> bool + 'f,
    ) -> impl Iterator<Item = (&'f Arc<str>, Option<&'f V>)> {
        Self::differences(old, new, same).map(|(key, _, now)| (key, now))
    }

    /// The same, with the value that was.
    pub fn differences<'f>(
        old: Option<&'f Self>,
        new: Option<&'f Self>,
        same: impl Fn(&V, &V) -> bool + 'f,
    ) -> impl Iterator<Item = Difference<'f, V>> {
        let items = |folder: &'f Self| &folder.items;
        let both = Sorted::differences(old.map(items), new.map(items));
        both.filter(move |(_, before, now)| match (before, now) {
            (Some(before), Some(now)) => !same(before, now),
            _ => true,
        })
    }
}

/// A key, with the value that was and the one that is.
pub type Difference<'f, V> = (&'f Arc<str>, Option<&'f V>, Option<&'f V>);

/// Walks two lists that are in the order of their keys side by side: each key once, with what either has of it. Keys that
/// are the same in memory aren't read.
pub fn beside<K: Ord, A, B>(
    old: impl Iterator<Item = (K, A)>,
    new: impl Iterator<Item = (K, B)>,
) -> impl Iterator<Item = (K, Option<A>, Option<B>)> {
    let (mut old, mut new) = (old.peekable(), new.peekable());
    std::iter::from_fn(move || {
        let order = match (old.peek(), new.peek()) {
            (Some((a, _)), Some((b, _))) if a == b => Ordering::Equal,
            (Some((a, _)), Some((b, _))) => a.cmp(b),
            (Some(_), None) => Ordering::Less,
            (None, _) => Ordering::Greater,
        };
        let before = if order.is_le() { old.next() } else { None };
        let now = if order.is_ge() { new.next() } else { None };
        match (before, now) {
            (Some((key, before)), now) => Some((key, Some(before), now.map(|(_, now)| now))),
            (None, Some((key, now))) => Some((key, None, Some(now))),
            (None, None) => None,
        }
    })
}

impl<V> Default for Folder<V> {
    fn default() -> Self {
        Folder { items: Sorted::default(), digest: OnceLock::new() }
    }
}

impl<V: Clone> Clone for Folder<V> {
    /// A copy is made to be changed: what was said of the original isn't taken over.
    fn clone(&self) -> Self {
        Folder { items: self.items.clone(), digest: OnceLock::new() }
    }
}

impl<V> FromIterator<(Arc<str>, V)> for Folder<V> {
    fn from_iter<I: IntoIterator<Item = (Arc<str>, V)>>(items: I) -> Self {
        Folder { items: items.into_iter().collect(), digest: OnceLock::new() }
    }
}

impl<V> Keyed<V> {
    /// Nothing.
    pub fn new() -> Self {
        Keyed { folders: Sorted::default() }
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&V> {
        self.folders.get(folder_of(key))?.get(key)
    }

    /// Whether there is a value of that key.
    pub fn contains_key(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Every key with its value.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &V)> {
        self.folders().flat_map(|(_, folder)| folder.iter()).map(|(key, value)| (&**key, value))
    }

    /// Every key.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.iter().map(|(key, _)| key)
    }

    /// Every value.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.folders().flat_map(|(_, folder)| folder.values())
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.folders().map(|(_, folder)| folder.len()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.folders.is_empty()
    }

    /// Takes everything away.
    pub fn clear(&mut self) {
        self.folders = Sorted::default();
    }

    /// Every folder with its name; none is empty.
    pub fn folders(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<Folder<V>>)> {
        self.folders.iter()
    }

    /// The folder of that name.
    pub fn folder(&self, name: &str) -> Option<&Arc<Folder<V>>> {
        self.folders.get(name)
    }

    /// Puts a folder in place of that of the same name. All its keys must be of that folder.
    pub fn put_folder(&mut self, name: Arc<str>, folder: Arc<Folder<V>>) {
        match folder.is_empty() {
            true => drop(self.folders.remove(&name)),
            false => drop(self.folders.insert(name, folder)),
        }
    }

    /// Takes a folder away.
    pub fn remove_folder(&mut self, name: &str) -> Option<Arc<Folder<V>>> {
        self.folders.remove(name)
    }

    /// What differs between two, as [`Folder::changes`] has it.
    pub fn changes<'k>(
        old: &'k Self,
        new: &'k Self,
        same: impl Fn(&V, &V) -> bool + Copy + 'k,
    ) -> impl Iterator<Item = (&'k Arc<str>, Option<&'k V>)> {
        Self::differences(old, new, same).map(|(key, _, now)| (key, now))
    }

    /// The same, with the value that was. Folders that are the same in memory need no look.
    pub fn differences<'k>(
        old: &'k Self,
        new: &'k Self,
        same: impl Fn(&V, &V) -> bool + Copy + 'k,
    ) -> impl Iterator<Item = Difference<'k, V>> {
        let folders = Sorted::differences(Some(&old.folders), Some(&new.folders));
        let other = folders.filter(|(_, before, now)| match (before, now) {
            (Some(before), Some(now)) => !Arc::ptr_eq(before, now),
            _ => true,
        });
        other.flat_map(move |(_, before, now)| {
            Folder::differences(before.map(|folder| &**folder), now.map(|folder| &**folder), same)
        })
    }
}

impl<V: Clone> Keyed<V> {
    fn folder_mut(&mut self, name: &str) -> Option<&mut Folder<V>> {
        let folder = Arc::make_mut(self.folders.get_mut(name)?);
        folder.digest.take();
        Some(folder)
    }

    /// Sets the value of a key; returns the one before.
    pub fn insert(&mut self, key: impl Into<Arc<str>>, value: V) -> Option<V> {
        let key = key.into();
        if let Some(folder) = self.folder_mut(folder_of(&key)) {
            return folder.items.insert(key, value);
        }
        let name = folder_of(&key).into();
        self.folders.insert(name, Arc::new(Folder::from_iter([(key, value)])));
        None
    }

    /// Takes the value of a key away.
    pub fn remove(&mut self, key: &str) -> Option<V> {
        if !self.contains_key(key) {
            return None; // no folder is copied in vain
        }
        let folder = self.folder_mut(folder_of(key))?;
        let value = folder.items.remove(key);
        if folder.is_empty() {
            self.folders.remove(folder_of(key));
        }
        value
    }

    /// The value of a key, to be changed.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut V> {
        self.folder_mut(folder_of(key))?.items.get_mut(key)
    }
}

impl<V> Default for Keyed<V> {
    fn default() -> Self {
        Keyed::new()
    }
}

impl<V: fmt::Debug> fmt::Debug for Keyed<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<V: PartialEq> PartialEq for Keyed<V> {
    fn eq(&self, other: &Self) -> bool {
        Keyed::changes(self, other, V::eq).next().is_none()
    }
}

impl<V: Clone, K: Into<Arc<str>>> Extend<(K, V)> for Keyed<V> {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, items: I) {
        for (key, value) in items {
            self.insert(key, value);
        }
    }
}

impl<V: Clone, K: Into<Arc<str>>> FromIterator<(K, V)> for Keyed<V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(items: I) -> Self {
        let mut keyed = Keyed::new();
        keyed.extend(items);
        keyed
    }
}

impl<V: Clone, K: Into<Arc<str>>, const N: usize> From<[(K, V); N]> for Keyed<V> {
    fn from(items: [(K, V); N]) -> Self {
        items.into_iter().collect()
    }
}

impl<V: Serialize> Serialize for Keyed<V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de, V: Deserialize<'de> + Clone> Deserialize<'de> for Keyed<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Map<V>(std::marker::PhantomData<V>);
        impl<'de, V: Deserialize<'de> + Clone> Visitor<'de> for Map<V> {
            type Value = Keyed<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("values by key")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keyed<V>, A::Error> {
                let mut keyed = Keyed::new();
                while let Some((key, value)) = map.next_entry::<String, V>()? {
                    keyed.insert(key, value);
                }
                Ok(keyed)
            }
        }
        deserializer.deserialize_map(Map(std::marker::PhantomData))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::collection::{btree_map, vec};
    use proptest::option;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn it_is_a_map(steps in vec(("(a/|b/|a/b/)?[xyz]", option::of(0..3u8)), 0..40)) {
            let (mut keyed, mut map) = (Keyed::new(), BTreeMap::new());
            for (key, value) in steps {
                match value {
                    Some(value) => prop_assert_eq!(keyed.insert(&*key, value), map.insert(key, value)),
                    None => prop_assert_eq!(keyed.remove(&key), map.remove(&key)),
                }
                prop_assert_eq!(keyed.iter().map(|(k, v)| (k.to_owned(), *v)).collect::<BTreeMap<_, _>>(), map.clone());
                prop_assert_eq!((keyed.len(), keyed.is_empty()), (map.len(), map.is_empty()));
            }
            let text = serde_json::to_string(&keyed).unwrap();
            prop_assert_eq!(serde_json::from_str::<Keyed<u8>>(&text).unwrap(), keyed);
        }

        #[test]
        fn changes_lead_from_one_to_the_other(
            old in btree_map("(a/|b/)?[xy]", 0..3u8, 0..6),
            new in btree_map("(a/|b/)?[xy]", 0..3u8, 0..6),
        ) {
            let (old, new): (Keyed<u8>, Keyed<u8>) = (old.into_iter().collect(), new.into_iter().collect());
            let mut led = old.clone();
            for (key, value) in Keyed::changes(&old, &new, u8::eq) {
                match value {
                    Some(value) => prop_assert_ne!(led.insert(key.clone(), *value), Some(*value)),
                    None => prop_assert!(led.remove(key).is_some()),
                }
            }
            prop_assert_eq!(led, new);
        }
    }

    #[test]
    fn a_copy_shares_all_folders_but_the_one_that_changes() {
        let old = Keyed::from([("a/x", 1), ("b/x", 1)]);
        let mut new = old.clone();
        new.insert("a/y", 2);
        assert!(new.remove("b/y").is_none());
        let shared = |name| Arc::ptr_eq(old.folder(name).unwrap(), new.folder(name).unwrap());
        assert_eq!((shared("a"), shared("b")), (false, true));
    }

    #[test]
    fn what_is_said_of_a_folder_lasts_until_it_changes() {
        let mut keyed = Keyed::from([("a/x", 1)]);
        let said = |keyed: &Keyed<i32>, now: &str| keyed.folder("a").unwrap().digest(|_| now.to_owned()).to_owned();
        assert_eq!([said(&keyed, "1"), said(&keyed, "2"), said(&keyed.clone(), "3")], ["1"; 3]);
        keyed.insert("a/x", 2);
        assert_eq!(said(&keyed, "4"), "4");
    }
}

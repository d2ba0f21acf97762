//! What the files of a directory come to. A file's entries take the place of those that it had, so that a change costs
//! what the file says, however many others there are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use config::wire::{Entries, Rejection};

/// What a file says.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Said {
    pub(super) good: Entries,
    /// What is wrong with it.
    pub(super) faults: Vec<Rejection>,
}

/// All files together. Where several have the same entry, that of the first by name counts.
#[derive(Default)]
pub(super) struct Sum {
    entries: Entries,
    files: BTreeMap<Arc<str>, Said>,
    /// The files that have an entry.
    owners: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
    /// The files with faults.
    faulty: BTreeSet<Arc<str>>,
    /// The entries that several files have.
    contested: BTreeSet<Arc<str>>,
}

impl Sum {
    /// The entries that count.
    pub(super) fn entries(&self) -> &Entries {
        &self.entries
    }

    /// The file says this now; nothing once it is gone.
    pub(super) fn set(&mut self, file: &str, said: Said) {
        let file: Arc<str> = file.into();
        let before = self.files.remove(&file).unwrap_or_default();
        match said.faults.is_empty() {
            true => drop(self.faulty.remove(&file)),
            false => drop(self.faulty.insert(Arc::clone(&file))),
        }
        let changed: Vec<_> = Entries::changes(&before.good, &said.good, |one, other| one == other)
            .map(|(key, value)| (Arc::clone(key), value.is_some()))
            .collect();
        if said != Said::default() {
            self.files.insert(Arc::clone(&file), said);
        }
        changed.into_iter().for_each(|(key, has)| self.own(&file, key, has));
    }

    fn own(&mut self, file: &Arc<str>, key: Arc<str>, has: bool) {
        let owners = self.owners.entry(Arc::clone(&key)).or_default();
        match has {
            true => drop(owners.insert(Arc::clone(file))),
            false => drop(owners.remove(file)),
        }
        match owners.len() > 1 {
            true => drop(self.contested.insert(Arc::clone(&key))),
            false => drop(self.contested.remove(&key)),
        }
        let first = owners.first().and_then(|first| self.files.get(first)?.good.get(&key));
        match first {
            Some(value) => drop(self.entries.insert(key, value.clone())),
            None => {
                self.entries.remove(&key);
                self.owners.remove(&key);
            }
        }
    }

    /// What is wrong: with files, and with entries that stand in several.
    pub(super) fn rejected(&self) -> Vec<Rejection> {
        let faults = self.faulty.iter().filter_map(|file| self.files.get(file)).flat_map(|said| said.faults.clone());
        faults.chain(self.contested.iter().flat_map(|key| self.once_more(key))).collect()
    }

    fn once_more(&self, key: &Arc<str>) -> impl Iterator<Item = Rejection> {
        let mut owners = self.owners.get(key).into_iter().flatten();
        let first = owners.next();
        owners.zip(std::iter::repeat(first)).filter_map(|(file, first)| {
            let reason = format!("{file} has it once more; what {} says counts: remove one of the two", first?);
            Some(Rejection { key: key.to_string(), reason })
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn said(entries: &BTreeMap<String, u8>, faults: usize, file: &str) -> Said {
        let good = entries.iter().map(|(key, value)| (&**key, json!(value).into())).collect();
        let fault = |at| Rejection { key: file.to_owned(), reason: format!("fault {at}") };
        Said { good, faults: (0..faults).map(fault).collect() }
    }

    /// The rule, over all files.
    fn all(files: &BTreeMap<String, Said>) -> (Entries, BTreeMap<String, usize>) {
        let (mut entries, mut rejected) = (Entries::new(), BTreeMap::new());
        for said in files.values() {
            said.faults.iter().for_each(|fault| *rejected.entry(fault.key.clone()).or_default() += 1);
            for (key, value) in said.good.iter() {
                match entries.contains_key(key) {
                    false => drop(entries.insert(key, value.clone())),
                    true => *rejected.entry(key.to_owned()).or_default() += 1,
                }
            }
        }
        (entries, rejected)
    }

    proptest! {
        #[test]
        fn file_by_file_is_what_a_look_at_all_of_them_finds(
            steps in vec(("[fgh]", btree_map("(a/|b/)[xyz]", 0..3u8, 0..4), 0..2usize), 1..12),
        ) {
            let (mut sum, mut files) = (Sum::default(), BTreeMap::new());
            for (file, entries, faults) in steps {
                let said = said(&entries, faults, &file);
                sum.set(&file, said.clone());
                files.insert(file, said);
                let mut rejected = BTreeMap::new();
                sum.rejected().into_iter().for_each(|fault| *rejected.entry(fault.key).or_default() += 1);
                prop_assert_eq!((sum.entries().clone(), rejected), all(&files));
            }
            files.keys().for_each(|file| sum.set(file, Said::default()));
            prop_assert!(sum.entries().is_empty() && sum.owners.is_empty() && sum.files.is_empty());
        }
    }
}

//! Services by name, in parts that copies share: a report of a thousand services differs from the last one in few, and is
//! kept beside it for as long as requests read that.

use std::collections::BTreeMap;
use std::sync::Arc;

use config::keyed::beside;
use config::resource::Name;

use super::Versions;

/// A copy is so many pointers, and a change copies one part in so many.
const PARTS: usize = 64;

/// The services of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Services {
    parts: Vec<Arc<BTreeMap<Name, Versions>>>,
    counts: usize,
}

impl Default for Services {
    fn default() -> Self {
        Services { parts: vec![Arc::default(); PARTS], counts: 0 }
    }
}

/// In which part a service is: by FNV-1a.
fn part(name: &Name) -> usize {
    let hash = name
        .as_str()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    // The remainder of a small number fits.
    (hash % PARTS as u64) as usize
}

fn counts(versions: Option<&Versions>) -> usize {
    versions.map_or(0, |versions| 1 + versions.len())
}

impl Services {
    /// A service's numbers of healthy instances.
    pub fn get(&self, name: &Name) -> Option<&Versions> {
        self.parts.get(part(name))?.get(name)
    }

    /// They are these now, or the service is no more.
    pub fn set(&mut self, name: Name, versions: Option<Versions>) {
        let Some(part) = self.parts.get_mut(part(&name)) else { return };
        let new = counts(versions.as_ref());
        let before = match versions {
            Some(versions) => Arc::make_mut(part).insert(name, versions),
            None if part.contains_key(&name) => Arc::make_mut(part).remove(&name),
            None => None,
        };
        self.counts = self.counts + new - counts(before.as_ref());
    }

    /// How many services and versions there are, together.
    pub fn counts(&self) -> usize {
        self.counts
    }

    /// Every service's name.
    pub fn names(&self) -> impl Iterator<Item = &Name> {
        self.parts.iter().flat_map(|part| part.keys())
    }

    /// The names of the services that aren't alike in both.
    pub fn differences<'s>(&'s self, other: &'s Services) -> impl Iterator<Item = &'s Name> {
        let parts = self.parts.iter().zip(&other.parts).filter(|(one, other)| !Arc::ptr_eq(one, other));
        let both = parts.flat_map(|(one, other)| beside(one.iter(), other.iter()));
        both.filter(|(_, one, other)| one != other).map(|(name, ..)| name)
    }
}

impl FromIterator<(Name, Versions)> for Services {
    fn from_iter<I: IntoIterator<Item = (Name, Versions)>>(items: I) -> Self {
        let mut services = Services::default();
        items.into_iter().for_each(|(name, versions)| services.set(name, Some(versions)));
        services
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use proptest::collection::{btree_map, vec};
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    fn name(number: u16) -> Name {
        format!("n{number}").parse().unwrap()
    }

    fn versions(count: u32) -> Versions {
        Arc::new((0..count).map(|version| (name(0), version)).collect())
    }

    proptest! {
        #[test]
        fn they_are_a_map_of_which_copies_stay_as_they_are(
            first in btree_map(0..200u16, 0..3u32, 0..40),
            changes in vec((0..200u16, option::of(0..3u32)), 0..20),
        ) {
            let before: Services = first.iter().map(|(at, count)| (name(*at), versions(*count))).collect();
            let (mut now, mut model) = (before.clone(), first.clone());
            for (at, count) in changes {
                now.set(name(at), count.map(versions));
                match count {
                    Some(count) => drop(model.insert(at, count)),
                    None => drop(model.remove(&at)),
                }
            }
            for (services, model) in [(&before, &first), (&now, &model)] {
                prop_assert!((0..200).all(|at| services.get(&name(at)) == model.get(&at).map(|n| versions(*n)).as_ref()));
                prop_assert_eq!(services.names().count(), model.len());
                prop_assert_eq!(services.counts(), model.values().map(|count| 1 + versions(*count).len()).sum::<usize>());
            }
            let differ: BTreeSet<_> = before.differences(&now).cloned().collect();
            let unlike = (0..200).filter(|at| first.get(at).map(|n| versions(*n)) != model.get(at).map(|n| versions(*n)));
            prop_assert_eq!(differ, unlike.map(name).collect());
        }
    }
}

//! A sorted map in pieces that copies share: cheap to copy, and to compare with what it was copied from.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::Difference;

/// So many values has a piece at the most: what a change copies.
const FULL: usize = 64;
/// Neighbours with so few together become one.
const FEW: usize = FULL / 2;

type Item<V> = (Arc<str>, V);

/// Values by key, in order. No piece is empty.
#[derive(Clone)]
pub(super) struct Sorted<V> {
    pieces: Vec<Arc<Vec<Item<V>>>>,
}

impl<V> Default for Sorted<V> {
    fn default() -> Self {
        Sorted { pieces: Vec::new() }
    }
}

impl<V> FromIterator<Item<V>> for Sorted<V> {
    fn from_iter<I: IntoIterator<Item = Item<V>>>(items: I) -> Self {
        let mut items = items.into_iter().collect::<BTreeMap<_, _>>().into_iter();
        let piece = || Some(items.by_ref().take(FULL).collect::<Vec<_>>()).filter(|piece| !piece.is_empty());
        Sorted { pieces: std::iter::from_fn(piece).map(Arc::new).collect() }
    }
}

/// Where a key is in a piece, or would be.
fn find<V>(piece: &[Item<V>], key: &str) -> Result<usize, usize> {
    piece.binary_search_by(|(known, _)| (**known).cmp(key))
}

impl<V> Sorted<V> {
    /// The piece that has the key, if one has; else the one that it belongs in.
    fn piece_of(&self, key: &str) -> usize {
        let begins = |piece: &Arc<Vec<Item<V>>>| piece.first().is_some_and(|(first, _)| **first <= *key);
        self.pieces.partition_point(begins).saturating_sub(1)
    }

    pub(super) fn get(&self, key: &str) -> Option<&V> {
        let piece = self.pieces.get(self.piece_of(key))?;
        Some(&piece.get(find(piece, key).ok()?)?.1)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &V)> {
        self.pieces.iter().flat_map(|piece| piece.iter()).map(|(key, value)| (key, value))
    }

    pub(super) fn len(&self) -> usize {
        self.pieces.iter().map(|piece| piece.len()).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Every key that isn't in a piece which both share, in order, with what it is in each.
    pub(super) fn differences<'s>(
        old: Option<&'s Self>,
        new: Option<&'s Self>,
    ) -> impl Iterator<Item = Difference<'s, V>> {
        let of = |sorted: Option<&'s Self>| Walk { pieces: sorted.map_or(&[], |sorted| &sorted.pieces), at: 0 };
        Differences { old: of(old), new: of(new) }
    }
}

impl<V: Clone> Sorted<V> {
    /// Sets the value of a key; returns the one before.
    pub(super) fn insert(&mut self, key: Arc<str>, value: V) -> Option<V> {
        let number = self.piece_of(&key);
        let Some(piece) = self.pieces.get_mut(number) else {
            self.pieces.push(Arc::new(vec![(key, value)]));
            return None;
        };
        match find(piece, &key) {
            Ok(at) => {
                let held = Arc::make_mut(piece).get_mut(at)?;
                return Some(std::mem::replace(&mut held.1, value));
            }
            // As when all come in order: pieces then are full.
            Err(FULL..) => match self.pieces.get_mut(number + 1).filter(|next| next.len() < FULL) {
                Some(next) => Arc::make_mut(next).insert(0, (key, value)),
                None => self.pieces.insert(number + 1, Arc::new(vec![(key, value)])),
            },
            Err(at) if piece.len() < FULL => Arc::make_mut(piece).insert(at, (key, value)),
            Err(at) => {
                let mut first = piece.to_vec();
                let mut second = first.split_off(FEW);
                if at <= FEW {
                    first.insert(at, (key, value))
                } else {
                    second.insert(at - FEW, (key, value))
                }
                *piece = Arc::new(first);
                self.pieces.insert(number + 1, Arc::new(second));
            }
        }
        None
    }

    /// Takes the value of a key away.
    pub(super) fn remove(&mut self, key: &str) -> Option<V> {
        let number = self.piece_of(key);
        let piece = self.pieces.get_mut(number)?;
        let at = find(piece, key).ok()?;
        let piece = Arc::make_mut(piece);
        let (_, value) = piece.remove(at);
        if piece.is_empty() {
            self.pieces.remove(number);
        }
        self.unite(number);
        self.unite(number.saturating_sub(1));
        Some(value)
    }

    /// Makes one of a piece and the next, if they have few values.
    fn unite(&mut self, number: usize) {
        if let (Some(piece), Some(next)) = (self.pieces.get(number), self.pieces.get(number + 1))
            && piece.len() + next.len() <= FEW
        {
            let united = piece.iter().chain(next.iter()).cloned().collect();
            self.pieces.remove(number + 1);
            if let Some(piece) = self.pieces.get_mut(number) {
                *piece = Arc::new(united);
            }
        }
    }

    /// The value of a key, to be changed.
    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut V> {
        let number = self.piece_of(key);
        let piece = self.pieces.get_mut(number)?;
        let at = find(piece, key).ok()?;
        Arc::make_mut(piece).get_mut(at).map(|(_, value)| value)
    }
}

struct Differences<'s, V> {
    old: Walk<'s, V>,
    new: Walk<'s, V>,
}

/// What is left of a walk through the values.
struct Walk<'s, V> {
    pieces: &'s [Arc<Vec<Item<V>>>],
    /// In the first of them.
    at: usize,
}

impl<'s, V> Walk<'s, V> {
    fn peek(&self) -> Option<&'s Item<V>> {
        self.pieces.first()?.get(self.at)
    }

    fn step(&mut self) {
        self.at += 1;
        if self.pieces.first().is_some_and(|piece| self.at >= piece.len()) {
            self.skip();
        }
    }

    /// The whole piece that is next, if it is at its beginning.
    fn piece(&self) -> Option<&'s Arc<Vec<Item<V>>>> {
        self.pieces.first().filter(|_| self.at == 0)
    }

    fn skip(&mut self) {
        self.pieces = self.pieces.get(1..).unwrap_or_default();
        self.at = 0;
    }
}

impl<'s, V> Iterator for Differences<'s, V> {
    type Item = Difference<'s, V>;

    fn next(&mut self) -> Option<Self::Item> {
        let Differences { old, new } = self;
        while old.piece().zip(new.piece()).is_some_and(|(one, other)| Arc::ptr_eq(one, other)) {
            old.skip();
            new.skip();
        }
        let order = match (old.peek(), new.peek()) {
            (None, None) => return None,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((one, _)), Some((other, _))) if Arc::ptr_eq(one, other) => Ordering::Equal,
            (Some((one, _)), Some((other, _))) => one.cmp(other),
        };
        let before = old.peek().filter(|_| order.is_le());
        let now = new.peek().filter(|_| order.is_ge());
        before.inspect(|_| old.step());
        now.inspect(|_| new.step());
        let (key, _) = now.or(before)?;
        Some((key, before.map(|(_, value)| value), now.map(|(_, value)| value)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    fn key(number: u16) -> Arc<str> {
        format!("{number:05}").into()
    }

    fn steps(longest: usize) -> impl Strategy<Value = Vec<(u16, Option<u8>)>> {
        vec((0..400u16, option::weighted(0.6, 0..3u8)), 0..longest)
    }

    fn take(sorted: &mut Sorted<u8>, map: &mut BTreeMap<Arc<str>, u8>, steps: &[(u16, Option<u8>)]) {
        for (number, value) in steps {
            match value {
                Some(value) => assert_eq!(sorted.insert(key(*number), *value), map.insert(key(*number), *value)),
                None => assert_eq!(sorted.remove(&key(*number)), map.remove(&key(*number))),
            }
        }
    }

    fn sound(sorted: &Sorted<u8>, map: &BTreeMap<Arc<str>, u8>) {
        assert!(sorted.iter().eq(map.iter()));
        assert!((0..400).all(|number| sorted.get(&key(number)) == map.get(&key(number))));
        assert!(sorted.pieces.iter().all(|piece| (1..=FULL).contains(&piece.len())));
        let few = sorted.pieces.windows(2).filter(|two| two.iter().map(|piece| piece.len()).sum::<usize>() <= FEW);
        assert!(few.count() <= sorted.pieces.len() / 2, "it falls into crumbs");
    }

    proptest! {
        #[test]
        fn it_is_a_map_and_tells_what_differs(begin in 0..400u16, first in steps(500), then in steps(40)) {
            let mut map: BTreeMap<Arc<str>, u8> = (0..begin).map(|number| (key(number), 0)).collect();
            let mut sorted: Sorted<u8> = map.clone().into_iter().collect();
            take(&mut sorted, &mut map, &first);
            sound(&sorted, &map);
            let (old, old_map) = (sorted.clone(), map.clone());
            take(&mut sorted, &mut map, &then);
            sound(&sorted, &map);
            sound(&old, &old_map);
            let told: Vec<_> = Sorted::differences(Some(&old), Some(&sorted)).collect();
            prop_assert!(told.is_sorted_by(|one, other| one.0 < other.0));
            let differs = |key: &Arc<str>| old_map.get(key) != map.get(key);
            let wanted: Vec<_> = (0..400).map(key).filter(differs).collect();
            let found: Vec<_> = told.iter().filter(|(_, old, new)| old != new).map(|(key, ..)| Arc::clone(key)).collect();
            prop_assert_eq!(found, wanted);
            prop_assert!(told.iter().all(|(key, old, new)| (*old, *new) == (old_map.get(*key), map.get(*key))));
        }
    }

    #[test]
    fn of_a_copy_only_the_pieces_that_change_are_looked_at() {
        let old: Sorted<u8> = (0..400).map(|number| (key(number), 0)).collect();
        let mut new = old.clone();
        *new.get_mut(&key(100)).unwrap() = 1;
        assert!(new.get_mut("none").is_none() && Sorted::differences(Some(&old), Some(&new)).count() <= FULL);
        assert_eq!(Sorted::differences(Some(&old), Some(&old)).count(), 0);
        assert_eq!(Sorted::differences(None, Some(&new)).count(), 400);
        assert_eq!(Sorted::<u8>::differences(None, None).count(), 0);
    }

    #[test]
    fn what_comes_backwards_behind_a_full_piece_is_no_crumbs() {
        let mut sorted: Sorted<u8> = (0..64).map(|number| (key(number), 0)).collect();
        (64..128).rev().for_each(|number| assert_eq!(sorted.insert(key(number), 0), None));
        assert_eq!((sorted.pieces.len(), sorted.len()), (2, 128));
    }

    #[test]
    fn what_comes_in_order_fills_the_pieces() {
        let mut sorted = Sorted::default();
        (0..400).for_each(|number| assert_eq!(sorted.insert(key(number), 0), None));
        assert_eq!((sorted.pieces.len(), sorted.len()), (400usize.div_ceil(FULL), 400));
        (0..400).for_each(|number| assert_eq!(sorted.remove(&key(number)), Some(0)));
        assert!(sorted.is_empty());
    }
}

//! Of long values only what changed is sent: a fact about all clusters of a large mesh is as long as that is large, and
//! each change of it would go to all of them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use config::wire::frame::MAX_FRAME;
use config::wire::{Entries, Entry, Json};

use super::resume::Base;

/// Values that are shorter, in bytes, are sent whole.
const LONG: usize = 4 * 1024;
/// So many bytes of patches go with a step at the most: a message holds them.
const MOST: usize = 256 * 1024;
/// Longer values, in bytes, may be in no frame, and so in no follower's hands.
const TOO_LONG: usize = MAX_FRAME / 2;
/// Patches are remembered as long as they and their values have no more bytes than this. Followers are at about the same
/// place, so what one step needs is enough.
const REMEMBERED: usize = 32 * 1024 * 1024;

/// The newest patches, made once for all followers.
#[derive(Default)]
pub(super) struct Patches(Mutex<Memory>);

/// The newest first.
#[derive(Default)]
struct Memory {
    made: VecDeque<Made>,
    bytes: usize,
}

impl Memory {
    fn keep(&mut self, made: Made) {
        self.bytes += made.bytes();
        self.made.push_front(made);
        while self.bytes > REMEMBERED
            && let Some(oldest) = self.made.pop_back()
        {
            self.bytes -= oldest.bytes();
        }
    }
}

struct Made {
    older: Json,
    newer: Json,
    patch: Option<Json>,
}

impl Made {
    fn bytes(&self) -> usize {
        let patch = self.patch.as_ref().map_or(0, |patch| patch.as_str().len());
        self.older.as_str().len() + self.newer.as_str().len() + patch
    }
}

impl Patches {
    /// The patches of a step, and what is left of it then.
    pub(super) fn of(&self, base: Base, newest: &Entries) -> (Vec<Entry>, Base) {
        let (mut patches, mut bytes, mut entries) = (Vec::new(), 0, Arc::clone(&base.entries));
        for (key, newer) in Entries::changes(&base.entries, newest, Json::eq) {
            let Some((older, newer)) = base.entries.get(key).zip(newer) else { continue };
            let lengths = [older, newer].map(|value| value.as_str().len());
            if !lengths.iter().all(|length| (LONG..=TOO_LONG).contains(length)) {
                continue;
            }
            if let Some(patch) = self.patch(older, newer).filter(|patch| bytes + patch.as_str().len() <= MOST) {
                bytes += key.len() + patch.as_str().len();
                patches.push(Entry { key: key.to_string(), value: Some(patch) });
                Arc::make_mut(&mut entries).insert(Arc::clone(key), newer.clone());
            }
        }
        (patches, Base { entries, ..base })
    }

    /// Nothing where the value itself is not much longer.
    fn patch(&self, older: &Json, newer: &Json) -> Option<Json> {
        let is_of = |made: &&Made| made.older.is(older) && made.newer.is(newer);
        if let Some(known) = self.memory().made.iter().find(is_of) {
            return known.patch.clone();
        }
        // Others need not wait for it.
        let patch = newer.patch_from(older).filter(|patch| patch.as_str().len() < newer.as_str().len() / 2);
        self.memory().keep(Made { older: older.clone(), newer: newer.clone(), patch: patch.clone() });
        patch
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use serde_json::json;

    use super::*;

    fn long(fields: usize) -> Json {
        let fields: serde_json::Map<_, _> = (0..fields).map(|at| (format!("f{at}"), json!("x".repeat(50)))).collect();
        json!({ "fact": fields }).into()
    }

    fn base(entries: &Entries) -> Base {
        Base::sent(&Arc::new(entries.clone()))
    }

    #[test]
    fn of_long_values_what_changed_is_told_and_of_others_all() {
        let short = |number: u8| Json::from(json!(number));
        let old = Entries::from([("a/long", long(200)), ("a/short", short(1)), ("a/gone", long(200))]);
        let new = Entries::from([("a/long", long(201)), ("a/short", short(2)), ("a/new", long(200))]);
        let all = Patches::default();
        let (patches, rest) = all.of(base(&old), &new);
        assert_eq!(patches.iter().map(|patch| patch.key.as_str()).collect::<Vec<_>>(), ["a/long"]);
        let patch = patches[0].value.as_ref().unwrap();
        assert!(patch.as_str().len() < 100 && old.get("a/long").unwrap().patched(patch).unwrap() == long(201));
        let rest: Vec<_> = config::world::changes(&rest.entries, &new).map(|entry| entry.key).collect();
        assert_eq!(rest, ["a/gone", "a/new", "a/short"]);
        let (again, _) = all.of(base(&old), &new);
        assert!(again[0].value.as_ref().unwrap().is(patch), "it is made once for all");
        let (none, _) = all.of(base(&new), &Entries::from([("a/long", long(500))]));
        assert!(none.is_empty(), "most of it is new");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let all = Patches::default();
        for fields in 5_000..5_100 {
            let (old, new) = (Entries::from([("a/x", long(fields))]), Entries::from([("a/x", long(fields + 1))]));
            assert_eq!(all.of(base(&old), &new).0.len(), 1);
        }
        let memory = all.memory();
        assert!(memory.bytes <= REMEMBERED && (20..100).contains(&memory.made.len()), "{}", memory.made.len());
        assert_eq!(memory.bytes, memory.made.iter().map(Made::bytes).sum::<usize>());
    }

    #[test]
    fn what_no_frame_may_hold_is_told_whole() {
        let huge = |last: u8| json!({"spec": "x".repeat(TOO_LONG), "last": last}).into();
        let (old, new) = (Entries::from([("a/x", huge(1))]), Entries::from([("a/x", huge(2))]));
        assert!(Patches::default().of(base(&old), &new).0.is_empty());
    }
}

//! How a stream goes on where an earlier one ended: each side says what it holds, as digests of folders, and gets what
//! differs. Nobody needs to remember whom it told what, so that it works after a restart of either side, too.

use std::collections::BTreeMap;
use std::sync::Arc;

use config::keyed::Folder;
use config::resource::SecretRef;
use config::wire::{Entries, Holdings, Json, Secret};
use ring::digest::{Context, SHA256};

use super::secrets::hex;

/// So many folders are told of: a frame holds them. Beyond it the whole world comes.
const MAX_FOLDERS: usize = 10_000;

/// What is held.
pub(super) fn holdings(entries: &Entries, secrets: &BTreeMap<SecretRef, Secret>) -> Holdings {
    if entries.folders().nth(MAX_FOLDERS).is_some() {
        return Holdings::default();
    }
    let folders = entries.folders().map(|(name, folder)| (name.to_string(), digest(folder).to_owned())).collect();
    Holdings { folders, secrets: names_digest(secrets) }
}

/// Of the references: a secret is what its reference says.
pub(super) fn names_digest(secrets: &BTreeMap<SecretRef, Secret>) -> String {
    let mut context = Context::new(&SHA256);
    secrets.keys().for_each(|reference| add(&mut context, &reference.key_sha256));
    hex(context.finish().as_ref())
}

fn digest(folder: &Folder<Json>) -> &str {
    folder.digest(|folder| {
        let mut context = Context::new(&SHA256);
        for (key, value) in folder.iter() {
            add(&mut context, key);
            add(&mut context, value.as_str());
        }
        hex(context.finish().as_ref())
    })
}

/// With its length, so that what follows cannot be taken for a part of it.
fn add(context: &mut Context, text: &str) {
    context.update(&text.len().to_be_bytes());
    context.update(text.as_bytes());
}

/// What a receiver has before a step, and what it must be told to have no more than that.
#[derive(Default)]
pub(super) struct Base {
    pub(super) entries: Arc<Entries>,
    /// It shall forget all that it has.
    pub(super) reset: bool,
    /// It shall forget these folders.
    pub(super) replaces: Vec<String>,
}

impl Base {
    /// Of one that holds nothing, or nobody knows what.
    pub(super) fn nothing() -> Self {
        Base { reset: true, ..Base::default() }
    }

    /// Of one that was sent these before.
    pub(super) fn sent(entries: &Arc<Entries>) -> Self {
        Base { entries: Arc::clone(entries), ..Base::default() }
    }

    /// Of one that says what it holds: what it has in common with `newest`.
    pub(super) fn held(held: &Holdings, newest: &Entries) -> Self {
        if held.folders.is_empty() {
            return Base::nothing();
        }
        let (mut common, mut replaces) = (Entries::new(), Vec::new());
        for (name, said) in &held.folders {
            match newest.folder(name) {
                Some(folder) if digest(folder) == said => common.put_folder(name.as_str().into(), Arc::clone(folder)),
                _ => replaces.push(name.clone()),
            }
        }
        Base { entries: Arc::new(common), reset: false, replaces }
    }
}

#[cfg(test)]
mod tests {
    use config::world::{diff, patch};
    use proptest::collection::btree_map;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn entries(map: &BTreeMap<String, u8>) -> Arc<Entries> {
        Arc::new(map.iter().map(|(key, value)| (&**key, Json::from(json!(value)))).collect())
    }

    proptest! {
        #[test]
        fn whatever_is_held_the_newest_comes_of_it(
            held in btree_map("(a/|b/|)[xy]", 0..2u8, 0..6),
            newest in btree_map("(a/|b/|)[xy]", 0..2u8, 0..6),
        ) {
            let (mut held, newest) = (entries(&held), entries(&newest));
            let base = Base::held(&holdings(&held, &BTreeMap::new()), &newest);
            let steps = diff(&base.entries, &newest);
            prop_assert!(held != newest || held.is_empty() || (steps.is_empty() && base.replaces.is_empty()));
            patch(Arc::make_mut(&mut held), base.reset, &base.replaces, steps);
            prop_assert_eq!(held, newest);
        }
    }

    #[test]
    fn of_more_folders_than_a_frame_holds_none_is_told_so_that_the_whole_world_comes() {
        let folders = |count: usize| {
            let keys = (0..count).map(|number| (format!("folder{number}/x"), 0));
            entries(&keys.collect())
        };
        let secrets = BTreeMap::new();
        let most = folders(MAX_FOLDERS);
        let told = holdings(&most, &secrets);
        assert_eq!(told.folders.len(), MAX_FOLDERS);
        assert!(!Base::held(&told, &most).reset);
        let more = folders(MAX_FOLDERS + 1);
        let told = holdings(&more, &secrets);
        assert_eq!(told, Holdings::default());
        assert!(Base::held(&told, &more).reset, "its own world comes as well");
    }

    #[test]
    fn other_names_or_values_are_another_digest() {
        let digest_of = |key: &str, value: &str| {
            let folder = Folder::from_iter([(Arc::from(key), Json::from(json!(value)))]);
            digest(&folder).to_owned()
        };
        assert_eq!(digest_of("a", "b"), digest_of("a", "b"));
        assert_ne!(digest_of("a", "b"), digest_of("a", "c"));
        assert_ne!(digest_of("a", "b"), digest_of("a\"", "b"));
    }
}

//! What is kept of entries that came to need more than this release has: what they last said without.

use std::sync::Arc;

use config::wire::{Entries, Entry, Json};
use config::world::lacking;

use super::Published;

/// The last that was understood of each entry that isn't, after a step.
pub(super) fn understood(before: &Published, changes: &[Entry], now: &Entries) -> Arc<Entries> {
    let lacks = |value: Option<&Json>| value.is_some_and(|value| !lacking(value).is_empty());
    let mut kept = Arc::clone(&before.understood);
    for key in before.understood.keys().filter(|key| !lacks(now.get(key))) {
        Arc::make_mut(&mut kept).remove(key);
    }
    for change in changes.iter().filter(|change| lacks(change.value.as_ref())) {
        if let Some(last) = before.entries.get(&change.key).filter(|last| !lacks(Some(last))) {
            Arc::make_mut(&mut kept).insert(&*change.key, last.clone());
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use config::world::patch;
    use serde_json::json;

    use super::*;

    #[test]
    fn it_lasts_until_the_entry_is_understood_again_or_gone() {
        let value = |number: u8| Some(Json::from(json!({"wonder": number})));
        let newer = || Some(Json::from(json!({"wonder": 3, "needs": ["fromTheFuture"]})));
        let mut world = Published::default();
        let mut step = |changes: &[(&str, Option<Json>)]| {
            let entry = |(key, value): &(&str, Option<Json>)| Entry { key: (*key).to_owned(), value: value.clone() };
            let changes: Vec<_> = changes.iter().map(entry).collect();
            let mut entries = (*world.entries).clone();
            patch(&mut entries, false, &[], changes.clone());
            let understood = understood(&world, &changes, &entries);
            world =
                Published { entries: Arc::new(entries), understood: Arc::clone(&understood), ..Published::default() };
            understood.iter().map(|(key, value)| (key.to_owned(), value.as_str().to_owned())).collect::<Vec<_>>()
        };
        let first = || vec![("a/x".to_owned(), "{\"wonder\":1}".to_owned())];
        assert_eq!(step(&[("a/x", value(1))]), []);
        assert_eq!(step(&[("a/x", newer()), ("a/y", newer())]), first());
        assert_eq!(step(&[("a/x", newer()), ("a/z", value(1))]), first());
        assert_eq!(step(&[("a/x", value(2))]), []);
        step(&[("a/x", newer())]);
        assert_eq!(step(&[("a/x", None)]), []);
    }
}

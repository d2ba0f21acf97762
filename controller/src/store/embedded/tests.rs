//! The store on a sound disk.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use config::resource::{ClusterSpec, Resource, Spec};

use super::super::Owner;
use super::place::FILE;
use super::*;

fn revision(name: &str) -> Revision {
    let resource = Resource {
        id: format!("Cluster/{name}").parse().unwrap(),
        labels: BTreeMap::new(),
        spec: Spec::Cluster(ClusterSpec::default()),
    };
    Revision { upserts: vec![Arc::new(resource)], ..Revision::new(0, Owner::Api, "ada", "apply") }
}

#[test]
fn revisions_outlive_a_reopening_and_only_one_writer_wins() {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(directory.path()).unwrap();
    assert_eq!(store.append(0, &revision("north")).unwrap(), 1);
    let late = store.append(0, &revision("south"));
    assert!(matches!(late, Err(StoreError::Overtaken { expected: 0, head: 1 })), "{late:?}");
    drop(store);
    let desired = EmbeddedStore::open(directory.path()).unwrap().load().unwrap();
    assert_eq!(desired.head, 1);
    assert_eq!(desired.resources.keys().map(ToString::to_string).collect::<Vec<_>>(), ["Cluster/north"]);
}

#[test]
fn checkpoints_change_nothing_that_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(directory.path()).unwrap();
    let mut expected = Desired::default();
    for step in 0..259 {
        let revision = revision(&format!("c{}", step % 7));
        store.append(step, &revision).unwrap();
        expected.apply(&revision);
    }
    assert_eq!(store.load().unwrap(), expected);
}

#[test]
fn a_record_is_swapped_only_if_it_is_as_expected() {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(directory.path()).unwrap();
    assert!(store.swap(Table::Tokens, "a", None, Some(b"1")).unwrap());
    assert!(!store.swap(Table::Tokens, "a", None, Some(b"2")).unwrap());
    assert_eq!(store.record(Table::Tokens, "a").unwrap().as_deref(), Some(&b"1"[..]));
    assert_eq!(store.records(Table::Labels).unwrap(), BTreeMap::new());
    assert!(store.swap(Table::Tokens, "a", Some(b"1"), None).unwrap());
    assert_eq!(store.records(Table::Tokens).unwrap(), BTreeMap::new());
}

#[test]
fn a_damaged_file_is_named_with_the_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let text = "this is no database at all".repeat(1000);
    identity::files::write_private(&directory.path().join(FILE), text.as_bytes()).unwrap();
    let error = EmbeddedStore::open(directory.path()).unwrap_err().to_string();
    assert!(error.contains(FILE) && error.contains("damaged") && error.contains("backup"), "{error}");
}

#[test]
fn a_file_that_others_may_use_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    drop(EmbeddedStore::open(directory.path()).unwrap());
    let (path, open) = (directory.path().join(FILE), std::fs::Permissions::from_mode(0o640));
    std::fs::set_permissions(&path, open).unwrap();
    let refused = EmbeddedStore::open(directory.path());
    assert!(matches!(refused, Err(StoreError::Exposed(_, 0o640))), "{refused:?}");
}

#[test]
fn an_altered_file_never_panics() {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(directory.path()).unwrap();
    (0..20).for_each(|key| store.set(Table::Tokens, &key.to_string(), Some(&[b'x'; 300])).unwrap());
    drop(store);
    let path = directory.path().join(FILE);
    let sound = std::fs::read(&path).unwrap();
    for at in (0..sound.len()).step_by(sound.len() / 64) {
        let mut altered = sound.clone();
        altered.iter_mut().skip(at).step_by(997).for_each(|byte| *byte ^= 0x41);
        std::fs::write(&path, altered).unwrap();
        // What was altered may have been a page that nothing needs any more.
        match EmbeddedStore::open(directory.path()) {
            Ok(store) => assert_eq!(store.records(Table::Tokens).unwrap().len(), 20),
            Err(error) => assert!(matches!(error, StoreError::Damaged { .. }), "{at}: {error}"),
        }
    }
}

#[test]
fn a_second_controller_is_told_of_the_first() {
    let directory = tempfile::tempdir().unwrap();
    let _first = EmbeddedStore::open(directory.path()).unwrap();
    let error = EmbeddedStore::open(directory.path()).unwrap_err();
    assert!(matches!(error, StoreError::InUse(_)), "{error}");
}

/// So many steps, each about one of seven clusters.
fn write(store: &EmbeddedStore, steps: std::ops::Range<u64>) {
    for step in steps {
        store.append(step, &revision(&format!("c{}", step % 7))).unwrap();
    }
}

#[test]
fn the_past_is_kept_as_far_as_it_shall_be_and_no_further() {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(directory.path()).unwrap().keeping(10);
    let mut states = vec![Desired::default()];
    for step in 0..60 {
        write(&store, step..step + 1);
        states.push(store.load().unwrap());
        let history = store.history().unwrap();
        assert!((10.min(step + 1)..=21).contains(&(history.steps.len() as u64)), "{}", history.steps.len());
        assert_eq!(history.at(history.oldest()).unwrap(), states[usize::try_from(history.oldest()).unwrap()]);
        assert_eq!(history.newest().unwrap(), states[states.len() - 1]);
    }
    drop(store);
    let store = EmbeddedStore::open(directory.path()).unwrap().keeping(10);
    assert_eq!(store.load().unwrap(), states[60]);
    assert!(store.history().unwrap().at(3).unwrap_err().to_string().contains("no revision 3"));
}

#[test]
fn a_page_of_the_past_costs_a_page_and_pages_make_the_whole() {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(directory.path()).unwrap().keeping(1000);
    let mut state = Desired::default();
    for number in 0..400 {
        // As this release writes steps, but for one in the middle, which a release before wrote.
        let step = revision(&format!("c{}", number % 7));
        let step = if number == 150 { step } else { step.on(&state) };
        store.append(number, &step).unwrap();
        state.apply(&step);
    }
    let whole = store.history().unwrap().rows(0..=u64::MAX);
    assert_eq!(whole.len(), 400);
    let (mut rows, mut before) = (Vec::new(), None);
    loop {
        let page = store.page(before, 60).unwrap();
        assert!(page.rows.len() <= 60 && page.more == (page.rows[0].revision > 1), "{before:?}");
        before = Some(page.rows[0].revision);
        rows.splice(0..0, page.rows);
        if !page.more {
            break;
        }
    }
    assert_eq!(rows, whole);
    assert_eq!(store.page(Some(1), 60).unwrap(), Page::default());

    let page = |bytes| {
        let read = store.read(|transaction| log::page(&transaction.open_table(LOG)?, 100, (60, bytes)));
        let (blobs, more) = read.unwrap();
        (store.parse(&blobs).unwrap().steps.iter().map(|(number, _)| *number).collect::<Vec<_>>(), more)
    };
    assert_eq!(page(1), (vec![99], true), "one, however long it is");
    assert_eq!(page(1000).0.last(), Some(&99));
    assert!((2..20).contains(&page(1000).0.len()) && page(1000).1);
}

#[test]
fn any_state_that_is_kept_is_found_from_the_nearest_that_is_whole() {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(directory.path()).unwrap().keeping(300);
    let mut states = vec![Desired::default()];
    for step in 0..700 {
        write(&store, step..step + 1);
        let mut next = states[states.len() - 1].clone();
        next.apply(&revision(&format!("c{}", step % 7)));
        states.push(next);
    }
    let oldest = store.history().unwrap().oldest();
    assert!(oldest > 0);
    for (at, state) in (0..).zip(&states) {
        match store.at(at) {
            Ok(found) => assert!(at >= oldest && found == *state, "{at}"),
            Err(StoreError::NoRevision { asked, oldest: told, head: 700 }) => {
                assert!(asked == at && told == oldest && at < oldest)
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!(matches!(store.at(701), Err(StoreError::NoRevision { head: 700, .. })));
    let steps = |revision| {
        let read = store.read(|transaction| {
            let (bases, checkpoints) = (transaction.open_table(BASES)?, transaction.open_table(CHECKPOINTS)?);
            log::until(&[&bases, &checkpoints], &transaction.open_table(LOG)?, revision)
        });
        store.parse(&read.unwrap()).unwrap().steps.len()
    };
    assert!(steps(700) < 256, "not from the oldest on");
}

#[test]
fn what_was_before_the_checkpoint_is_found_while_nothing_is_folded() {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(directory.path()).unwrap();
    write(&store, 0..300);
    for revision in [0, 1, 100, 255, 256, 257, 300] {
        assert_eq!(store.at(revision).unwrap(), store.history().unwrap().at(revision).unwrap(), "{revision}");
    }
}

#[test]
fn the_past_is_bounded_by_its_bytes_too() {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(directory.path()).unwrap();
    let store = EmbeddedStore { retention: Retention { revisions: 1000, bytes: 4000 }, ..store };
    write(&store, 0..200);
    let steps = store.history().unwrap().steps;
    let bytes: usize = steps.iter().map(|(_, step)| serde_json::to_vec(step).unwrap().len()).sum();
    assert!(bytes <= 4000 && steps.len() > 5, "{bytes} bytes in {} steps", steps.len());
    assert_eq!(store.load().unwrap().head, 200);
}

/// As a version that knew no bases left it: the newest whole state, and steps of which the oldest were removed.
fn without_bases(store: &EmbeddedStore) {
    store
        .write(|transaction| {
            transaction.delete_table(BASES)?;
            let mut log = transaction.open_table(LOG)?;
            log.retain(|step, _| step > 100)?;
            Ok(())
        })
        .unwrap();
}

#[test]
fn what_an_older_version_wrote_is_read_and_its_past_begins_with_its_newest_state() {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(directory.path()).unwrap();
    write(&store, 0..300);
    without_bases(&store);
    let desired = store.load().unwrap();
    drop(store);
    let store = EmbeddedStore::open(directory.path()).unwrap();
    assert_eq!(store.load().unwrap(), desired);
    let history = store.history().unwrap();
    assert_eq!((history.oldest(), history.head(), history.newest().unwrap()), (256, 300, desired));
}

#[test]
fn what_a_newer_version_wrote_is_refused_by_name_and_untouched() {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(directory.path()).unwrap();
    write(&store, 0..3);
    store.write(|transaction| Ok(transaction.open_table(META)?.insert("format", 2).map(drop)?)).unwrap();
    drop(store);
    let path = directory.path().join(FILE);
    let before = std::fs::read(&path).unwrap();
    let error = EmbeddedStore::open(directory.path()).unwrap_err();
    assert!(matches!(error, StoreError::Format { found: 2, expected: 1, .. }), "{error}");
    assert!(std::fs::read(&path).unwrap() == before, "it was written to");
}

#[test]
fn a_database_that_is_gone_or_emptied_is_not_made_anew_where_there_was_one() {
    for trace in ["audit.log", "vault.key"] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        drop(EmbeddedStore::open(directory.path()).unwrap());
        std::fs::write(directory.path().join(trace), "x").unwrap();
        std::fs::write(&path, "").unwrap();
        for _ in 0..2 {
            let error = EmbeddedStore::open(directory.path()).unwrap_err();
            let text = error.to_string();
            assert!(
                matches!(error, StoreError::Gone { .. }) && text.contains(trace) && text.contains("restore"),
                "{text}"
            );
            _ = std::fs::remove_file(&path);
        }
    }
}

#[test]
fn a_first_start_that_was_cut_off_begins_again() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("controller.redb.new"), "half of a database").unwrap();
    write(&EmbeddedStore::open(directory.path()).unwrap(), 0..1);
}

#[test]
fn a_backup_takes_the_place_of_a_database_which_is_kept_beside_it() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = EmbeddedStore::open(from.path()).unwrap().keeping(10);
    write(&store, 0..50);
    store.set(Table::Tokens, "a", Some(b"1")).unwrap();
    let backup = Contents::of_backup(&store.contents().unwrap().to_backup().unwrap()).unwrap();
    assert_eq!(EmbeddedStore::replace(to.path(), &backup).unwrap(), None);
    let restored = EmbeddedStore::open(to.path()).unwrap();
    assert_eq!(restored.contents().unwrap(), store.contents().unwrap());
    assert_eq!(restored.load().unwrap(), store.load().unwrap());
    let refused = EmbeddedStore::replace(to.path(), &backup);
    assert!(matches!(refused, Err(StoreError::InUse(_))), "{refused:?}");
    write(&restored, 50..52);
    drop(restored);
    let kept = [(); 3].map(|()| EmbeddedStore::replace(to.path(), &backup).unwrap().unwrap());
    let heads = kept.map(|kept| {
        std::fs::remove_file(to.path().join(FILE)).unwrap();
        std::fs::rename(kept, to.path().join(FILE)).unwrap();
        EmbeddedStore::open(to.path()).unwrap().load().unwrap().head
    });
    assert_eq!(heads, [52, 50, 50], "each that was replaced is kept, also the first");
}

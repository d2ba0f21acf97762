//! The controller's state on a store that fails.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use super::*;
use crate::audit;
use crate::store::{Change, Contents, EmbeddedStore, Page, StoreError, Table};

/// A store of which the medium takes no writes while it shall not.
#[derive(Debug)]
struct Moody {
    inner: EmbeddedStore,
    full: AtomicBool,
}

impl Moody {
    fn admit(&self) -> Result<(), StoreError> {
        let source = || io::Error::from(io::ErrorKind::StorageFull);
        match self.full.load(Ordering::SeqCst) {
            true => Err(StoreError::Unwritten { path: "/disk/controller.redb".into(), source: source() }),
            false => Ok(()),
        }
    }
}

impl Store for Moody {
    fn load(&self) -> Result<Desired, StoreError> {
        self.inner.load()
    }

    fn head(&self) -> Result<u64, StoreError> {
        self.inner.head()
    }

    fn page(&self, before: Option<u64>, limit: usize) -> Result<Page, StoreError> {
        self.inner.page(before, limit)
    }

    fn at(&self, revision: u64) -> Result<Desired, StoreError> {
        self.inner.at(revision)
    }

    fn contents(&self) -> Result<Contents, StoreError> {
        self.inner.contents()
    }

    fn append(&self, expected: u64, revision: &Revision) -> Result<u64, StoreError> {
        self.admit()?;
        self.inner.append(expected, revision)
    }

    fn records(&self, table: Table) -> Result<BTreeMap<String, Vec<u8>>, StoreError> {
        self.inner.records(table)
    }

    fn record(&self, table: Table, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.record(table, key)
    }

    fn swap(&self, table: Table, key: &str, expected: Option<&[u8]>, new: Option<&[u8]>) -> Result<bool, StoreError> {
        self.admit()?;
        self.inner.swap(table, key, expected, new)
    }

    fn change(&self, changes: &[Change]) -> Result<(), StoreError> {
        self.admit()?;
        self.inner.change(changes)
    }
}

fn open(directory: &Path) -> (Core, Arc<Moody>) {
    let store = Arc::new(Moody { inner: EmbeddedStore::open(directory).unwrap(), full: AtomicBool::default() });
    let opened: Arc<dyn Store> = store.clone();
    (Core::open("mesh.example", directory, SealKeys::default(), opened).unwrap(), store)
}

fn batch(name: &str) -> Apply {
    let spec = json!({"domain": format!("{name}.internal")});
    let manifest = json!({"apiVersion": "tombolo.dev/v1alpha1", "kind": "GlobalNamespace", "metadata": {"name": name},
        "spec": spec});
    Apply { manifests: vec![manifest], ..Apply::default() }
}

fn ids(core: &Core) -> Vec<String> {
    core.view().desired.resources.keys().map(ToString::to_string).collect()
}

/// What was done to what, and of failures why.
fn lines(directory: &Path) -> Vec<(String, String, bool)> {
    let line = |entry: audit::Entry| {
        let entry: Value = serde_json::to_value(entry).unwrap();
        let why = entry["details"]["error"].as_str().unwrap_or_default().contains("/disk/controller.redb");
        (entry["what"].as_str().unwrap().to_owned(), entry["on"][0].as_str().unwrap_or_default().to_owned(), why)
    };
    audit::read(&directory.join(AUDIT_LOG), usize::MAX).unwrap().into_iter().map(line).collect()
}

#[test]
fn a_change_that_could_not_be_written_is_told_in_the_audit_log_and_does_not_count() {
    let directory = tempfile::tempdir().unwrap();
    let (core, store) = open(directory.path());
    let permit = Permit::of_process();
    core.apply(&permit, batch("a")).unwrap();
    let before = lines(directory.path()).len();

    store.full.store(true, Ordering::SeqCst);
    let id: ResourceId = "GlobalNamespace/a".parse().unwrap();
    assert!(core.apply(&permit, batch("b")).unwrap_err().disk().is_some());
    assert!(core.delete(&permit, &id, Owner::Api).unwrap_err().disk().is_some());
    let back = super::super::past::Rollback { revision: 0, dry_run: false, diff: false };
    assert!(core.rollback(&permit, &back).unwrap_err().disk().is_some());
    assert_eq!(ids(&core), ["GlobalNamespace/a"]);
    let told: Vec<_> = lines(directory.path()).split_off(before);
    let line = |what: &str, on: &str, why| (what.to_owned(), on.to_owned(), why);
    let expected = [
        line("apply", "GlobalNamespace/b created", false),
        line("apply.failed", "", true),
        line("delete", "GlobalNamespace/a removed", false),
        line("delete.failed", "", true),
        line("rollback to 0", "GlobalNamespace/a removed", false),
        line("rollback to 0.failed", "", true),
    ];
    assert_eq!(told, expected);

    store.full.store(false, Ordering::SeqCst);
    core.apply(&permit, batch("b")).unwrap();
    assert_eq!(ids(&core), ["GlobalNamespace/a", "GlobalNamespace/b"]);
    drop((core, store));
    assert_eq!(ids(&open(directory.path()).0), ["GlobalNamespace/a", "GlobalNamespace/b"]);
}

#[test]
fn no_more_look_at_the_past_than_may() {
    let directory = tempfile::tempdir().unwrap();
    let (core, _) = open(directory.path());
    core.apply(&Permit::of_process(), batch("a")).unwrap();
    let places: Vec<_> = (0..HISTORIANS).map(|_| core.historians.try_acquire().unwrap()).collect();
    core.backup(&Permit::of_process()).unwrap(); // whoever only looks is in nobody's way
    let place = core.keepers.try_acquire().unwrap();
    let back = super::super::past::Rollback { revision: 0, dry_run: true, diff: false };
    let refused = [
        core.history(&Permit::of_process(), None, 9).map(drop),
        core.manifests_at(&Permit::of_process(), 0, |_| true).map(drop),
        core.rollback(&Permit::of_process(), &back).map(drop),
        core.backup(&Permit::of_process()).map(drop),
    ];
    for refused in refused {
        let Err(Error::Busy(said)) = refused else { panic!("{refused:?}") };
        assert!(said.contains("already") && said.contains("try again"), "{said}");
    }
    drop((places, place));
    assert_eq!(core.history(&Permit::of_process(), None, 9).unwrap().rows.len(), 1);
}

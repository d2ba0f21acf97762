//! The store in one file, by redb: the default, without a database server.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{
    Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError, TableDefinition, WriteTransaction,
};

use super::{Change, Desired, Revision, Store, StoreError, Table};

const FILE: &str = "controller.redb";
/// What `FILE` holds; changes when older versions could not read it.
const FORMAT: u64 = 1;
/// So often the whole state is written beside the log, so that a start reads few steps.
const CHECKPOINT_EVERY: u64 = 256;
/// So many steps before the newest checkpoint are kept, as history.
const HISTORY: u64 = 4096;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
const CHECKPOINTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("checkpoints");
const RECORDS: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("records");

/// The store in one file of a state directory.
#[derive(Debug)]
pub struct EmbeddedStore {
    path: PathBuf,
    database: Database,
}

impl EmbeddedStore {
    /// Opens the database in `directory`, and makes both when they are absent.
    ///
    /// # Errors
    /// When the file is damaged, of a newer format, in use by another process, or cannot be opened.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let path = directory.join(FILE);
        let io = |source| StoreError::Io { path: path.clone(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(io)?;
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.map_err(io)?;
        let mode = file.metadata().map_err(io)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(StoreError::Exposed(path, mode));
        }
        // Every page's checksum is verified now, because redb panics on damage that it meets later.
        let database = FileBackend::new(file)
            .and_then(|file| Builder::new().set_check_integrity_on_open(true).create_with_backend(file));
        let store = EmbeddedStore { database: database.map_err(|error| opening(&path, error))?, path };
        store.prepare()?;
        Ok(store)
    }

    /// Makes the tables, and refuses what a newer version wrote.
    fn prepare(&self) -> Result<(), StoreError> {
        self.write(|transaction| {
            transaction.open_table(LOG)?;
            transaction.open_table(CHECKPOINTS)?;
            transaction.open_table(RECORDS)?;
            let mut meta = transaction.open_table(META)?;
            let found = meta.get("format")?.map(|value| value.value());
            if found.is_none() {
                meta.insert("format", FORMAT)?;
            }
            match found.unwrap_or(FORMAT) {
                FORMAT => Ok(()),
                found => Err(StoreError::Format { path: self.path.clone(), found, expected: FORMAT }.into()),
            }
        })
    }

    fn write<T>(&self, change: impl FnOnce(&WriteTransaction) -> Result<T, Fault>) -> Result<T, StoreError> {
        let attempt = || {
            let transaction = self.database.begin_write()?;
            let result = change(&transaction)?;
            transaction.commit()?;
            Ok(result)
        };
        attempt().map_err(|fault| self.name(fault))
    }

    fn name(&self, fault: Fault) -> StoreError {
        match fault {
            Fault::Ours(error) => error,
            Fault::Json(error) => StoreError::Damaged { path: self.path.clone(), reason: error.to_string() },
            Fault::Redb(error) => failing(&self.path, *error),
        }
    }
}

/// What can go wrong within a transaction.
enum Fault {
    Ours(StoreError),
    Json(serde_json::Error),
    Redb(Box<redb::Error>),
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Fault::Ours(error)
    }
}

impl From<serde_json::Error> for Fault {
    fn from(error: serde_json::Error) -> Self {
        Fault::Json(error)
    }
}

macro_rules! from_redb {
    ($($error:ty),*) => {$(
        impl From<$error> for Fault {
            fn from(error: $error) -> Self {
                Fault::Redb(Box::new(error.into()))
            }
        }
    )*};
}
from_redb!(StorageError, redb::TableError, redb::TransactionError, redb::CommitError);

fn opening(path: &Path, error: DatabaseError) -> StoreError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => StoreError::InUse(path.to_owned()),
        other => failing(path, other.into()),
    }
}

/// redb reports a file that is no database of its own as invalid data.
fn failing(path: &Path, error: redb::Error) -> StoreError {
    let path = path.to_owned();
    match error {
        redb::Error::Io(source) if source.kind() != std::io::ErrorKind::InvalidData => StoreError::Io { path, source },
        other => StoreError::Damaged { path, reason: other.to_string() },
    }
}

/// Reads the newest checkpoint and takes the steps after it.
fn replay(
    checkpoints: &impl ReadableTable<u64, &'static [u8]>,
    log: &impl ReadableTable<u64, &'static [u8]>,
) -> Result<Desired, Fault> {
    let mut desired = match checkpoints.last()? {
        Some((_, checkpoint)) => serde_json::from_slice(checkpoint.value())?,
        None => Desired::default(),
    };
    for step in log.range(desired.head + 1..)? {
        desired.apply(&serde_json::from_slice(step?.1.value())?);
    }
    Ok(desired)
}

fn append(transaction: &WriteTransaction, expected: u64, revision: &[u8]) -> Result<u64, Fault> {
    let mut meta = transaction.open_table(META)?;
    let head = meta.get("head")?.map_or(0, |value| value.value());
    if head != expected {
        return Err(StoreError::Overtaken { expected, head }.into());
    }
    let head = head + 1;
    transaction.open_table(LOG)?.insert(head, revision)?;
    meta.insert("head", head)?;
    if head % CHECKPOINT_EVERY == 0 {
        checkpoint(transaction, head)?;
    }
    Ok(head)
}

fn checkpoint(transaction: &WriteTransaction, head: u64) -> Result<(), Fault> {
    let mut log = transaction.open_table(LOG)?;
    let mut checkpoints = transaction.open_table(CHECKPOINTS)?;
    let state = serde_json::to_vec(&replay(&checkpoints, &log)?)?;
    checkpoints.retain(|_, _| false)?;
    checkpoints.insert(head, state.as_slice())?;
    log.retain(|step, _| step + HISTORY > head)?;
    Ok(())
}

impl Store for EmbeddedStore {
    fn load(&self) -> Result<Desired, StoreError> {
        let read = || {
            let transaction = self.database.begin_read()?;
            replay(&transaction.open_table(CHECKPOINTS)?, &transaction.open_table(LOG)?)
        };
        read().map_err(|fault| self.name(fault))
    }

    fn append(&self, expected: u64, revision: &Revision) -> Result<u64, StoreError> {
        self.write(|transaction| append(transaction, expected, &serde_json::to_vec(revision)?))
    }

    fn records(&self, table: Table) -> Result<BTreeMap<String, Vec<u8>>, StoreError> {
        let read = || {
            let records = self.database.begin_read()?.open_table(RECORDS)?;
            let mut found = BTreeMap::new();
            for record in records.range((table.name(), "")..)? {
                let (key, value) = record?;
                let (name, key) = key.value();
                if name != table.name() {
                    break;
                }
                found.insert(key.to_owned(), value.value().to_owned());
            }
            Ok(found)
        };
        read().map_err(|fault| self.name(fault))
    }

    fn record(&self, table: Table, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let read = || {
            let records = self.database.begin_read()?.open_table(RECORDS)?;
            Ok(records.get((table.name(), key))?.map(|value| value.value().to_owned()))
        };
        read().map_err(|fault| self.name(fault))
    }

    fn swap(&self, table: Table, key: &str, expected: Option<&[u8]>, new: Option<&[u8]>) -> Result<bool, StoreError> {
        self.write(|transaction| {
            let mut records = transaction.open_table(RECORDS)?;
            let key = (table.name(), key);
            if records.get(key)?.as_ref().map(|value| value.value()) != expected {
                return Ok(false);
            }
            match new {
                Some(new) => drop(records.insert(key, new)?),
                None => drop(records.remove(key)?),
            }
            Ok(true)
        })
    }

    fn change(&self, changes: &[Change]) -> Result<(), StoreError> {
        self.write(|transaction| {
            let mut records = transaction.open_table(RECORDS)?;
            for Change { table, key, value } in changes {
                let key = (table.name(), key.as_str());
                match value {
                    Some(value) => drop(records.insert(key, value.as_slice())?),
                    None => drop(records.remove(key)?),
                }
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
    use std::sync::Arc;

    use config::resource::{ClusterSpec, Resource, Spec};

    use super::super::Owner;
    use super::*;

    fn revision(name: &str) -> Revision {
        let resource = Resource {
            id: format!("Cluster/{name}").parse().unwrap(),
            labels: BTreeMap::new(),
            spec: Spec::Cluster(ClusterSpec::default()),
        };
        Revision { at: 0, by: Owner::Api, upserts: vec![Arc::new(resource)], removals: vec![] }
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
        for step in 0..CHECKPOINT_EVERY + 3 {
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
}

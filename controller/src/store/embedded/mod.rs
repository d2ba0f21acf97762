//! The store in one file, by redb: the default, without a database server.
//!
//! redb verifies its pages by checksums, and a commit counts whole or not at all. After any failure of the disk it does
//! nothing more until it is opened anew; that is done here, and tells whether what failed took effect.

mod fault;
mod log;
mod medium;
mod place;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, PoisonError, RwLock};

use redb::{
    Builder, Database, DatabaseError, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, TableError,
    WriteTransaction,
};

use self::fault::Fault;
use self::log::{BASES, Blobs, CHECKPOINTS, LOG, META, Retention};
use self::medium::{FileMedium, Medium, Watched};
use super::{Change, Contents, Desired, History, Page, Revision, Row, Store, StoreError, Table};

/// What the file holds; changes when older versions could not read it.
const FORMAT: u64 = 1;
/// So many revisions are kept unless told otherwise.
pub const HISTORY: u64 = 1000;
/// The revisions that are kept have no more bytes than this, but for the newest.
const HISTORY_BYTES: u64 = 64 * 1024 * 1024;
/// So many bytes of steps are read for a page of the history at most, but for a single step.
const PAGE_BYTES: usize = 8 * 1024 * 1024;

const RECORDS: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("records");
/// Each transaction counts itself, so that it can be told whether one that failed took effect.
const SERIAL: &str = "serial";

/// The store in one file of a state directory.
#[derive(Debug)]
pub struct EmbeddedStore {
    path: PathBuf,
    medium: Box<dyn Medium>,
    /// Nothing after a failure, until it can be opened anew. A writer holds it alone until all is on disk.
    database: RwLock<Option<Database>>,
    /// A sync failed since it was opened.
    unsynced: Arc<AtomicBool>,
    retention: Retention,
}

impl EmbeddedStore {
    /// Opens the database in `directory`, and makes both when they are absent.
    ///
    /// # Errors
    /// When the file is damaged, gone, of a newer format, in use by another process, or cannot be opened.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let path = place::prepare(directory)?;
        Self::of(Box::new(FileMedium(path.clone())), path)
    }

    /// Keeps so many revisions at least, if they aren't too long.
    #[must_use]
    pub fn keeping(self, revisions: u64) -> Self {
        EmbeddedStore { retention: Retention { revisions, ..self.retention }, ..self }
    }

    /// Makes a database of these contents in `directory`, in place of the one that is there, which is kept beside it.
    /// Returns where, if there was one.
    ///
    /// # Errors
    /// When it is in use, or the new one cannot be written. The old one is then untouched.
    pub fn replace(directory: &Path, contents: &Contents) -> Result<Option<PathBuf>, StoreError> {
        place::replace(directory, contents)
    }

    fn of(medium: Box<dyn Medium>, path: PathBuf) -> Result<Self, StoreError> {
        let retention = Retention { revisions: HISTORY, bytes: HISTORY_BYTES };
        let store = EmbeddedStore { path, medium, database: RwLock::default(), unsynced: Arc::default(), retention };
        let named = |fault: Fault| fault.name(&store.path);
        store.inspect().map_err(named)?;
        let database = store.connect().map_err(named)?;
        prepare(&database).map_err(named)?;
        *store.database.write().unwrap_or_else(PoisonError::into_inner) = Some(database);
        Ok(store)
    }

    /// Looks at a copy in memory first, so that nothing is written to what is damaged or of a newer format: to open a
    /// database is to write to it.
    fn inspect(&self) -> Result<(), Fault> {
        let copy = medium::copy(&*self.medium)?.ok_or_else(|| StoreError::InUse(self.path.clone()))?;
        let database = Builder::new().set_check_integrity_on_open(true).create_with_backend(copy)?;
        check_format(&database.begin_read()?, &self.path)
    }

    fn backend(&self) -> Result<Watched, Fault> {
        Ok(Watched::resume(self.medium.open()?, &self.unsynced)?)
    }

    /// Every page's checksum is verified now, because redb panics on damage that it meets later.
    fn connect(&self) -> Result<Database, Fault> {
        let database = Builder::new().set_check_integrity_on_open(true).create_with_backend(self.backend()?);
        let database = database.map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => Fault::Ours(StoreError::InUse(self.path.clone())),
            other => other.into(),
        })?;
        check_format(&database.begin_read()?, &self.path)?;
        Ok(database)
    }

    /// Looks at the database. Where the disk fails, once more after opening it anew.
    fn read<T>(&self, look: impl Fn(&ReadTransaction) -> Result<T, Fault>) -> Result<T, StoreError> {
        let look = |database: &Database| look(&database.begin_read()?);
        let held = self.database.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(database) = &*held {
            match look(database).map_err(Fault::disk) {
                Ok(found) => return Ok(found),
                Err(Err(fault)) => return Err(fault.name(&self.path)),
                Err(Ok(error)) => self.tell(&error),
            }
        }
        drop(held);
        let mut held = self.database.write().unwrap_or_else(PoisonError::into_inner);
        *held = None;
        let found = self.connect().and_then(|database| look(held.insert(database)));
        found.map_err(|fault| fault.name(&self.path))
    }

    /// Changes the database in one transaction, which is on disk when this returns. Where the disk fails, opens it anew to
    /// see whether the change took effect.
    fn write<T>(&self, change: impl FnOnce(&WriteTransaction) -> Result<T, Fault>) -> Result<T, StoreError> {
        let mut held = self.database.write().unwrap_or_else(PoisonError::into_inner);
        let database = match held.take() {
            Some(database) => database,
            None => self.connect().map_err(|fault| self.unwritten(fault))?,
        };
        match attempt(&database, change).map_err(|(fault, pending)| (fault.disk(), pending)) {
            Ok(result) => {
                *held = Some(database);
                Ok(result)
            }
            Err((Err(fault), _)) => {
                *held = Some(database);
                Err(fault.name(&self.path))
            }
            Err((Ok(source), pending)) => {
                drop(database);
                self.settle(&mut held, pending, source)
            }
        }
    }

    /// Whether what failed took effect. Whatever is found was written anew, so it is on disk.
    fn settle<T>(&self, held: &mut Option<Database>, pending: Pending<T>, source: io::Error) -> Result<T, StoreError> {
        self.tell(&source);
        let path = self.path.clone();
        // Before its last step a transaction has changed nothing.
        let Some((result, serial)) = pending else { return Err(StoreError::Unwritten { path, source }) };
        match self.connect().and_then(|database| Ok((serial_of(&database)?, database))) {
            Ok((found, database)) => {
                *held = Some(database);
                if found == serial { Ok(result) } else { Err(StoreError::Unwritten { path, source }) }
            }
            Err(_) => Err(StoreError::Doubtful { path, source }),
        }
    }

    /// The whole past that is kept.
    fn history(&self) -> Result<History, StoreError> {
        let blobs =
            self.read(|transaction| log::history(&transaction.open_table(BASES)?, &transaction.open_table(LOG)?));
        self.parse(&blobs?)
    }

    fn parse(&self, blobs: &Blobs) -> Result<History, StoreError> {
        blobs.read().map_err(|fault| fault.name(&self.path))
    }

    fn unwritten(&self, fault: Fault) -> StoreError {
        match fault.disk() {
            Ok(source) => StoreError::Unwritten { path: self.path.clone(), source },
            Err(other) => other.name(&self.path),
        }
    }

    fn tell(&self, error: &io::Error) {
        tracing::error!(path = %self.path.display(), %error, "the disk failed; the database is opened anew");
    }
}

/// The records of all tables, by table and key.
type AllRecords = BTreeMap<(String, String), Vec<u8>>;

/// What a transaction that failed at its last step would have led to, and its number.
type Pending<T> = Option<(T, u64)>;

fn attempt<T>(
    database: &Database,
    change: impl FnOnce(&WriteTransaction) -> Result<T, Fault>,
) -> Result<T, (Fault, Pending<T>)> {
    let prepare = || -> Result<_, Fault> {
        let transaction = database.begin_write()?;
        let result = change(&transaction)?;
        let serial = count(&transaction)?;
        Ok((transaction, result, serial))
    };
    let (transaction, result, serial) = prepare().map_err(|fault| (fault, None))?;
    match transaction.commit() {
        Ok(()) => Ok(result),
        Err(error) => Err((error.into(), Some((result, serial)))),
    }
}

fn count(transaction: &WriteTransaction) -> Result<u64, Fault> {
    let mut meta = transaction.open_table(META)?;
    let serial = meta.get(SERIAL)?.map_or(0, |value| value.value()).wrapping_add(1);
    meta.insert(SERIAL, serial)?;
    Ok(serial)
}

fn serial_of(database: &Database) -> Result<u64, Fault> {
    let serial = database.begin_read()?.open_table(META)?.get(SERIAL)?.map(|value| value.value());
    Ok(serial.unwrap_or_default())
}

fn check_format(transaction: &ReadTransaction, path: &Path) -> Result<(), Fault> {
    let found = match transaction.open_table(META) {
        Err(TableError::TableDoesNotExist(_)) => None,
        meta => meta?.get("format")?.map(|value| value.value()),
    };
    match found.unwrap_or(FORMAT) {
        FORMAT => Ok(()),
        found => Err(StoreError::Format { path: path.to_owned(), found, expected: FORMAT }.into()),
    }
}

/// Makes the tables that aren't there. Writes nothing otherwise: a start needs no room on the disk.
fn prepare(database: &Database) -> Result<(), Fault> {
    let is_sound = || -> Result<bool, Fault> {
        let transaction = database.begin_read()?;
        transaction.open_table(RECORDS)?;
        transaction.open_table(CHECKPOINTS)?;
        let format = transaction.open_table(META)?.get("format")?.is_some();
        Ok(format && log::is_based(&transaction.open_table(BASES)?, &transaction.open_table(LOG)?)?)
    };
    match is_sound() {
        Ok(true) => return Ok(()),
        Err(Fault::Redb(error)) if !matches!(*error, redb::Error::TableDoesNotExist(_)) => {
            return Err(Fault::Redb(error));
        }
        Err(fault @ (Fault::Ours(_) | Fault::Nonsense(_))) => return Err(fault),
        Ok(false) | Err(Fault::Redb(_)) => {}
    }
    let transaction = database.begin_write()?;
    transaction.open_table(LOG)?;
    transaction.open_table(CHECKPOINTS)?;
    transaction.open_table(BASES)?;
    transaction.open_table(RECORDS)?;
    transaction.open_table(META)?.insert("format", FORMAT)?;
    log::rebase(&transaction)?;
    Ok(transaction.commit()?)
}

fn records(transaction: &ReadTransaction, table: &str) -> Result<BTreeMap<String, Vec<u8>>, Fault> {
    let records = transaction.open_table(RECORDS)?;
    let mut found = BTreeMap::new();
    for record in records.range((table, "")..)? {
        let (key, value) = record?;
        let (name, key) = key.value();
        if name != table {
            break;
        }
        found.insert(key.to_owned(), value.value().to_owned());
    }
    Ok(found)
}

fn contents(transaction: &ReadTransaction) -> Result<(Blobs, AllRecords), Fault> {
    let history = log::history(&transaction.open_table(BASES)?, &transaction.open_table(LOG)?)?;
    let mut records = BTreeMap::new();
    for record in transaction.open_table(RECORDS)?.iter()? {
        let (key, value) = record?;
        let (table, key) = key.value();
        records.insert((table.to_owned(), key.to_owned()), value.value().to_owned());
    }
    Ok((history, records))
}

fn put(transaction: &WriteTransaction, table: &str, key: &str, value: Option<&[u8]>) -> Result<(), Fault> {
    let mut records = transaction.open_table(RECORDS)?;
    match value {
        Some(value) => drop(records.insert((table, key), value)?),
        None => drop(records.remove((table, key))?),
    }
    Ok(())
}

impl Store for EmbeddedStore {
    fn load(&self) -> Result<Desired, StoreError> {
        self.read(|transaction| {
            let head = log::head(&transaction.open_table(META)?)?;
            log::replay(&transaction.open_table(CHECKPOINTS)?, &transaction.open_table(LOG)?, head)
        })
    }

    fn head(&self) -> Result<u64, StoreError> {
        self.read(|transaction| log::head(&transaction.open_table(META)?))
    }

    fn page(&self, before: Option<u64>, limit: usize) -> Result<Page, StoreError> {
        let before = before.unwrap_or(u64::MAX);
        let (blobs, more) =
            self.read(|transaction| log::page(&transaction.open_table(LOG)?, before, (limit, PAGE_BYTES)))?;
        let steps = self.parse(&blobs)?.steps;
        let told: Option<Vec<Row>> = steps.iter().map(|(number, step)| Row::of(*number, step)).collect();
        let rows = match (told, steps.as_slice()) {
            (Some(rows), _) => rows,
            (None, [(first, _), ..]) => self.history()?.rows(*first..=before.saturating_sub(1)),
            (None, []) => Vec::new(),
        };
        Ok(Page { rows, more })
    }

    fn at(&self, revision: u64) -> Result<Desired, StoreError> {
        let (blobs, oldest, head) = self.read(|transaction| {
            let (bases, checkpoints) = (transaction.open_table(BASES)?, transaction.open_table(CHECKPOINTS)?);
            let oldest = bases.last()?.map_or(0, |(at, _)| at.value());
            let blobs = log::until(&[&bases, &checkpoints], &transaction.open_table(LOG)?, revision)?;
            Ok((blobs, oldest, log::head(&transaction.open_table(META)?)?))
        })?;
        let state = self.parse(&blobs)?.at(revision);
        state.map_err(|error| match error {
            StoreError::NoRevision { asked, .. } => StoreError::NoRevision { asked, oldest, head },
            other => other,
        })
    }

    fn contents(&self) -> Result<Contents, StoreError> {
        let (blobs, records) = self.read(contents)?;
        Ok(Contents { history: self.parse(&blobs)?, records })
    }

    fn append(&self, expected: u64, revision: &Revision) -> Result<u64, StoreError> {
        self.write(|transaction| log::append(transaction, expected, &serde_json::to_vec(revision)?, self.retention))
    }

    fn records(&self, table: Table) -> Result<BTreeMap<String, Vec<u8>>, StoreError> {
        self.read(|transaction| records(transaction, table.name()))
    }

    fn record(&self, table: Table, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(|transaction| {
            let found = transaction.open_table(RECORDS)?.get((table.name(), key))?;
            Ok(found.map(|value| value.value().to_owned()))
        })
    }

    fn swap(&self, table: Table, key: &str, expected: Option<&[u8]>, new: Option<&[u8]>) -> Result<bool, StoreError> {
        self.write(|transaction| {
            let found =
                transaction.open_table(RECORDS)?.get((table.name(), key))?.map(|value| value.value().to_owned());
            if found.as_deref() != expected {
                return Ok(false);
            }
            put(transaction, table.name(), key, new)?;
            Ok(true)
        })
    }

    fn change(&self, changes: &[Change]) -> Result<(), StoreError> {
        self.write(|transaction| {
            changes
                .iter()
                .try_for_each(|change| put(transaction, change.table.name(), &change.key, change.value.as_deref()))
        })
    }
}

#[cfg(test)]
mod faults;
#[cfg(test)]
mod tests;

//! The database's file in a state directory: made whole or not at all, and never made anew where there was one.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::ops::Bound;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{Database, StorageBackend};

use super::super::{Contents, StoreError};
use super::fault::Fault;
use super::log::{self, META};
use super::medium::{FileMedium, Medium};
use super::{FORMAT, prepare as prepare_tables, put};

pub(super) const FILE: &str = "controller.redb";
/// A database that isn't finished.
const NEW: &str = "controller.redb.new";
/// The database in whose place a backup was restored; later ones have a number behind it.
const REPLACED: &str = "controller.redb.replaced";
/// What a controller leaves in its directory after the database is made: where one is, there was a database.
const TRACES: [&str; 2] = ["audit.log", "vault.key"];

/// Makes the directory and the database where they are absent, and returns the database's path.
///
/// # Errors
/// When the database is gone or emptied, others may use it, or it cannot be made.
pub(super) fn prepare(directory: &Path) -> Result<PathBuf, StoreError> {
    let path = directory.join(FILE);
    let io = |source| StoreError::Io { path: path.clone(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(io)?;
    match fs::metadata(&path) {
        Ok(found) => {
            let mode = found.permissions().mode() & 0o777;
            if mode & 0o077 != 0 {
                return Err(StoreError::Exposed(path, mode));
            }
            if found.len() > 0 {
                return Ok(path);
            }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(io(error)),
    }
    if let Some(trace) = trace(directory) {
        return Err(StoreError::Gone { path, trace });
    }
    make(directory, None)?;
    fs::rename(directory.join(NEW), &path).and_then(|()| sync(directory)).map_err(io)?;
    Ok(path)
}

/// What tells that there was a database.
fn trace(directory: &Path) -> Option<PathBuf> {
    let is_there = |path: &PathBuf| fs::metadata(path).is_ok_and(|found| found.len() > 0);
    TRACES.iter().map(|name| directory.join(name)).find(is_there)
}

/// Makes a database beside the one that counts.
fn make(directory: &Path, contents: Option<&Contents>) -> Result<(), StoreError> {
    let path = directory.join(NEW);
    let io = |source| StoreError::Io { path: path.clone(), source };
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(&path);
    let file = file.map_err(io)?;
    let filled = file.try_clone().map_err(Fault::from).and_then(|file| {
        let database = Database::builder().create_with_backend(FileBackend::new(file)?)?;
        match contents {
            Some(contents) => fill(&database, contents),
            None => prepare_tables(&database),
        }
    });
    filled.map_err(|fault| fault.name(&path))?;
    file.sync_all().map_err(io)
}

fn fill(database: &Database, contents: &Contents) -> Result<(), Fault> {
    let transaction = database.begin_write()?;
    log::fill(&transaction, &contents.history)?;
    for ((table, key), value) in &contents.records {
        put(&transaction, table, key, Some(value))?;
    }
    transaction.open_table(META)?.insert("format", FORMAT)?;
    transaction.commit()?;
    prepare_tables(database)
}

/// Makes a database of these contents, looks at it, and puts it in place of the one that is there. That one is kept, and so
/// are those that were replaced before.
pub(super) fn replace(directory: &Path, contents: &Contents) -> Result<Option<PathBuf>, StoreError> {
    let (path, new) = (directory.join(FILE), directory.join(NEW));
    let io = |source| StoreError::Io { path: path.clone(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(io)?;
    let old = lock(&path)?;
    make(directory, Some(contents))?;
    let store = super::EmbeddedStore::of(Box::new(FileMedium(new.clone())), new.clone())?;
    if super::Store::contents(&store)? != *contents {
        return Err(StoreError::Damaged { path: new, reason: "it is not what was written into it".to_owned() });
    }
    drop(store);
    // A second name first, so that at no moment there is none.
    let replaced = old.as_ref().map(|_| keep(directory)).transpose().map_err(io)?;
    fs::rename(&new, &path).and_then(|()| sync(directory)).map_err(io)?;
    Ok(replaced)
}

/// Gives the database a second name, which nothing has yet.
fn keep(directory: &Path) -> io::Result<PathBuf> {
    let path = directory.join(FILE);
    let names = (1..).map(|number: u32| match number {
        1 => directory.join(REPLACED),
        later => directory.join(format!("{REPLACED}.{later}")),
    });
    for name in names {
        match fs::hard_link(&path, &name) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            linked => return linked.map(|()| name),
        }
    }
    Err(ErrorKind::AlreadyExists.into())
}

/// The database that is there, damaged or not, held so that no controller has it; nothing if there is none.
fn lock(path: &Path) -> Result<Option<Box<dyn StorageBackend>>, StoreError> {
    if !path.exists() {
        return Ok(None);
    }
    let backend = FileMedium(path.to_owned()).open().map_err(|error| Fault::from(error).name(path))?;
    match backend.try_lock_range(Bound::Unbounded, Bound::Unbounded) {
        Ok(false) => Err(StoreError::InUse(path.to_owned())),
        _ => Ok(Some(backend)),
    }
}

fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

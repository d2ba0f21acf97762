//! What can go wrong within a transaction, and what it means for the store.

use std::io::{self, ErrorKind};
use std::path::Path;

use redb::{DatabaseError, StorageError};

use super::super::StoreError;

/// What can go wrong within a transaction.
#[derive(Debug)]
pub(super) enum Fault {
    Ours(StoreError),
    /// The records contradict one another.
    Nonsense(String),
    Redb(Box<redb::Error>),
}

impl Fault {
    /// The disk's refusal, after which the database must be opened anew; else what else it is.
    pub(super) fn disk(self) -> Result<io::Error, Fault> {
        let previous = || io::Error::other("an earlier access failed");
        match self {
            Fault::Redb(error) => match *error {
                redb::Error::Io(source) if source.kind() != ErrorKind::InvalidData => Ok(source),
                redb::Error::PreviousIo => Ok(previous()),
                other => Err(Fault::Redb(Box::new(other))),
            },
            other => Err(other),
        }
    }

    /// In words, with the file.
    pub(super) fn name(self, path: &Path) -> StoreError {
        let damaged = |reason| StoreError::Damaged { path: path.to_owned(), reason };
        match self.disk() {
            Ok(source) => StoreError::Io { path: path.to_owned(), source },
            Err(Fault::Ours(error)) => error,
            Err(Fault::Nonsense(reason)) => damaged(reason),
            // redb reports a file that is no database of its own as invalid data.
            Err(Fault::Redb(error)) => damaged(error.to_string()),
        }
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Fault::Ours(error)
    }
}

impl From<serde_json::Error> for Fault {
    fn from(error: serde_json::Error) -> Self {
        Fault::Nonsense(error.to_string())
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
from_redb!(StorageError, redb::TableError, redb::TransactionError, redb::CommitError, DatabaseError, io::Error);

//! Typed small records on a store, changed only by compare-and-set.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Store, StoreError, Table};

/// What a table holds.
pub trait Record: Serialize + DeserializeOwned {
    /// The table.
    const TABLE: Table;
}

/// The records of one table. Cheap to clone.
#[derive(Debug)]
pub struct Records<T> {
    store: Arc<dyn Store>,
    kind: PhantomData<fn() -> T>,
}

impl<T> Clone for Records<T> {
    fn clone(&self) -> Self {
        Records { store: Arc::clone(&self.store), kind: PhantomData }
    }
}

impl<T: Record> Records<T> {
    /// The records of `T`'s table.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Records { store, kind: PhantomData }
    }

    /// All of them. A record that cannot be read is left out and named in the log.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn all(&self) -> Result<BTreeMap<String, T>, StoreError> {
        let records = self.store.records(T::TABLE)?;
        Ok(records.into_iter().filter_map(|(key, bytes)| Some((key.clone(), read(&key, &bytes)?))).collect())
    }

    /// The record of that key.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn get(&self, key: &str) -> Result<Option<T>, StoreError> {
        Ok(self.store.record(T::TABLE, key)?.and_then(|bytes| read(key, &bytes)))
    }

    /// Sets the record, whatever it was.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn put(&self, key: &str, record: &T) -> Result<(), StoreError> {
        self.store.set(T::TABLE, key, Some(&self.bytes(record)))
    }

    /// Removes the record, if there is one.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn remove(&self, key: &str) -> Result<(), StoreError> {
        self.store.set(T::TABLE, key, None)
    }

    /// Changes the record by `change`, which sees it as it is and may refuse, and returns it as it then is. Nobody
    /// else's change comes between.
    ///
    /// # Errors
    /// What `change` refuses with, or when the store cannot be used.
    pub fn change<E: From<StoreError>>(&self, key: &str, change: impl Fn(Option<T>) -> Result<T, E>) -> Result<T, E> {
        loop {
            let old = self.store.record(T::TABLE, key)?;
            let new = change(old.as_deref().and_then(|bytes| read(key, bytes)))?;
            if self.store.swap(T::TABLE, key, old.as_deref(), Some(&self.bytes(&new)))? {
                return Ok(new);
            }
        }
    }

    /// Records have text keys only, so that they always have a JSON form.
    fn bytes(&self, record: &T) -> Vec<u8> {
        serde_json::to_vec(record).unwrap_or_default()
    }
}

fn read<T: DeserializeOwned>(key: &str, bytes: &[u8]) -> Option<T> {
    serde_json::from_slice(bytes).inspect_err(|error| tracing::warn!(key, %error, "a stored record is unreadable")).ok()
}
